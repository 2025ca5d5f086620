"""Random drops of task vectors: DARE, and DARE before TIES.

>>> models, start = {"w": jnp.ones((1, 4))}, {"w": jnp.zeros(4)}
>>> dare(0.5)(models, base=start, key=jax.random.key(0))["w"].tolist()
[2.0, 2.0, 0.0, 2.0]
"""

from typing import Any

import jax
import jax.numpy as jnp

from weightspace.merge.core import checks
from weightspace.merge.core.recipe import Recipe, chain, on_deltas
from weightspace.merge.core.steps import Step
from weightspace.merge.methods import ties, trims
from weightspace.merge.methods.task_arithmetic import scaled, total
from weightspace.numerics import random_bits

Scalar = float | jax.Array
RESCALES = ("inverse", "l1", "l2", "linf", "none")


def drop(rate: Scalar, *, rescale: str = "inverse") -> Step:
  """Return the step that zeroes each entry with probability `rate`.

  x~ = m x / (1 - rate), m ~ Bernoulli(1 - rate): unbiased, with the variance
  x^2 rate / (1 - rate).  Masks depend on (key, model, leaf, position) alone.

  Args:
    rate: the share to drop, in [0, 1]; at 1 nothing is left.
    rescale: "inverse" (the paper: divide by the share kept), "l1" (mergekit),
      "l2" or "linf" (restore that norm of every leaf of a model), or "none".

  Raises:
    ValueError: for a rate outside [0, 1] or another rescale.
  """
  checks.number("rate", rate, 0, 1)
  checks.option("rescale", rescale, RESCALES)

  def edit(x: jax.Array, at: Any) -> jax.Array:
    drawn = random_bits.uniform(at.key, at.seed, x.shape, at.first, at.start)
    return rescaled(x, drawn < 1 - rate, 1 - rate, rescale)

  entrywise = rescale in ("inverse", "none")
  return Step("drop", edit, needs=("key",), entrywise=entrywise)


def rescaled(x: jax.Array, kept: jax.Array, share: Any, rule: str) -> Any:
  """Return the survivors, scaled up for what was dropped."""
  y = jnp.where(kept, x, 0)
  if rule == "none":
    return y
  if rule == "inverse":
    return y / jnp.where(share > 0, share, 1)
  axes = tuple(range(1, x.ndim))
  norms = {
    "l1": lambda z: jnp.abs(z).sum(axes, keepdims=True),
    "l2": lambda z: jnp.sqrt(jnp.square(z).sum(axes, keepdims=True)),
    "linf": lambda z: jnp.abs(z).max(axes, keepdims=True, initial=0),
  }
  before, after = norms[rule](x), norms[rule](y)
  return y * (before / jnp.where(after > 0, after, 1))


def dare(rate: Scalar, scale: Scalar = 1.0, rescale: str = "inverse") -> Recipe:
  """Return DARE with task arithmetic: theta_0 + scale sum_m drop(tau_m).

  scale = 1/M gives DARE with averaging.  `drop` goes before any other method:
  `on_deltas(chain(drop(rate), ...))`.

  Args:
    rate: the share of each task vector to drop, in [0, 1]; 0.9 in the paper.
    scale: of the sum.
    rescale: "inverse" (the paper), "l1" (mergekit), "l2", "linf" or "none".

  Raises:
    ValueError: for a rate outside [0, 1], another rescale, or (when called) no
      `base=` or `key=`.

  >>> models = {"w": jnp.full((2, 1000), 1.0)}
  >>> merged = dare(0.9, scale=0.5)(
  ...   models, base={"w": jnp.zeros(1000)}, key=jax.random.key(0)
  ... )
  >>> bool(jnp.abs(merged["w"].mean() - 1) < 0.2)
  True

  Yu et al. 2024, "Language models are super Mario: absorbing abilities from
  homologous models as a free lunch", https://arxiv.org/abs/2311.03099.
  """
  checks.number("dare: rate", rate, 0, 1)
  checks.number("dare: scale", scale)
  return on_deltas(chain(drop(rate, rescale=rescale), total(), scaled(scale)))


def dare_ties(
  rate: Scalar,
  density: Scalar = 1.0,
  scale: Scalar = 1.0,
  *,
  rescale: str = "inverse",
  scope: str = "global",
  combine: str = "mean",
  tie: str = "majority",
  parity: str | None = None,
) -> Recipe:
  """Return DARE before TIES: drop and rescale, trim, elect, merge.

  Args:
    rate: the share of each task vector to drop, in [0, 1].
    density: the share of all entries that the trim keeps after the drop; 1
      trims nothing.
    scale: of the merged task vector.
    rescale: as in `dare`.
    scope: as in `ties`.
    combine: as in `ties`; "mean" as in the papers.
    tie: as in `ties`.
    parity: "mergekit" sets rescale="l1", scope="tensor", combine="sum" and
      tie="plus".

  >>> models = {"w": jnp.array([[4.0, 1.0], [2.0, -3.0]])}
  >>> recipe = dare_ties(0.0, density=0.5)
  >>> start, key = {"w": jnp.zeros(2)}, jax.random.key(0)
  >>> recipe(models, base=start, key=key)["w"].tolist()
  [4.0, -3.0]

  Yu et al. 2024, https://arxiv.org/abs/2311.03099, with Yadav et al. 2023,
  https://arxiv.org/abs/2306.01708.
  """
  checks.number("dare_ties: rate", rate, 0, 1)
  checks.number("dare_ties: scale", scale)
  if parity is not None:
    checks.option("dare_ties: parity", parity, ("mergekit",))
    rescale, scope, combine, tie = "l1", "tensor", "sum", "plus"
  return on_deltas(
    chain(
      drop(rate, rescale=rescale),
      trims.trim(density, scope=scope),
      ties.disjoint(combine, tie=tie, scope=scope),
      scaled(scale),
    )
  )
