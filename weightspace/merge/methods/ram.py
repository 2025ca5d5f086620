"""RAM: average what tasks share, keep what only one of them changed.

Reinforcement learning changes few parameters, and different ones in each task;
a plain average divides those by the number of models.

>>> models, start = {"w": jnp.array([[2.0, 2.0], [4.0, 0.0]])}, jnp.zeros(2)
>>> ram()(models, base={"w": start})["w"].tolist()
[3.0, 2.0]
"""

import operator
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.merge.core import checks
from weightspace.merge.core.recipe import Recipe, on_deltas
from weightspace.merge.core.steps import At, Measure, Step

SCOPES = ("global", "tensor")


def ram(
  threshold: float = 1e-5,
  rescale: float | jax.Array = 0.0,
  most: float = 1.0,
  scope: str = "global",
) -> Recipe:
  """Return reinforced agent merging of task vectors.

  A parameter is changed by task m where |delta_m| > threshold.  Where several
  tasks changed it, the mean of their changes; where only task m did, its change
  times l_m = 1 + rescale min(r_m, most), with r_m how many parameters m shares
  over how many it alone changed.

  Args:
    threshold: at least 0, in units of the parameters.
    rescale: 0 is RAM; above 0 is RAM+ (0.05 in the paper's code, as 1.05).
    most: the cap on r_m; 1 in the paper's code, 0.2 in mergekit.
    scope: r_m counted over the whole model ("global"; the paper) or in each
      "tensor" (mergekit's ramplus_tl).

  Raises:
    ValueError: for negative numbers or an unknown scope, or (when called) no
      base.

  >>> models = {"w": jnp.array([[2.0, 2.0], [4.0, 0.0]])}
  >>> ram(rescale=0.5)(models, base={"w": jnp.zeros(2)})["w"].tolist()
  [3.0, 3.0]

  Yuan et al. 2026, "Behavior knowledge merge in reinforced agentic models",
  https://arxiv.org/abs/2601.13572, and its code.
  """
  for name, value in (("threshold", threshold), ("most", most)):
    checks.number(f"ram: {name}", value, least=0.0)
  checks.number("ram: rescale", rescale, least=0.0)
  checks.option("ram: scope", scope, SCOPES)

  def factors(counts: Any) -> jax.Array:
    shared, alone = counts
    ratio = shared / jnp.maximum(alone, 1.0)
    return 1.0 + rescale * jnp.minimum(ratio, most)

  def edit(x: jax.Array, at: At) -> jax.Array:
    local = factors(_counts(x, threshold)) if scope == "tensor" else at.measured
    times = jnp.ones(len(x)) if local is None else local
    changed = jnp.abs(x) > threshold
    total = alone = jnp.zeros_like(x[0])
    many = jnp.zeros(x.shape[1:], jnp.int32)
    for m in range(len(x)):
      own = jnp.where(changed[m], x[m], 0.0)
      total, alone = total + own, alone + times[m] * own
      many = many + changed[m]
    return jnp.where(many == 1, alone, total / jnp.maximum(many, 1))

  over_leaves = Measure(
    init=lambda _: (0.0, 0.0),
    update=lambda state, item: jax.tree.map(operator.add, state, item[0]),
    value=factors,
    view=lambda x, at: _counts(x, threshold),
  )
  measures = (over_leaves,) if scope == "global" else ()
  return on_deltas(Step("ram", edit, measures=measures, reduces=True))


def _counts(x: jax.Array, threshold: float) -> tuple[jax.Array, jax.Array]:
  """Return how many entries each model shares, and changed alone, [M]."""
  changed = jnp.abs(x) > threshold
  many = jnp.zeros(x.shape[1:], jnp.int32)
  for own in changed:
    many = many + own
  shared = [jnp.sum(own & (many > 1)) for own in changed]
  alone = [jnp.sum(own & (many == 1)) for own in changed]
  return (
    jnp.stack(shared).astype(jnp.float32),
    jnp.stack(alone).astype(jnp.float32),
  )
