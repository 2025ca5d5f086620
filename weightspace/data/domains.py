"""Domains: one data set seen under several shifts, named as settings.

A domain is a corruption at a severity, coloured patches of which some tell the
class, or the images as they are.  A broad mix of them stands for the data of a
pre-trained model, one of them for those of fine-tuning.

>>> digits = {"x": jnp.zeros((4, 8, 8, 1)), "y": jnp.arange(4)}
>>> settings = {"clean": {}, "brightness": {"severity": 2}}
>>> mix(jax.random.key(0), digits, settings)["x"].max((1, 2, 3)).tolist()
[0.0, 0.2..., 0.0, 0.2...]
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.data import corruptions, spurious
from weightspace.types import Data, Key

PATCHES = 32


def patches(
  key: Key,
  x: jax.Array,
  y: jax.Array,
  correlation: float,
  first: int = 0,
  last: int = PATCHES,
) -> jax.Array:
  """Surround images by 32 patches, of which only some tell the class.

  Patches first to last - 1 are those of `multicolor` at this correlation, the
  others have colours drawn evenly.  Two models trained with different ranges
  lean on different spurious features, and on the same where the ranges overlap.

  Args:
    key: draws the colours.
    x: [N, H, W, 1] in [0, 1].
    y: [N] classes, 0 to 9.
    correlation: from 0 to 1.
    first: the first patch that tells the class.
    last: the one after the last of them, at most 32.

  Returns:
    [N, H + 2 (H // 4), W + 2 (H // 4), 3].

  Raises:
    ValueError: for a range that is empty or no range of patches.

  >>> x, y = jnp.zeros((1, 8, 8, 1)), jnp.array([3])
  >>> patches(jax.random.key(0), x, y, 1.0, last=8).shape
  (1, 12, 12, 3)

  The features of Lin et al. 2024, https://arxiv.org/abs/2309.17230; the ranges
  are ours, for the sets of features that its theory gives to two models.
  """
  if not 0 <= first < last <= PATCHES:
    raise ValueError(
      f"patches: {first} to {last}, expected a range in 0 to {PATCHES}"
    )
  told_key, free_key = jax.random.split(key)
  told = spurious.multicolor(told_key, x, y, correlation, PATCHES)
  free = spurious.multicolor(free_key, x, y, 0.0, PATCHES)
  height, width = np.shape(x)[1:3]
  where = spurious.ring(height, width, height // 4, PATCHES)
  tells = jnp.asarray((where < 0) | ((where >= first) & (where < last)))
  return jnp.where(tells[None, :, :, None], told, free)


def _shift(key: Key, data: Data, name: str, settings: Any) -> jax.Array:
  """Return the images of `data` in one domain."""
  x, y = jnp.asarray(data["x"]), jnp.asarray(data["y"])
  if name == "clean":
    return x
  if name == "patches":
    return patches(key, x, y, **settings)
  if name not in corruptions.CORRUPTIONS:
    known = ", ".join(["clean", "patches", *corruptions.CORRUPTIONS])
    raise ValueError(f"unknown domain {name!r}, expected one of {known}")
  return corruptions.corrupt(key, x, name, **settings)


def mix(key: Key, data: Data, domains: Mapping[str, Mapping[str, Any]]) -> Data:
  """Put the examples of a data set into domains, in turn.

  Example n is seen in domain n mod D only, so a mean over the result weighs all
  domains alike.

  Args:
    key: of what is drawn; each domain has a key of its own.
    data: "x" images [N, H, W, C] in [0, 1] and "y" labels [N].
    domains: {name: settings}: "clean", "patches" with the arguments of
      `patches`, or a corruption with its severity.  Those of one mix give
      images of one shape.

  Returns:
    "x" [N, ...] and "y" [N].

  Raises:
    ValueError: for an unknown domain, none, or fewer examples than domains.

  >>> digits = {"x": jnp.zeros((2, 8, 8, 1)), "y": jnp.arange(2)}
  >>> mix(jax.random.key(0), digits, {"clean": {}})["x"].shape
  (2, 8, 8, 1)

  Pre-training on a broad mix, fine-tuning on one: Wortsman et al. 2022,
  https://arxiv.org/abs/2109.01903, in small (ours).
  """
  count, parts = len(domains), []
  if not 0 < count <= len(data["y"]):
    raise ValueError(
      f"domains: {count} for {len(data['y'])} examples, expected one at least,"
      " and no more than examples"
    )
  for index, (name, settings) in enumerate(domains.items()):
    own = {part: array[index::count] for part, array in data.items()}
    parts.append(_shift(jax.random.fold_in(key, index), own, name, settings))
  shapes = {np.shape(part)[1:] for part in parts}
  if len(shapes) > 1:
    raise ValueError(f"domains: images of {sorted(shapes)}, expected one shape")
  x = jnp.zeros((len(data["y"]), *np.shape(parts[0])[1:]), parts[0].dtype)
  for index, part in enumerate(parts):
    x = x.at[index::count].set(part)
  return {"x": x, "y": jnp.asarray(data["y"])}
