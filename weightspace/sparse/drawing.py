"""Random masks: exact counts, and the same bits on every machine.

An entry's rank is a hash of (key, model, path, place), so a mask depends
neither on other leaves, nor on devices, shardings or the version of JAX.

>>> mask = random(jax.random.key(0), {"w": jnp.ones((10, 10))}, 0.25)
>>> int(mask["w"].sum())
25
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.numerics import counts, random_bits, top_k
from weightspace.sparse import masks, selection
from weightspace.types import Key, Params

DISTRIBUTIONS = ("uniform", "erk")


def bits(key: Key, path: str, shape: tuple[int, ...], model: Any) -> jax.Array:
  """Return 32 random bits for each entry of one leaf of one model."""
  leaf = np.uint32(zlib.crc32(path.encode()))
  return random_bits.draw(key, model, leaf, random_bits.positions(shape))


def drawn(
  key: Key, path: str, shape: tuple[int, ...], kept: Any, model: Any = 0
) -> jax.Array:
  """Return the random mask of one leaf that keeps exactly `kept` entries.

  >>> int(drawn(jax.random.key(0), "w", (4, 4), 5).sum())
  5
  """
  words = bits(key, path, shape, model).reshape(1, -1)
  return top_k.first([words], kept)[0].reshape(shape)


def random(
  key: Key,
  params: Params,
  density: Any,
  distribution: str = "uniform",
  *,
  only: str | Sequence[str] | None = None,
  model: Any = 0,
) -> Params:
  """Return a random mask with exact counts in each leaf.

  Args:
    key: what is drawn from; a leaf's mask depends on it, on `model`, the path
      and the shape, on nothing else.
    params: of one model, or its shapes.
    density: the share that is kept, in (0, 1]; with "uniform" also a prefix
      tree of numbers.
    distribution: "uniform" keeps the share in each leaf; "erk" keeps
      min(1, e (d_1 + ... + d_r) / (d_1 ... d_r)) of a leaf [d_1, ..., d_r],
      with e such that the share holds over all of them.
    only: patterns of paths that are pruned; None for the kernels, leaves of
      two axes or more that are no biases or scales.  Others are kept whole.
    model: number of the model, so that members of a population differ.

  Returns:
    Booleans, shaped as `params`.

  Raises:
    ValueError: for a density out of range, another distribution, or nothing to
      prune.

  >>> key, params = jax.random.key(0), {"w": jnp.ones((4, 5)), "b": jnp.ones(5)}
  >>> mask = random(key, params, 0.3)
  >>> int(mask["w"].sum()), int(mask["b"].sum())
  (6, 5)

  Erdos-Renyi-kernel densities: Evci et al. 2020, "Rigging the lottery",
  https://arxiv.org/abs/1911.11134.
  """
  if distribution not in DISTRIBUTIONS:
    raise ValueError(
      f"random: distribution is {distribution!r}, expected one of"
      f" {DISTRIBUTIONS}"
    )
  selection.check_density("random", density)
  leaves = selection.pruned(params, only, "random")
  shapes = {path: np.shape(x) for path, x in leaves.items()}
  if distribution == "erk":
    shares = erk(shapes, density)
  else:
    shares = trees.named(trees.spread(density, params, "random: density"))
  chosen = {}
  for path, shape in shapes.items():
    k = counts.kept(shares[path], math.prod(shape))
    chosen[path] = drawn(key, path, shape, k, model)
  return selection.fill(params, chosen)


def erk(
  shapes: Mapping[str, tuple[int, ...]], density: float
) -> dict[str, float]:
  """Return the Erdos-Renyi-kernel density of each leaf.

  min(1, e (d_1 + ... + d_r) / (d_1 ... d_r)), with e such that the share holds
  over all entries; leaves that e would make more than dense are dense, and the
  others share what is left.

  Args:
    shapes: [d_1, ..., d_r] by path.
    density: the share over all entries, in (0, 1].

  >>> shares = erk({"a": (10, 10), "b": (2, 2)}, 0.25)
  >>> round(shares["a"], 3), shares["b"]
  (0.22, 1.0)

  Evci et al. 2020, https://arxiv.org/abs/1911.11134; its code.
  """
  sizes = {path: math.prod(shape) for path, shape in shapes.items()}
  raw = {path: sum(shapes[path]) / size for path, size in sizes.items()}
  dense: set[str] = set()
  while True:
    left = density * sum(sizes.values()) - sum(sizes[path] for path in dense)
    rest = [path for path in sizes if path not in dense]
    scale = left / max(sum(raw[path] * sizes[path] for path in rest), 1e-30)
    over = [path for path in rest if scale * raw[path] > 1]
    if not over:
      return {
        path: 1.0 if path in dense else scale * raw[path] for path in sizes
      }
    dense.add(max(over, key=lambda path: raw[path]))


def shuffled(key: Key, mask: Params, model: Any = 0) -> Params:
  """Return a random mask that keeps as many entries of each leaf as `mask`.

  It is the control of every mask that was chosen with care.

  Args:
    key: what is drawn from.
    mask: booleans.
    model: as in `random`.

  Raises:
    ValueError: at the first leaf that is no boolean.

  >>> mask = {"w": jnp.array([True, True, False, False])}
  >>> int(shuffled(jax.random.key(0), mask)["w"].sum())
  2
  """
  masks.check(mask, mask, "shuffled")
  return trees.map_named(
    lambda path, x: drawn(key, path, jnp.shape(x), jnp.sum(x), model), mask
  )
