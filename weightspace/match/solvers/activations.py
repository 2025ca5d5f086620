"""Activation matching: units that fire alike are the same unit.

Names are matched independently of each other, each by one assignment on the
similarity of its units over the data; blocks (heads) by what they hold.  The
statistics are sums, so they fold over batches.

>>> from weightspace.symmetry import tracing as symmetry
>>> def apply(p, x): return jnp.tanh(x @ p["w"]) @ p["v"]
>>> a = {"v": jnp.ones((2, 1)), "w": jnp.array([[1.0, -2.0]])}
>>> b = {"v": jnp.ones((2, 1)), "w": jnp.array([[-2.0, 1.0]])}
>>> x = jnp.array([[1.0], [0.5]])
>>> axes = symmetry.trace_axes(apply, a, x)
>>> match_activations(axes, apply, a, b, x).perm["w"].tolist()
[1, 0]
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.jaxpr import closures, graph
from weightspace.match.solvers import (
  blockwise,
  coordinate_descent,
  matching_plan,
  points,
)
from weightspace.match.solvers.points import Point
from weightspace.symmetry import checks, permutations, tracing
from weightspace.symmetry.axes import Axes, Perm, base, blocks, free, shape
from weightspace.types import Data, Fold, Params

SIMILARITIES = ("correlation", "raw", "distance")
AT = ("all", "first", "last")
HIGHEST = jax.lax.Precision.HIGHEST


class Alike(NamedTuple):
  """A permutation of b towards a, and the similarities that it came from."""

  perm: Perm
  objective: float  # sum of the similarities of the units that are matched
  weights: float  # <a, P b>, the objective of weight matching
  similarity: dict[str, np.ndarray]  # [*blocks, n], of each matched unit
  moved: int


class Moments(NamedTuple):
  """Sums over samples at one point; both models, one after the other."""

  samples: jax.Array
  a: jax.Array  # [..., n]
  b: jax.Array
  aa: jax.Array  # [..., n]: squares
  bb: jax.Array
  ab: jax.Array  # [rows, N, N]: all units of a name with all others


def moments(
  apply: Callable[..., Any], found: tuple[Point, ...], a: Params, b: Params
) -> Fold:
  """Return the fold over batches x whose value is the Moments at each point.

  >>> def apply(p, x): return jnp.tanh(x @ p["w"]) @ p["v"]
  >>> p = {"v": jnp.ones((2, 1)), "w": jnp.ones((1, 2))}
  >>> x = jnp.ones((3, 1))
  >>> fold = moments(apply, points.find(apply, p, x), p, p)
  >>> fold.value(fold.update(fold.init(x), x))[0].samples.item()
  3.0
  """

  def init(x: Any) -> list[Moments]:
    shapes = jax.eval_shape(functools.partial(_moments, apply, found), a, b, x)
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

  def update(state: list[Moments], x: Any) -> list[Moments]:
    now = closures.fixed(apply)
    return jax.tree.map(jnp.add, state, _moments(now, found, a, b, x))

  def merge(left: list[Moments], right: list[Moments]) -> list[Moments]:
    return jax.tree.map(jnp.add, left, right)

  return Fold(init, update, lambda state: state, merge)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _moments(
  apply: Any, found: tuple[Point, ...], a: Params, b: Params, x: Any
) -> list[Moments]:
  left, right = (points.watch(apply, found, p, x) for p in (a, b))
  result = []
  for u, v in zip(left, right):
    flat = u.reshape(-1, u.shape[-1]), v.reshape(-1, v.shape[-1])
    product = jnp.matmul(flat[0], flat[1].T, precision=HIGHEST)
    sums = u.sum(-1), v.sum(-1), (u**2).sum(-1), (v**2).sum(-1)
    count = jnp.asarray(u.shape[-1], u.dtype)
    result.append(Moments(count, *sums, product))
  return result


def similarity(sums: Moments, kind: str) -> np.ndarray:
  """Return how alike the units are, [N, N], from their sums.

  raw: E[u v]; correlation: that of Pearson, 0 for a unit that never varies;
  distance: -|u - v| over all samples.
  """
  host = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
  a, b, aa, bb = (x.ravel() for x in (host.a, host.b, host.aa, host.bb))
  if kind == "raw":
    return host.ab / host.samples
  if kind == "distance":
    apart = aa[:, None] + bb[None] - 2 * host.ab
    return -np.sqrt(np.maximum(apart, 0.0))
  both = host.ab / host.samples - np.outer(a, b) / host.samples**2
  size = [
    np.sqrt(np.maximum(q / host.samples - (s / host.samples) ** 2, 0.0))
    for q, s in ((aa, a), (bb, b))
  ]
  scale = np.outer(*size)
  # float32 sums leave some variance to a unit that has none.
  still = scale <= 1e-6 * max(float(scale.max(initial=0.0)), 1e-30)
  return np.where(still, 0.0, both / np.where(still, 1.0, scale))


def match_activations(
  axes: Axes,
  apply: Callable[..., Any],
  a: Params,
  b: Params,
  x: Data,
  *,
  similar: str = "correlation",
  at: str = "all",
  batch_size: int | None = None,
  solver: str = "scipy",
) -> Alike:
  """Find the permutation of b whose units fire most like those of a.

  Args:
    axes: from `trace_axes`.
    apply: apply(params, x).
    a: the model that stays.
    b: the model that is permuted.
    x: inputs, a tree of arrays [N, ...]; ones without one axis N (a graph's
      nodes and edges, a mask that all share) are taken as one batch.
    similar: "correlation", "raw" (the mean product) or "distance" (negative
      Euclidean).
    at: where several values carry the same units (a residual stream, queries
      and keys): the sum over "all", or the "first" or "last" of them.
    batch_size: inputs at a time; all at once when left out.
    solver: "scipy" or "optax".

  Returns:
    Alike: `.perm`, `.objective`, and the similarity of each matched unit.

  Raises:
    ValueError: for no inputs, unknown options, models that do not fit, or a
      name that is carried only inside of a scan or a branch.

  Ainsworth et al. 2023, https://arxiv.org/abs/2209.04836, section 3.1 (raw); Li
  et al. 2015, https://arxiv.org/abs/1511.07543, and Jordan et al. 2023,
  https://arxiv.org/abs/2211.08403 (correlation).  Blocks by what they hold:
  Verma and Elbayad 2024, https://arxiv.org/abs/2403.00986.
  """
  for what, value, known in (
    ("similar", similar, SIMILARITIES),
    ("at", at, AT),
  ):
    if value not in known:
      raise ValueError(f"{what}: {value!r}, expected one of {known}")
  checks.check_models(axes, "match_activations", a, b)
  count = checks.check_batch(x, "match_activations", batch_size, graphs=True)
  size = min(batch_size or count, count)
  found, total = _chosen(axes, apply, a, x, at), None
  fold = moments(apply, found, a, b)
  for begin in range(0, count, size):
    part = x
    if batch_size is not None:
      part = jax.tree.map(lambda v, k=begin: v[k : k + size], x)
    total = fold.update(total or fold.init(part), part)
  alike: dict[str, np.ndarray] = {}
  for point, sums in zip(found, fold.value(total or [])):
    checks.check_finite({"values": sums.ab}, f"match_activations: {point.name}")
    found_here = similarity(sums, similar)
    before = alike.get(point.name)
    alike[point.name] = found_here if before is None else before + found_here
  perm = blockwise.solve(axes, alike, solver)
  rest = _uncarried(axes, found)
  if rest:  # weights alone can tell
    plan = matching_plan.make_plan(axes, a)
    left, right = matching_plan.load(plan, a), matching_plan.load(plan, b)
    sweeps = [rest] * len(rest)
    perm = coordinate_descent.descend(
      plan, left, right, sweeps, solver, start=perm
    ).perm
  return _result(axes, a, b, perm, alike)


def _chosen(
  axes: Axes, apply: Any, params: Params, x: Any, at: str
) -> tuple[Point, ...]:
  """Return the points to watch; raise for a name that has none."""
  own = tracing.trace_axes(apply, params, x)
  found = points.renamed(points.find(apply, params, x), own, axes)
  program = graph.trace(apply, params, x)
  hidden = {"scan", "while", "cond"} & {
    eqn.primitive.name for eqn in program.equations
  }
  for name in _uncarried(axes, found):
    if hidden:
      raise ValueError(
        f"match_activations: {name!r} is carried by no value outside of a scan"
        " or a branch; expected a model whose layers are not scanned"
      )
  if at == "all":
    return found
  order = found if at == "last" else found[::-1]
  return tuple({point.name: point for point in order}.values())


def _uncarried(axes: Axes, found: tuple[Point, ...]) -> list[str]:
  """Return the names that no value carries: ranks of a factored weight."""
  held = {block for point in found for block in blocks(point.name)}
  held |= {base(point.name) for point in found}
  return [name for name in free(axes) if base(name) not in held]


def _result(axes: Axes, a: Params, b: Params, perm: Perm, alike: Any) -> Alike:
  matched = {}
  for name, whole in alike.items():
    n, dims = axes.sizes[name], shape(axes, name)
    rows = permutations.source_rows(perm, name, dims[:-1])
    flat = (rows[:, None] * n + perm[name].reshape(-1, n)).ravel()
    matched[name] = whole[np.arange(len(flat)), flat].reshape(dims)
  plan = matching_plan.make_plan(axes, a)
  aligned = matching_plan.order(plan, matching_plan.load(plan, b), perm)
  left = matching_plan.load(plan, a)
  return Alike(
    perm,
    float(sum(v.sum() for v in matched.values())),
    matching_plan.objective(left, aligned, range(len(left))),
    matched,
    permutations.moved(perm),
  )
