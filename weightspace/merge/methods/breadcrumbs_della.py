"""Drops by magnitude within a row: Breadcrumbs, DELLA.

A row is the last axis of a leaf as it is given; a leaf that is 1-D is one row.

>>> models = {"w": jnp.array([[4.0, -3.0, 2.0, 1.0]])}
>>> recipe = breadcrumbs(keep=0.5, top=0.25, scale=1.0)
>>> recipe(models, base={"w": jnp.zeros(4)})["w"].tolist()
[0.0, -3.0, 2.0, 0.0]
"""

from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.merge.core import checks, matrix_view
from weightspace.merge.core.recipe import Recipe, chain, on_deltas
from weightspace.merge.core.steps import At, Step, of_leaf
from weightspace.merge.methods import dare, ties, trims
from weightspace.merge.methods.task_arithmetic import scaled, total
from weightspace.merge.order_statistics import in_xla
from weightspace.numerics import counts, random_bits

Scalar = float | jax.Array


def band(
  keep: Scalar,
  top: Scalar,
  *,
  scope: str = "row",
  exact: bool = False,
  fill: bool = False,
) -> Step:
  """Return the step that keeps the ranks (t, t + k] of |x| in each row.

  t = floor(top n + 1e-6), k = floor(keep n + 1e-6) but at least 1.  Entries
  equal to the first or the last one kept stay too, so that a constant row is
  kept whole; with `exact` the first of equal entries rank higher.

  Args:
    keep: the share to keep, in [0, 1].
    top: the share of largest magnitudes to drop before, in [0, 1].
    scope: "row", or "tensor" for leaves as one row.
    exact: keep exactly k.
    fill: lower t where t + k > n, so that k are kept.
  """
  checks.number("keep", keep, 0, 1)
  checks.number("top", top, 0, 1)
  checks.option("scope", scope, ("row", "tensor"))

  def view(x: jax.Array) -> jax.Array:
    return trims.rows_of(x) if scope == "row" else x.reshape(len(x), -1)

  def ends(n: int) -> tuple[Any, Any]:
    """Return the ranks of the first and of the last entry to keep, from 1."""
    dropped = counts.whole(counts.share_of(top, n))
    kept = counts.whole(counts.kept(keep, n))
    largest, least = (
      (max, min)
      if trees.concrete(keep, top)
      else (
        lambda a, b: jnp.maximum(jnp.int32(a), jnp.int32(b)),
        lambda a, b: jnp.minimum(jnp.int32(a), jnp.int32(b)),
      )
    )
    room = largest(n - kept, 0) if fill else n - 1
    first = least(dropped, room)
    return first + 1, least(first + kept, n)

  def thresholds(x: jax.Array, at: At) -> Any:
    rows = view(x)
    return tuple(in_xla.of_rows(rows, k) for k in ends(rows.shape[1]))

  def edit(x: jax.Array, at: At) -> jax.Array:
    size, (high, low) = jnp.abs(view(x)), at.local
    kept = (size <= high) & (size >= low)
    return jnp.where(kept.reshape(x.shape), x, 0)

  def edit_exact(x: jax.Array, at: At) -> jax.Array:
    size = jnp.abs(view(x))
    first, last = ends(size.shape[1])
    order = jnp.argsort(-size, axis=1, stable=True)
    rank = jnp.argsort(order, axis=1) + 1
    kept = (rank >= first) & (rank <= last)
    return jnp.where(kept.reshape(x.shape), x, 0)

  if exact:
    return Step("band", edit_exact)
  return Step("band", edit, local=of_leaf(thresholds))


def breadcrumbs(
  keep: Scalar,
  top: Scalar,
  scale: Scalar = 1.0,
  *,
  elect: bool = False,
  rows: str = "last",
  view: matrix_view.View = matrix_view.kernels,
  parity: str | None = None,
) -> Recipe:
  """Return Model Breadcrumbs: theta_0 + scale sum_m band(tau_m).

  Of each row of each task vector the share `top` of largest magnitudes goes
  (outliers), the next share `keep` stays, and the small rest goes too.

  Args:
    keep: beta of the paper's code, in [0, 1]; 0.05 to 0.2 there.
    top: gamma of the paper's code, in [0, 1]; 0.001 to 0.1 there.
    scale: alpha of the paper.
    elect: merge by the elected signs instead of the sum (breadcrumbs_ties of
      mergekit).
    rows: the "last" axis as given (the paper's code) or one "output" unit.
    view: what an output unit is, for rows="output".
    parity: "mergekit" takes each leaf as one row, keeps exactly k, and drops
      fewer of the top where k would not be met.

  >>> models = {"w": jnp.array([[9.0, 2.0, 1.0]])}
  >>> recipe = breadcrumbs(0.34, 0.34, 0.5)
  >>> recipe(models, base={"w": jnp.zeros(3)})["w"].tolist()
  [0.0, 1.0, 0.0]

  Davari and Belilovsky 2024, "Model breadcrumbs: scaling multi-task model
  merging with sparse masks", https://arxiv.org/abs/2312.06795.  The row scope
  and the counts are those of the paper's code; at least one entry is ours.
  """
  checks.number("breadcrumbs: keep", keep, 0, 1)
  checks.number("breadcrumbs: top", top, 0, 1)
  checks.number("breadcrumbs: scale", scale)
  like = parity is not None
  if parity is not None:
    checks.option("breadcrumbs: parity", parity, ("mergekit",))
  scope = "tensor" if like else "row"
  matrix_view.check_rows("breadcrumbs", rows, scope)
  cut = band(keep, top, scope=scope, exact=like, fill=like)
  cut = matrix_view.by_rows(rows, cut, view)
  tie = "plus" if like else "majority"
  merge = ties.disjoint("sum", tie=tie) if elect else total()
  return on_deltas(chain(cut, merge, scaled(scale)))


def relative_rank(x: jax.Array) -> jax.Array:
  """Return the rank of |x| in its row [R, n], from 0 (least) to 1.

  Equal entries share their mean rank, so a constant row has 0.5 throughout, as
  has a row of one.

  >>> relative_rank(jnp.array([[3.0, -1.0, 2.0], [1.0, 1.0, 1.0]])).tolist()
  [[1.0, 0.0, 0.5], [0.5, 0.5, 0.5]]
  """
  if x.shape[1] == 1:
    return jnp.full(x.shape, 0.5, x.dtype)
  place = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
  size, order = jax.lax.sort((jnp.abs(x), place), dimension=1, num_keys=1)
  differs = size[:, 1:] != size[:, :-1]
  edge = jnp.ones((len(x), 1), bool)
  starts = jnp.where(jnp.concatenate([edge, differs], 1), place, 0)
  ends = jnp.where(jnp.concatenate([differs, edge], 1), place, x.shape[1])
  first = jax.lax.cummax(starts, axis=1)
  last = jax.lax.cummin(ends, axis=1, reverse=True)
  rank = (first + last).astype(x.dtype) / (2 * (x.shape[1] - 1))
  return jax.lax.sort((order, rank), dimension=1, num_keys=1)[1]


def mag_prune(
  density: Scalar, window: Scalar, *, rescale: str = "inverse"
) -> Step:
  """Return the step that drops small entries more often than large ones.

  q = density - window / 2 + window r with r the relative rank of |x| in its
  row; x~ = m x / q, m ~ Bernoulli(q).
  """
  checks.number("density", density, 0, 1)
  checks.number("window", window, 0, 1)
  checks.option("rescale", rescale, dare.RESCALES)
  if trees.concrete(density, window):
    least, most = density - window / 2, density + window / 2
    if least < -1e-6 or most > 1 + 1e-6:
      raise ValueError(
        f"window: density {density} with window {window} gives shares from"
        f" {least} to {most}, expected them in [0, 1]"
      )

  def edit(x: jax.Array, at: Any) -> jax.Array:
    rank = relative_rank(trims.rows_of(x)).reshape(x.shape)
    share = density - window / 2 + window * rank
    drawn = random_bits.uniform(at.key, at.seed, x.shape, at.first)
    kept = drawn < share
    return dare.rescaled(x, kept, share, rescale)

  return Step("mag_prune", edit, needs=("key",))


def della(
  density: Scalar,
  window: Scalar,
  scale: Scalar = 1.0,
  *,
  rescale: str = "inverse",
  elect: bool = True,
  rows: str = "last",
  view: matrix_view.View = matrix_view.kernels,
  parity: str | None = None,
) -> Recipe:
  """Return DELLA: drop by rank, elect a sign, average those that have it.

  Args:
    density: the mean probability to keep an entry.
    window: how far it moves from the smallest to the largest magnitude of a
      row: from density - window / 2 to density + window / 2 (2 epsilon in
      mergekit).
    scale: of the merged task vector.
    rescale: "inverse" (the paper: each entry by its own probability), "l1"
      (mergekit), "l2", "linf" or "none".
    elect: False adds up all survivors (della_linear of mergekit).
    rows: the "last" axis as given or one "output" unit.
    view: what an output unit is, for rows="output".
    parity: "mergekit" sets rescale="l1" and zero sums to +.

  Raises:
    ValueError: where a probability would leave [0, 1].

  >>> models, start = {"w": jnp.ones((1, 4))}, {"w": jnp.zeros(4)}
  >>> recipe = della(1.0, 0.0)
  >>> recipe(models, base=start, key=jax.random.key(0))["w"].tolist()
  [1.0, 1.0, 1.0, 1.0]

  Deep et al. 2024, "DELLA-Merging: reducing interference in model merging
  through magnitude-based sampling", https://arxiv.org/abs/2406.11617.  Equal
  entries share a rank (ours).
  """
  checks.number("della: scale", scale)
  tie = "majority"
  if parity is not None:
    checks.option("della: parity", parity, ("mergekit",))
    rescale, tie = "l1", "plus"
  merge = ties.disjoint("mean", tie=tie) if elect else total()
  cut = mag_prune(density, window, rescale=rescale)
  cut = matrix_view.by_rows(rows, cut, view)
  return on_deltas(chain(cut, merge, scaled(scale)))
