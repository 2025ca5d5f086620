"""Trims: keep the largest entries of each task vector.

>>> from weightspace.merge.core.steps import through
>>> step = trim(0.5, scope="tensor")
>>> x = jnp.array([[3.0, -1.0, 2.0, 0.5]])
>>> step.edit(x, At(local=through(step.local, x))).tolist()
[[3.0, 0.0, 2.0, 0.0]]
"""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.hosts import concrete
from weightspace.merge.core import checks, matrix_view
from weightspace.merge.core.steps import At, Measure, Step, of_leaf
from weightspace.merge.order_statistics import in_xla
from weightspace.numerics import counts
from weightspace.types import Fold

SCOPES = ("global", "tensor", "row")


def trim(
  density: float | jax.Array,
  *,
  scope: str = "global",
  exact: bool = False,
  rows: str = "last",
  view: matrix_view.View = matrix_view.kernels,
) -> Step:
  """Return the step that zeroes all but the k largest |x| of each model.

  k = floor(density n + 1e-6), at least 1, of the n entries of the scope.

  Args:
    density: the share to keep, in [0, 1].
    scope: n is all of the model ("global"), each leaf ("tensor"), or each row
      along the last axis ("row"; a leaf that is 1-D is one row).
    exact: keep exactly k, of entries equal to the k-th those that come first
      (by leaf, then by index), where the default keeps all that are equal.
    rows: with scope="row", the "last" axis as given or one "output" unit.
    view: what an output unit is, for rows="output".

  Raises:
    ValueError: for a density outside [0, 1], another scope or rows.

  >>> from weightspace.merge.core.recipe import chain
  >>> models = {"a": jnp.array([[4.0, 3.0]]), "b": jnp.array([[-3.0, 1.0]])}
  >>> chain(trim(0.5))(models)["b"].tolist()
  [[-3.0, 0.0]]
  >>> chain(trim(0.5, exact=True))(models)["b"].tolist()
  [[0.0, 0.0]]
  """
  checks.number("density", density, 0, 1)
  checks.option("scope", scope, SCOPES)
  matrix_view.check_rows("trim", rows, scope)
  if trees.concrete(density) and density >= 1:
    return Step("trim", lambda x, at: x, entrywise=True)
  if scope == "row":
    return matrix_view.by_rows(rows, _per_row(density, exact), view)
  if scope == "tensor":
    return _per_tensor(density, exact)
  measures = in_xla.measures(lambda n: counts.kept(density, n))
  if not exact:
    return Step(
      "trim",
      lambda x, at: _cut(x, _own(at.measured, x, at)),
      measures=measures,
      entrywise=True,
    )

  def edit_exact(x: jax.Array, at: At) -> jax.Array:
    limit, seeds, rooms = at.measured
    return _cut_ties(x, limit, rooms[jnp.argmax(seeds == at.seed)])

  ties = _ties_before(density)
  return Step("trim", edit_exact, measures=(*measures, ties))


def _spread(limit: Any, x: jax.Array) -> jax.Array:
  """Give thresholds [M] the rank of [M, ...]."""
  limit = jnp.asarray(limit, x.dtype)
  return limit.reshape(-1, *[1] * (x.ndim - 1))


def _own(limits: Any, x: jax.Array, at: At) -> jax.Array:
  """Return the thresholds of the models of x, which may be some of all."""
  return jax.lax.dynamic_slice_in_dim(jnp.asarray(limits), at.first, len(x))


def _cut(x: jax.Array, limit: Any) -> jax.Array:
  return jnp.where(jnp.abs(x) >= _spread(limit, x), x, 0)


def _cut_ties(x: jax.Array, limit: Any, room: Any) -> jax.Array:
  """Keep what exceeds the threshold and the first `room` [M] that equal it."""
  size, limit = jnp.abs(x), _spread(limit, x)
  equal = (size == limit).reshape(len(x), -1)
  order = jnp.cumsum(equal, axis=1, dtype=jnp.int32)
  first = (equal & (order <= room[:, None])).reshape(x.shape)
  return jnp.where((size > limit) | first, x, 0)


def rows_of(x: jax.Array) -> jax.Array:
  """View a leaf [M, ...] as rows along its last axis; 1-D is one row."""
  return x.reshape(-1, x.shape[-1] if x.ndim > 1 else 1)


def _per_tensor(density: Any, exact: bool) -> Step:
  folds = in_xla.measures(lambda n: counts.kept(density, n))
  if not exact:
    return Step(
      "trim",
      lambda x, at: _cut(x, _own(at.local, x, at)),
      local=folds,
      entrywise=True,
    )

  def edit_exact(x: jax.Array, at: At) -> jax.Array:
    limit, until = (_own(part, x, at) for part in at.local)
    places = jax.lax.iota(jnp.uint32, x[0].size).reshape(x.shape[1:])
    places = (places + at.start)[None]
    limit, until = (
      part.reshape(-1, *[1] * (x.ndim - 1)) for part in (limit, until)
    )
    size = jnp.abs(x)
    first = (size == limit) & (places < until)
    return jnp.where((size > limit) | first, x, 0)

  return Step(
    "trim", edit_exact, local=(*folds, _until(density)), entrywise=True
  )


def _until(density: Any) -> Measure:
  """Return the measure of a leaf that yields (thresholds, places), [M] each.

  Of the entries that equal a threshold those before its place stay, so many
  that exactly k do.
  """

  def update(state: Any, item: Any) -> Any:
    (limit, found, start), x = state, item[0]
    if trees.concrete(x, limit, density) and concrete.on_host(x):
      rows = np.abs(np.asarray(x)).reshape(len(x), -1)
      x = [
        (np.count_nonzero(row > one), start + np.flatnonzero(row == one))
        for row, one in zip(rows, np.asarray(limit))
      ]
      return limit, [*found, x], start + rows.shape[1]
    return limit, [*found, x], start + x[0].size

  def value(state: Any) -> Any:
    limit, found, size = state
    if not isinstance(found[0], list):
      return limit, _until_traced(found[0], limit, density)
    k, until = counts.whole(counts.kept(density, size)), []
    for above, ties in (zip(*parts) for parts in zip(*found)):
      room, places = int(k) - sum(above), np.concatenate(ties)
      until.append(places[room] if room < len(places) else size)
    return limit, np.array(until).astype(np.uint32)

  return Measure(lambda limit: (limit, [], 0), update, value, pieces=True)


def _until_traced(x: jax.Array, limit: Any, density: Any) -> jax.Array:
  """Return the place of each model's first tie that goes, [M]."""
  equal = (jnp.abs(x) == _spread(limit, x)).reshape(len(x), -1)
  order = jnp.cumsum(equal, axis=1, dtype=jnp.int32)
  past = order > _room(x, limit, density)[:, None]
  place = jnp.where(past[:, -1], jnp.argmax(past, axis=1), x[0].size)
  return place.astype(jnp.uint32)


def _per_row(density: Any, exact: bool) -> Step:
  def threshold(x: jax.Array, at: At) -> jax.Array:
    rows = rows_of(x)
    k = counts.whole(counts.kept(density, rows.shape[1]))
    return in_xla.of_rows(rows, k)[:, 0]

  def edit(x: jax.Array, at: At) -> jax.Array:
    y = rows_of(x)
    if not exact:
      return _cut(y, at.local).reshape(x.shape)
    return _cut_ties(y, at.local, _room(y, at.local, density)).reshape(x.shape)

  return Step("trim", edit, local=of_leaf(threshold))


def _count(above: bool, x: jax.Array, limit: Any) -> counts.Count:
  """Count, for each model, what is above (or equal to) its threshold."""

  def one(x: jax.Array, limit: jax.Array) -> counts.Count:
    compare = operator.gt if above else operator.eq
    return counts.count([lambda v: compare(jnp.abs(v), limit)], x)[0]

  return jax.vmap(one)(x, jnp.asarray(limit, x.dtype))


def _room(x: jax.Array, limit: Any, density: Any) -> jax.Array:
  """Return how many ties each model keeps in this leaf, [M]."""
  k = counts.kept(density, x[0].size)
  k = jax.tree.map(lambda part: jnp.asarray(part, jnp.uint32), k)
  above = _count(True, x, limit)
  return jax.vmap(counts.excess, (None, 0))(k, above)


def _ties_before(density: Any) -> Fold:
  """Return the fold that yields (thresholds [M], leaves [L], rooms [L, M]).

  A room is how many of a leaf's ties are kept: what k leaves over when all
  that exceeds the threshold and the ties of earlier leaves are taken.
  """

  def update(state: Any, item: Any) -> Any:
    limit, leaves, size = state
    x, at = item
    found = _count(True, x, limit), _count(False, x, limit)
    return limit, [*leaves, (at.seed, *found)], size + x[0].size

  def value(state: Any) -> Any:
    limit, leaves, size = state
    if not leaves:  # none of numbers
      return None
    k = counts.kept(density, size)
    k = jax.tree.map(lambda part: jnp.asarray(part, jnp.uint32), k)
    taken = jax.tree.map(jnp.zeros_like, leaves[0][1])
    for _, above, _ in leaves:
      taken = counts.add(taken, above)
    rooms = []
    for _, _, equal in leaves:
      rooms.append(jax.vmap(counts.excess, (None, 0))(k, taken))
      taken = counts.add(taken, equal)
    seeds = jnp.stack([jnp.asarray(seed) for seed, _, _ in leaves])
    return limit, seeds, jnp.stack(rooms)

  return Fold(lambda limit: (limit, [], 0), update, value)


def tie_share(x: jax.Array, limit: jax.Array) -> jax.Array:
  """Return the share of entries of [M, ...] that equal their threshold, [M].

  >>> tie_share(jnp.array([[1.0, -1.0, 2.0, 0.0]]), jnp.array([1.0])).tolist()
  [0.5]
  """
  equal = _count(False, x, limit)
  entries = equal.high * float(counts.BASE) + equal.low
  return entries / x[0].size
