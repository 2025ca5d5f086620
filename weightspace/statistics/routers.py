"""How routers use their experts: frequencies, and which experts are alike.

>>> from weightspace import models
>>> model = models.build("moe", vocab=7, layers=1, width=8, experts=3, chosen=1)
>>> x = jnp.arange(6).reshape(2, 3)
>>> params = model.init(jax.random.key(0), x)
>>> found = routing(model, params, x)["block_0"]
>>> round(found["frequency"].sum().item(), 4), found["similarity"].shape
(1.0, (3, 3))
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.models import moe
from weightspace.statistics import streams
from weightspace.types import Data, Fold, Params


def routing(model: Any, params: Params, data: Data) -> dict[str, Any]:
  """Return how often each expert is chosen, and how alike their logits are.

  Args:
    model: from `models.build("moe")`, or with blocks of `models.moe`.
    params: of one model.
    data: {"x": tokens [N, T]}, an array, or an iterable of batches.

  Returns:
    {block: {"frequency": [E] shares of all choices, "similarity": [E, E]
    cosines of the router's logits of two experts over all tokens}}.

  Raises:
    ValueError: when the model has no router, for no examples, or NaN.

  Li et al. 2024, "Merge, then compress: demystify efficient SMoE with hints
  from its routing policy", https://arxiv.org/abs/2310.01334.
  """
  trees.check_finite(params, "routing: params")
  return streams.fold_all(routing_fold(model, params), data, "routing")


def routing_fold(model: Any, params: Params) -> Fold:
  """Return the fold over batches {"x"} whose value is `routing`."""

  def init(batch: Data) -> Any:
    shapes = jax.eval_shape(
      lambda p, x: _counts(model.module, p, x), params, batch["x"]
    )
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape), shapes)
    return {"params": params, "blocks": zeros}

  def update(state: Any, batch: Data) -> Any:
    new = _add(state["blocks"], state["params"], batch["x"], model.module)
    return dict(state, blocks=new)

  def value(state: Any) -> Any:
    return {path: _value(block) for path, block in state["blocks"].items()}

  def merge(a: Any, b: Any) -> Any:
    return dict(a, blocks=streams.add(a["blocks"], b["blocks"]))

  return Fold(init, update, value, merge)


@functools.partial(jax.jit, static_argnames="module")
def _add(blocks: Any, params: Params, x: Any, module: Any) -> Any:
  return streams.add(blocks, _counts(module, params, x))


def _counts(module: Any, params: Params, x: Any) -> Any:
  """Return the number of choices [E] and the logits' products [E, E]."""
  found = moe.decisions(module, params, x)
  counts = {}
  for path, block in found.items():
    logits = block["logits"].astype(jnp.float32)
    logits = logits.reshape(-1, logits.shape[-1])
    picked = (block["gates"] > 0).reshape(logits.shape)
    counts[path] = {
      "chosen": picked.sum(0).astype(jnp.float32),
      "products": logits.T @ logits,
    }
  return counts


def _value(block: dict[str, jax.Array]) -> dict[str, jax.Array]:
  products = block["products"]
  size = jnp.sqrt(jnp.diagonal(products))
  size = jnp.where(size > 0, size, 1.0)
  total = jnp.maximum(block["chosen"].sum(), 1.0)
  return {
    "frequency": block["chosen"] / total,
    "similarity": products / size[:, None] / size[None],
  }
