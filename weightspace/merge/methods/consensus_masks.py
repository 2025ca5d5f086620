"""Masks over one shared task vector: TALL masks, consensus, EMR.

One vector holds all tasks, and one bit per entry and task says where a task
lives in it.  With its mask a task gets its own model back, nearly; entries that
no mask or only one asks for can be left out of a merge.

>>> models = {"w": jnp.array([[4.0, 0.0], [0.0, 4.0]])}
>>> tall(0.5)(models, base={"w": jnp.zeros(2)})["w"].tolist()
[[4.0, 0.0], [0.0, 4.0]]
"""

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightspace import means, trees
from weightspace.merge.core import checks
from weightspace.merge.core.bound import bind
from weightspace.merge.core.recipe import Recipe, chain, on_deltas
from weightspace.merge.core.steps import At, Measure, Step
from weightspace.merge.methods.task_arithmetic import scaled
from weightspace.types import Params, Stack

Scalar = float | jax.Array


def _sum(x: jax.Array) -> jax.Array:
  return means.contract(x, jnp.ones(len(x), x.dtype))


def tall_masks(x: jax.Array, threshold: Any) -> jax.Array:
  """Return |x_m| > threshold_m |sum x - x_m| for task vectors [M, ...].

  >>> tall_masks(jnp.array([[4.0, 1.0], [1.0, 4.0]]), 0.5).tolist()
  [[True, False], [False, True]]
  """
  limit = jnp.asarray(threshold, x.dtype)
  if limit.ndim:
    limit = limit.reshape(-1, *[1] * (x.ndim - 1))
  return jnp.abs(x) > limit * jnp.abs(_sum(x)[None] - x)


def tall(threshold: Scalar | jax.Array = 0.4) -> Recipe:
  """Return the models that TALL masks restore, a Stack.

  theta_0 + mask_m sum tau, mask_m = |tau_m| > threshold_m |sum tau - tau_m|.

  Args:
    threshold: one number, or [M]; the paper picks from 0.2 to 0.6 per task.

  Returns:
    A Recipe from a Stack to a Stack.  `masked` stores the same in one
    vector and one bit per entry and model.

  Wang et al. 2024, "Localizing task information for improved model merging and
  compression", https://arxiv.org/abs/2405.07813.
  """
  checks.number("tall: threshold", threshold, 0, many=True)

  def edit(x: jax.Array, at: At) -> jax.Array:
    return jnp.where(tall_masks(x, threshold), _sum(x)[None], 0)

  return on_deltas(Step("tall", edit))


def consensus(
  scale: Scalar, threshold: Scalar | jax.Array = 0.4, agree: int = 2
) -> Recipe:
  """Return Consensus task arithmetic: only what `agree` tasks ask for.

  theta_0 + scale [sum_m mask_m >= agree] sum_m tau_m with the masks of `tall`.

  Args:
    scale: of the merged task vector.
    threshold: of the masks, one number or [M].
    agree: how many tasks must ask for an entry; 2 in the paper (drops what no
      task and what only one task needs), 0 is task arithmetic.

  >>> models = {"w": jnp.array([[1.0, 4.0], [1.0, 0.0]])}
  >>> consensus(1.0)(models, base={"w": jnp.zeros(2)})["w"].tolist()
  [2.0, 0.0]

  Wang et al. 2024, https://arxiv.org/abs/2405.07813.
  """
  checks.number("consensus: scale", scale)
  checks.number("consensus: threshold", threshold, 0, many=True)
  checks.number("consensus: agree", agree, 0)

  def edit(x: jax.Array, at: At) -> jax.Array:
    asked = _sum(tall_masks(x, threshold).astype(x.dtype))
    return jnp.where(asked >= agree, _sum(x), 0)

  return on_deltas(chain(Step("agree", edit, reduces=True), scaled(scale)))


def unified(x: jax.Array) -> jax.Array:
  """Return EMR's vector: the elected sign times the largest that has it.

  gamma = sgn sum x_m, - where that is 0; gamma max {|x_m| : sgn x_m = gamma}.

  >>> unified(jnp.array([[2.0, 1.0], [3.0, -2.0]])).tolist()
  [3.0, -2.0]
  """
  sign = jnp.where(_sum(x) > 0, 1, -1).astype(x.dtype)
  largest = jnp.zeros_like(x[0])
  for m in range(len(x)):
    largest = jnp.maximum(largest, sign * x[m])
  return sign * largest


def _agrees(x: jax.Array) -> jax.Array:
  return x * unified(x)[None] > 0


@jax.jit
def _sums(x: jax.Array) -> list[jax.Array]:
  """Return sum |tau_m| and sum |mask_m tau_uni| of a leaf, [M] each."""
  axes = tuple(range(1, x.ndim))
  shared = jnp.where(_agrees(x), unified(x)[None], 0)
  return [jnp.abs(y).sum(axes) for y in (x, shared)]


def _rescalers(sums: Any) -> Any:
  """Return EMR's rescalers [M] from the sums over all leaves."""
  lengths, shared = sums
  return lengths / jnp.where(shared > 0, shared, 1)


_OVER_LEAVES = Measure(
  init=lambda _: [],
  update=lambda state, item: (
    [a + b for a, b in zip(state, item[0])] if state else item[0]
  ),
  value=_rescalers,
  view=lambda x, at: _sums(x),
)


def emr() -> Recipe:
  """Return the models that EMR-Merging makes, a Stack: elect, mask, rescale.

  theta_0 + rho_m mask_m tau_uni, tau_uni = `unified`, mask_m where tau_m has
  its sign, rho_m = sum |tau_m| / sum |mask_m tau_uni| over the whole model.

  >>> models = {"w": jnp.array([[2.0, 1.0], [3.0, -2.0]])}
  >>> emr()(models, base={"w": jnp.zeros(2)})["w"].tolist()
  [[3.0, 0.0], [3.0, -2.0]]

  Huang et al. 2024, "EMR-Merging: tuning-free high-performance model merging",
  https://arxiv.org/abs/2405.17461.
  """

  def edit(x: jax.Array, at: At) -> jax.Array:
    scale = at.measured.reshape(-1, *[1] * (x.ndim - 1))
    return jnp.where(_agrees(x), scale * unified(x)[None], 0)

  return on_deltas(Step("emr", edit, measures=(_OVER_LEAVES,)))


class Masked(NamedTuple):
  """M models as one task vector, M masks of one bit per entry, M numbers."""

  shared: Params  # the task vector that all models share
  masks: Any  # uint8 [M, ceil(n / 8)] for each leaf
  scales: jax.Array  # [M]

  def restore(self, base: Params, model: int) -> Params:
    """Return base + scale_m mask_m shared."""

    def leaf(start: Any, x: jax.Array, bits: Any) -> jax.Array:
      start = jnp.asarray(start)
      if not trees.inexact(start):
        return start
      mask = jnp.unpackbits(bits[model], count=x.size).reshape(x.shape)
      delta = jnp.where(mask > 0, self.scales[model] * x, 0)
      return (start.astype(x.dtype) + delta).astype(start.dtype)

    return jax.tree.map(leaf, base, self.shared, self.masks)


def masked(
  stack: Stack, base: Params, threshold: Scalar | jax.Array | None = None
) -> Masked:
  """Store M models in one vector and one bit per entry and model.

  Args:
    stack: leaves [M, ...].
    base: what they were fine-tuned from.
    threshold: of TALL masks over the sum; None stores EMR instead.

  Returns:
    Masked; `restore(base, m)` is model m of `tall` or `emr`.

  >>> models, start = {"w": jnp.array([[4.0, 0.0], [0.0, 4.0]])}, jnp.zeros(2)
  >>> stored = masked(models, {"w": start}, threshold=0.5)
  >>> stored.masks["w"].nbytes, stored.restore({"w": start}, 1)["w"].tolist()
  (2, [0.0, 4.0])
  """
  recipe = emr() if threshold is None else tall(threshold)
  bind(recipe.steps, stack, base=base)
  scales = jnp.ones(trees.size(stack))
  deltas = jax.tree.map(_delta, stack, base)
  if threshold is None:
    sums = [_sums(x) for x in jax.tree.leaves(deltas) if trees.inexact(x)]
    scales = _rescalers([functools.reduce(operator.add, s) for s in zip(*sums)])

  def pack(x: jax.Array) -> jax.Array:
    masks = _agrees(x) if threshold is None else tall_masks(x, threshold)
    return jnp.packbits(masks.reshape(len(x), -1), axis=1)

  vector = unified if threshold is None else _sum
  return Masked(
    jax.tree.map(vector, deltas), jax.tree.map(pack, deltas), scales
  )


def _delta(x: Any, start: Any) -> jax.Array:
  """Return task vectors in float32; those of integer leaves are zero."""
  x, start = jnp.asarray(x), jnp.asarray(start)
  if not trees.inexact(x):
    return jnp.zeros(x.shape, jnp.float32)
  dtype = trees.accumulator(x.dtype)
  return x.astype(dtype) - start.astype(dtype)[None]
