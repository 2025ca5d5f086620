"""A dense network as a mixture of experts that all begin alike.

>>> block = {name: {"kernel": jnp.ones((2, 2))} for name in ("gate", "up")}
>>> block["down"] = {"kernel": jnp.ones((2, 2))}
>>> key = jax.random.key(0)
>>> grown = upcycle({"block_0": block}, "block_*", 3, key)["block_0"]
>>> grown["experts"]["up"].shape, grown["router"]["kernel"].shape
((3, 2, 2), (2, 3))
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.grow import numbering
from weightspace.grow.numbering import Blocks
from weightspace.types import Key, Params

LAYERS = ("gate", "up", "down")
SCALE = 0.02  # of the router, as published models begin


def upcycle(
  params: Params,
  pattern: str,
  experts: int,
  key: Key,
  noise: float = 0.0,
  *,
  layers: Sequence[str] = LAYERS,
) -> Params:
  """Return the model with `experts` copies of each block's feed-forward layers.

  Experts that are alike give the dense layer's output whichever of them a
  router chooses, as long as its gates sum to 1: the function is kept, up to the
  noise that sets them apart.

  Args:
    params: with blocks such as those of `models.build("lm")`.
    pattern: of the blocks, as in `restack`.
    experts: how many.
    key: of the routers and the noise; each leaf has numbers of its own.
    noise: normal noise on each expert, by the standard deviation of its kernel.
    layers: the layers of a block that become experts, each {"kernel"}; the
      first reads what the router reads.

  Returns:
    Params in which a block has "experts": {layer: [experts, in, out]} and
    "router": {"kernel": [in, experts]} in place of the layers: the parameters
    of `models.build("moe")`.

  Raises:
    ValueError: for fewer than one expert, negative noise, or a block without
      one of the layers, or with another leaf in it.

  Komatsuzaki et al. 2023, "Sparse upcycling", https://arxiv.org/abs/2212.05055
  (router of normal numbers; no noise).  Gates that sum to 1 are those of
  Mixtral, https://arxiv.org/abs/2401.04088.
  """
  if experts < 1 or not noise >= 0:
    raise ValueError(
      f"upcycle: {experts} experts and noise {noise}, expected 1 or more and a"
      " number of at least 0"
    )

  def change(blocks: Blocks) -> Blocks:
    if isinstance(blocks, numbering.Stacked):
      raise ValueError(
        f"upcycle: {pattern!r} are stacked layers, expected numbered blocks"
      )
    return {
      n: _upcycled(
        block, tuple(layers), experts, jax.random.fold_in(key, n), noise
      )
      for n, block in blocks.items()
    }

  return numbering.replace(params, pattern, change)


def _upcycled(
  block: Any, layers: tuple[str, ...], experts: int, key: Key, noise: float
) -> Any:
  """Return one block with experts and a router."""
  result = dict(block) if isinstance(block, Mapping) else {}
  mixture = {}
  for layer in layers:
    leaves = trees.named(result.pop(layer, {}))
    if list(leaves) != ["kernel"] or jnp.ndim(leaves["kernel"]) != 2:
      raise ValueError(
        f"upcycle: {layer!r} of a block has {sorted(leaves)}, expected one"
        " 'kernel' [in, out]"
      )
    kernel = jnp.asarray(leaves["kernel"])
    wide = kernel.astype(trees.accumulator(kernel.dtype))
    own = jax.random.fold_in(key, zlib.crc32(layer.encode()))
    drawn = jax.random.normal(own, (experts, *kernel.shape), wide.dtype)
    copies = wide[None] + noise * wide.std() * drawn
    mixture[layer] = copies.astype(kernel.dtype)
  kernel = mixture[layers[0]]
  own = jax.random.fold_in(key, zlib.crc32(b"router"))
  router = SCALE * jax.random.normal(own, (kernel.shape[1], experts))
  result["router"] = {"kernel": router.astype(kernel.dtype)}
  return result | {"experts": mixture}
