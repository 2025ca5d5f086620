"""The positive-scaling symmetry of ReLU units, and its canonical form.

A unit whose activation is positively homogeneous can be scaled on its way in
and scaled back on its way out: another point of weight space, the same
function.  Which names allow that is found by trial on the model itself.

>>> def apply(p, x): return jax.nn.relu(x @ p["w"]) @ p["v"]
>>> p = {"v": jnp.ones((2, 1)), "w": jnp.array([[4.0, 1.0]])}
>>> axes = Axes({"v": "u 1", "w": "1 u"}, {"u": 2}, {})
>>> balanced(axes, apply, p, jnp.ones((1, 1))).params["v"].tolist()
[[2.0], [1.0]]
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.jaxpr import linear_maps
from weightspace.match.solvers import soft
from weightspace.symmetry import checks, moving
from weightspace.symmetry.axes import Axes, parse
from weightspace.types import Params

TOLERANCE = (
  1e-3  # relative deviation under random scales that rounding explains
)


class Balanced(NamedTuple):
  """A model whose units are scaled alike, the same function."""

  params: Params
  scales: dict[str, np.ndarray]  # what each unit was multiplied by, going in


def balanced(
  axes: Axes, apply: Callable[..., Any], params: Params, x: Any
) -> Balanced:
  """Scale units until what comes in and what goes out have one norm.

  For a unit u, in_u -> c in_u and out_u -> out_u / c with c = sqrt(|out_u| /
  |in_u|), over all parameters that carry it.  Names are taken in turn until the
  scales settle: the minimum of the sum of squares on the orbit, which is
  unique.

  Args:
    axes: from `trace_axes`.
    apply: apply(params, x).
    params: of the model.
    x: inputs to try scalings on.

  Returns:
    Balanced; names that cannot be scaled (tanh, softmax) are left out.

  Raises:
    ValueError: for parameters that do not fit the axes, or are not finite.

  >>> def apply(p, x): return jnp.tanh(x @ p["w"]) @ p["v"]
  >>> p = {"v": jnp.ones((2, 1)), "w": jnp.array([[4.0, 1.0]])}
  >>> axes = Axes({"v": "u 1", "w": "1 u"}, {"u": 2}, {})
  >>> balanced(axes, apply, p, jnp.ones((1, 1))).scales
  {}

  Neyshabur et al. 2015, "Path-SGD", https://arxiv.org/abs/1506.02617 (the
  symmetry); Stock et al. 2019, https://arxiv.org/abs/1902.10416 (equi-norm
  form).  Finding the units by trial is ours.
  """
  checks.check_params(axes, params, "balanced")
  checks.check_finite(params, "balanced")
  powers = scalable(axes, apply, params, x)
  scales = {n: np.ones(axes.sizes[n]) for n in powers}
  for _ in range(100):
    worst = 0.0
    for name, power in powers.items():
      into, out = _norms(axes, params, name, power)
      fits = (into > 0) & (out > 0)
      factor = np.where(
        fits, np.sqrt(np.where(fits, out, 1) / np.where(fits, into, 1)), 1.0
      )
      params = _scaled(axes, params, name, power, factor)
      scales[name] = scales[name] * factor
      worst = max(worst, float(np.abs(np.log(factor)).max(initial=0.0)))
    if worst < 1e-6:
      break
  return Balanced(params, scales)


Powers = dict[str, int]  # {path: 1 going in, -1 going out, 0 neither}


def scalable(
  axes: Axes, apply: Callable[..., Any], params: Params, x: Any
) -> dict[str, Powers]:
  """Return the names whose units can be scaled, and how each leaf scales.

  Inputs of linear maps scale back; all else scales (a layer), or only vectors
  do (a layer whose norm undoes the scale of its kernel).
  """
  maps = linear_maps.find(apply, params, x)
  reads = {at.path: set(at.inputs) for at in maps}
  wanted, result = _outputs(apply, params, x), {}
  patterns = trees.named(axes.tree)
  random = np.random.default_rng(0)
  for name in soft.flat_names(axes):
    for vectors in (False, True):
      power = _powers(patterns, reads, name, vectors)
      if power is None or not {1, -1} <= set(power.values()):
        continue
      factor = np.exp(random.uniform(-1, 1, axes.sizes[name]))
      moved = _outputs(apply, _scaled(axes, params, name, power, factor), x)
      apart = max(
        float(np.abs(a - b).max() / (np.abs(a).max() or 1.0))
        for a, b in zip(wanted, moved)
      )
      if apart < TOLERANCE:
        result[name] = power
        break
  return result


def _powers(
  patterns: Any, reads: Any, name: str, vectors: bool
) -> Powers | None:
  power: Powers = {}
  for path, pattern in patterns.items():
    places = [a for a, t in enumerate(parse(pattern)) if name in _names(t)]
    if len(places) > 1:
      return None
    if places and not checks.is_statistic(path):
      out = places[0] in reads.get(path, ())
      into = 0 if vectors and len(parse(pattern)) > 1 else 1
      power[path] = -1 if out else into
  return power


def _names(term: Any) -> list[str]:
  if isinstance(term, tuple):
    return [name for part in term[0] for name in _names(part)]
  return [term] if isinstance(term, str) else []


def _outputs(apply: Any, params: Params, x: Any) -> list[np.ndarray]:
  found = jax.tree.leaves(apply(params, x))
  return [np.asarray(y, np.float64) for y in found]


def _scaled(
  axes: Axes, params: Params, name: str, power: Powers, factor: np.ndarray
) -> Params:
  patterns = trees.named(axes.tree)

  def change(p: int, part: Any, labels: Any) -> Any:
    for axis, label in enumerate(labels):
      if label == name:
        shape = [-1 if a == axis else 1 for a in range(part.ndim)]
        part = part * jnp.asarray(factor**p, part.dtype).reshape(shape)
    return part

  def leaf(path: str, x: Any) -> Any:
    p = power.get(path, 0)
    if not p:
      return x
    each = functools.partial(change, p)
    return moving.by_parts(
      jnp.asarray(x), parse(patterns[path]), axes.sizes, each
    )

  return trees.map_named(leaf, params)


def _norms(
  axes: Axes, params: Params, name: str, power: Powers
) -> tuple[np.ndarray, np.ndarray]:
  """Return the norms of what comes into each unit, and of what goes out."""
  squares = {1: np.zeros(axes.sizes[name]), -1: np.zeros(axes.sizes[name])}
  patterns, leaves = trees.named(axes.tree), trees.named(params)

  def change(p: int, part: Any, labels: Any) -> Any:
    for axis, label in enumerate(labels):
      if label == name:
        rest = tuple(a for a in range(part.ndim) if a != axis)
        squares[p] += (np.asarray(part, np.float64) ** 2).sum(rest)
    return part

  for path, p in power.items():
    if p:
      each = functools.partial(change, p)
      array = np.asarray(leaves[path])
      moving.by_parts(array, parse(patterns[path]), axes.sizes, each)
  return np.sqrt(squares[1]), np.sqrt(squares[-1])
