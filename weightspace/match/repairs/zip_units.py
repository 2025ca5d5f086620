"""Units merged in groups: partial matching, zip, and other widths.

A merge of two models needs no permutation: any grouping of their units will do.
Units of a group are averaged where they are outputs, and share their value
where they are inputs.  Pairs alone are matching; pairs, and units that stay
alone, are partial matching (a wider model); groups within a model are zip; and
a grouping of models of different width is a way between them.

>>> alike = np.array([[0.9, 0.1], [0.2, 0.3]])
>>> partial_groups(alike, 0.5)
Groups(a=array([0, 1]), b=array([0, 2]), number=3)
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.jaxpr import linear_maps
from weightspace.match.repairs import layers
from weightspace.match.solvers import assignment, soft
from weightspace.symmetry import checks, moving
from weightspace.symmetry.axes import Axes, parse
from weightspace.types import Apply, Params


class Groups(NamedTuple):
  """The group of each unit of a and of b, and how many groups there are."""

  a: np.ndarray  # [n]
  b: np.ndarray  # [m]
  number: int


def partial_groups(alike: np.ndarray, share: float) -> Groups:
  """Pair the units that are most alike; leave a share of them alone.

  The floor(share n) matched pairs of least similarity stay apart, so the merged
  layer has n + floor(share n) units: share 0 is matching, 1 keeps both models
  side by side.

  Args:
    alike: [n, n] similarities of a's units to b's.
    share: in [0, 1].

  Raises:
    ValueError: for a share outside of [0, 1].

  >>> partial_groups(np.eye(2), 0.0).number
  2

  Nasery et al. 2024, "PLeaS", https://arxiv.org/abs/2407.02447, section 3.1.
  """
  if not 0 <= share <= 1:
    raise ValueError(f"share: {share}, expected 0 to 1")
  alike = np.asarray(alike, np.float64)
  place = assignment.solve(alike)
  n = len(place)
  apart = int(np.floor(share * n + 1e-6))
  order = np.argsort(alike[np.arange(n), place], kind="stable")
  alone = np.zeros(n, bool)
  alone[order[:apart]] = True
  a, b = np.empty(n, int), np.empty(n, int)
  merged, single = np.flatnonzero(~alone), np.flatnonzero(alone)
  a[merged], b[place[merged]] = np.arange(n - apart), np.arange(n - apart)
  a[single] = n - apart + np.arange(apart)
  b[place[single]] = n + np.arange(apart)
  return Groups(a, b, n + apart)


def zip_groups(alike: np.ndarray, count: int, within: float = 1.0) -> Groups:
  """Group the units of two models, also of one model, until `count` are left.

  The two most similar groups are joined, again and again; a joined group is as
  alike to another as the lesser of its two parts.

  Args:
    alike: [2 n, 2 n] similarities of all units, a's first.
    count: of groups, n for a model of the same width.
    within: the share of joins that may bring units of one model together.

  >>> alike = np.kron(np.eye(2), np.array([[1.0, 0.9], [0.9, 1.0]]))
  >>> zip_groups(alike, 2).a.tolist()
  [0, 0]

  Stoica et al. 2024, "ZipIt!", https://arxiv.org/abs/2305.03053, algorithm 1,
  with alpha = 1.
  """
  score = np.array(alike, np.float64)
  total, half = len(score), len(score) // 2
  if not half <= count <= total:
    raise ValueError(f"count: {count}, expected {half} to {total}")
  if np.isnan(score).any():
    raise ValueError("alike: holds NaN, expected numbers")
  np.fill_diagonal(score, -np.inf)
  label = np.arange(total)
  side = np.where(np.arange(total) < half, 1, 2)
  inside = int(np.floor(within * (total - count) + 1e-6))
  for _ in range(total - count):
    shared = (side[:, None] & side[None]) > 0
    allowed = score if inside > 0 else np.where(shared, -np.inf, score)
    allowed = score if not np.isfinite(allowed).any() else allowed
    i, j = np.unravel_index(np.argmax(allowed), score.shape)
    inside -= int(side[i] & side[j] > 0)
    side[i] |= side[j]
    score[i] = score[:, i] = np.minimum(score[i], score[j])
    score[j] = score[:, j] = -np.inf
    score[i, i] = -np.inf
    label[label == j] = i
  group = np.unique(label, return_inverse=True)[1]
  return Groups(group[:half], group[half:], count)


def transport_groups(alike: np.ndarray) -> Groups:
  """Give each unit of the narrower model to one of the wider, or share it.

  Every unit of the wider model b goes with the unit of a that is most like it,
  each unit of a being given to at least one and at most ceil(m / n) of them:
  optimal transport with whole units.

  Args:
    alike: [n, m] similarities, n <= m.

  Returns:
    Groups: n of them, so the merge is as wide as a.

  >>> transport_groups(np.array([[0.9, 0.8, 0.0], [0.1, 0.7, 0.6]])).b.tolist()
  [0, 0, 1]

  Singh and Jaggi 2020, "Model fusion via optimal transport",
  https://arxiv.org/abs/1910.05653 (soft plans there).
  """
  n, m = np.shape(alike)
  if n > m:
    raise ValueError(f"alike: {(n, m)}, expected no more rows than columns")
  copies = -(-m // n)
  low = float(np.min(alike)) - float(np.ptp(alike)) - 1.0
  wide = np.full((n * copies, n * copies), low)
  wide[:, :m] = np.tile(np.asarray(alike, np.float64), (copies, 1))
  # The first copy of each unit must be used: it wins a bonus by a real column.
  wide[:n, :m] += (float(np.ptp(alike)) + 1.0) * n * m
  row = np.argsort(assignment.solve(wide))[:m]
  return Groups(np.arange(n), row % n, n)


def merge_units(
  axes: Axes,
  apply: Apply,
  a: Params,
  b: Params,
  x: Any,
  groups: dict[str, Groups],
) -> Params:
  """Merge two models whose units are grouped.

  W = sum_k M_k W_k U_k over the two models: M averages the outputs of a group,
  U gives every unit of a group the value of the group; what has no name is
  averaged.

  Args:
    axes: from `trace_axes`, of a.
    apply: apply(params, x) of a, to tell inputs from outputs.
    a: the first model.
    b: the second; of other widths where groups say so.
    x: an example batch.
    groups: for each name; all names, none in blocks or with blocks.

  Returns:
    Params, as wide as the groups are many.

  Raises:
    ValueError: for names without groups or groups that do not fit, or a leaf
      that is both an input and an output of its units (tied embeddings).

  Stoica et al. 2024, https://arxiv.org/abs/2305.03053, section 4.2 (merge and
  unmerge); with pairs alone it is the mean of the permuted models.
  """
  known = soft.flat_names(axes)
  for name in axes.sizes:
    if name not in axes.pins and (name not in groups or name not in known):
      raise ValueError(
        f"merge_units: {name!r} has no groups, or lies in blocks"
      )
  sizes = [
    axes.sizes | {n: len(g.a) for n, g in groups.items()},
    axes.sizes | {n: len(g.b) for n, g in groups.items()},
  ]
  for name, model, own in zip("ab", (a, b), sizes):
    checks.check_params(axes._replace(sizes=own), model, f"merge_units: {name}")
    checks.check_finite(model, f"merge_units: {name}")
  reads = {at.path: set(at.inputs) for at in linear_maps.find(apply, a, x)}
  patterns, other = trees.named(axes.tree), trees.named(b)
  for path in sorted(layers.multiplied(apply, a, x) - set(reads)):
    if any(not isinstance(t, int) for t in parse(patterns[path])):
      raise ValueError(
        f"merge_units: {path!r} is both an input and an output of its units"
      )

  def leaf(path: str, left: Any) -> Any:
    found, inputs = parse(patterns[path]), reads.get(path, set())
    averaged = any(
      not isinstance(t, int) and axis not in inputs
      for axis, t in enumerate(found)
    )
    total: Any = 0.0
    for side, value in enumerate((left, other[path])):
      ready, array = _matrices(groups, side), jnp.asarray(value)
      for axis, term in enumerate(found):
        own = ready[axis in inputs]
        array = _on_axis(array, axis, term, own, sizes[side])
      total = total + (array if averaged else array / 2)
    return total.astype(jnp.asarray(left).dtype)

  return trees.map_named(leaf, a)


def _matrices(groups: dict[str, Groups], side: int) -> dict[bool, soft.Soft]:
  """Return {False: M of outputs [count, n], True: U of inputs [count, n]}."""
  merge, give = {}, {}
  for name, group in groups.items():
    members = np.bincount(group.a, minlength=group.number)
    members = members + np.bincount(group.b, minlength=group.number)
    own = np.eye(group.number, dtype=np.float32)[:, (group.a, group.b)[side]]
    give[name], merge[name] = own, own / np.maximum(members, 1)[:, None]
  return {False: merge, True: give}


def _on_axis(
  x: Any, axis: int, term: Any, matrices: soft.Soft, sizes: dict[str, int]
) -> Any:
  """Multiply one axis of an array, a product or a sum being taken apart."""
  front = jnp.moveaxis(x, axis, 0)

  def change(part: Any, labels: Any) -> Any:
    return soft.mix(jnp, matrices, part, labels)

  moved = moving.by_parts(front, (term, *front.shape[1:]), sizes, change)
  return jnp.moveaxis(moved, 0, axis)
