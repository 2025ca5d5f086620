"""Sign election: merge each entry among the models that agree on its sign.

>>> models, start = {"w": jnp.array([3.0, 1.0, -2.0])}, {"w": jnp.array(0.0)}
>>> ties(1.0)(models, base=start)["w"].item()
2.0
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.merge.core import checks, matrix_view
from weightspace.merge.core.recipe import Recipe, chain, on_deltas
from weightspace.merge.core.steps import At, Measure, Step, reduction
from weightspace.merge.methods import trims
from weightspace.merge.methods.task_arithmetic import counted, scaled, weigher
from weightspace.numerics import counts
from weightspace.types import Fold

Scalar = float | jax.Array
TIE_RULES = ("majority", "plus", "zero")
COMBINES = ("mean", "sum", "max")
ELECTIONS = ("mass", "count")


def ties(
  density: Scalar,
  scale: Scalar = 1.0,
  scope: str = "global",
  combine: str = "mean",
  *,
  tie: str = "majority",
  elect: str = "mass",
  exact: bool = False,
  weights: Sequence[float] | jax.Array | None = None,
  rows: str = "last",
  view: matrix_view.View = matrix_view.kernels,
  parity: str | None = None,
) -> Recipe:
  """Return TIES: trim, elect a sign per entry, merge those that have it.

  tau^_m = the k largest |tau_m|, k = floor(density n + 1e-6), at least 1;
  gamma = sgn sum_m w_m tau^_m;
  theta = theta_0 + scale mean {w_m tau^_m : sgn(w_m tau^_m) = gamma}.

  Args:
    density: the share to keep, in [0, 1]; the paper uses 0.2.
    scale: of the merged task vector; the paper searches 0.8 to 2.5.
    scope: "global" (the paper: one threshold per model), "tensor" (mergekit:
      one per leaf), or "row" (one per row along the last axis).
    combine: "mean" (the paper), "sum", or "max" (the largest magnitude).
    tie: the sign of an entry whose sum is zero: "majority" (the paper's code:
      the sign that most entries elect, in the model, or in the leaf for the
      other scopes; - if even that is a tie), "plus" (mergekit), or "zero".
    elect: by "mass" (the paper: the sum) or by "count" (a vote each).
    exact: of entries equal to the threshold keep the first ones, so that
      exactly k stay, where the default keeps all (the paper's code keeps one
      entry more).
    weights: [M]; weighted task vectors vote and are averaged by weight, as in
      mergekit.  The paper has none.
    rows: with scope="row", the "last" axis as given or one "output" unit.
    view: what an output unit is, for rows="output".
    parity: "mergekit" sets scope="tensor", tie="plus", exact=True.

  Returns:
    A Recipe: two passes over leaves at global scope and one for the sign ties.

  Raises:
    ValueError: for a density outside [0, 1], or an unknown option.

  >>> models = {"w": jnp.array([[4.0, 1.0], [2.0, -3.0]])}
  >>> ties(0.5)(models, base={"w": jnp.zeros(2)})["w"].tolist()
  [4.0, -3.0]

  Yadav et al. 2023, "TIES-Merging: resolving interference when merging
  models", https://arxiv.org/abs/2306.01708.
  """
  checks.number("ties: density", density, 0, 1)
  checks.number("ties: scale", scale)
  if parity is not None:
    checks.option("ties: parity", parity, ("mergekit",))
    scope, tie, exact = "tensor", "plus", True
  trim = trims.trim(density, scope=scope, exact=exact, rows=rows, view=view)
  merge = disjoint(combine, tie=tie, scope=scope, elect=elect, weights=weights)
  return on_deltas(chain(*counted(weights), trim, merge, scaled(scale)))


def disjoint(
  combine: str = "mean",
  *,
  tie: str = "majority",
  scope: str = "global",
  elect: str = "mass",
  weights: Sequence[float] | jax.Array | None = None,
) -> Step:
  """Return the step that elects a sign per entry and merges who has it.

  gamma = sgn sum_m x_m; then the mean, sum or largest of the non-zero x_m with
  that sign, 0 where there is none.  The options are those of `ties`.

  >>> step = disjoint("sum", tie="plus")
  >>> step.edit(jnp.array([[1.0, 1.0], [2.0, -1.0]]), At()).tolist()
  [3.0, 1.0]
  """
  checks.option("combine", combine, COMBINES)
  checks.option("tie", tie, TIE_RULES)
  checks.option("scope", scope, trims.SCOPES)
  checks.option("elect", elect, ELECTIONS)
  weigh = weigher("weights", weights)

  def vote(m: Any, x: jax.Array) -> jax.Array:
    return weigh(m, x) if elect == "mass" else jnp.sign(weigh(m, x))

  def fold(at: At) -> Fold:
    prevails = at.measured if scope == "global" else at.local
    rule = {"plus": 1.0, "zero": 0.0, "majority": prevails}[tie]
    return _two_sides(combine, weigh, vote, rule)

  step = reduction("disjoint", fold, entrywise=True, kind="election")
  if tie != "majority":
    return step
  if scope == "global":
    return step._replace(measures=(_majority(vote),))
  return step._replace(local=(_majority(vote),))


def _two_sides(combine: str, weigh: Any, vote: Any, tie: Any) -> Fold:
  """Return the fold over models that keeps both sides of each entry.

  The state is the vote, then for the positive and for the negative entries
  what they come to and the sum of their weights.
  """
  both: Callable[..., Any] = jnp.maximum if combine == "max" else jnp.add
  either: Callable[..., Any] = jnp.minimum if combine == "max" else jnp.add

  def join(a: Any, b: Any) -> Any:
    up, down = both(a[1], b[1]), either(a[3], b[3])
    return a[0] + b[0], up, a[2] + b[2], down, a[4] + b[4]

  def update(state: Any, item: Any) -> Any:
    m, x = item
    y, weight = weigh(m, x), weigh(m, jnp.ones_like(x))
    up, down = y > 0, y < 0
    new = [
      jnp.where(side, part, 0) for side in (up, down) for part in (y, weight)
    ]
    return join(state, (vote(m, x), *new))

  def value(state: Any) -> jax.Array:
    votes, up, up_weight, down, down_weight = state
    sign = jnp.where(votes == 0, tie, jnp.sign(votes))
    chosen = jnp.where(sign > 0, up, jnp.where(sign < 0, down, 0))
    if combine != "mean":
      return chosen
    weight = jnp.where(sign > 0, up_weight, down_weight)
    return chosen / jnp.where(weight == 0, 1, weight)

  return Fold(lambda like: (jnp.zeros_like(like),) * 5, update, value, join)


def _signs(vote: Any, x: jax.Array) -> tuple[Any, Any]:
  """Return how many entries of [M, ...] elect +, and -."""
  votes = jnp.zeros_like(x[0])
  for m in range(len(x)):
    votes = votes + vote(m, x[m])
  up, down = counts.count([lambda v: v > 0, lambda v: v < 0], votes)
  return up, down


def _prevailing(signs: tuple[Any, Any]) -> jax.Array:
  """Return 1 where + prevails; on a tie -1, as the paper's code."""
  return jnp.where(counts.at_least(signs[1], signs[0]), -1.0, 1.0)


def _majority(vote: Any) -> Measure:
  """Return the measure that yields the sign most entries elect."""
  zero = counts.Count(np.uint32(0), np.uint32(0))

  def update(state: Any, item: Any) -> Any:
    # On the host, where the sum of two numbers needs no program.
    found = item[0]
    found = jax.tree.map(np.asarray, found) if trees.concrete(found) else found
    return tuple(map(counts.add, state, found))

  return Measure(
    init=lambda _: (zero, zero),
    update=update,
    value=_prevailing,
    view=lambda x, at: _signs(vote, x),
    pieces=True,
  )
