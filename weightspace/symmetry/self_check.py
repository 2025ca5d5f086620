"""Proof and lint of axes: does the function stay when units move?

>>> from weightspace.symmetry.axes import Axes
>>> def apply(p, x): return jnp.tanh(x @ p["w"]) @ p["v"]
>>> params = {"v": jnp.arange(4.0).reshape(2, 2), "w": jnp.eye(2)}
>>> right = Axes({"v": "a 2", "w": "2 a"}, {"a": 2}, {"v:1": "", "w:0": ""})
>>> check(right, apply, params, jnp.ones((1, 2)), key=jax.random.key(1)) < 1e-6
True
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.symmetry import checks, permutations, tracing
from weightspace.symmetry.axes import Axes, base, blocks, free, parse, words
from weightspace.types import Key, Params


def check(
  axes: Axes,
  apply: Callable[..., Any],
  params: Params,
  *inputs: Any,
  key: Key | None = None,
  draws: int = 3,
) -> float:
  """Return how far the function moves under random permutations.

  max |f(P theta) - f(theta)| / max |f(theta)| over the draws, each output by
  itself: rounding (about 1e-6 in float32) where the axes are right.  Units that
  are equal (zero biases, scales of one) would hide mistakes: so all parameters
  are first changed by up to 10 %, and zeros by up to 0.1.

  Args:
    axes: what is to be proved.
    apply: the function they speak of.
    params: its parameters.
    *inputs: its further arguments.
    key: of the permutations; `jax.random.key(0)` when left out.
    draws: how many permutations.

  Returns:
    The largest relative deviation.

  Raises:
    ValueError: when parameters do not fit the axes, or `lint` finds an axis
      that is not covered; when no output is a finite number.

  >>> def apply(p, x): return x @ p
  >>> wrong = Axes("a 2", {"a": 2}, {":1": ""})
  >>> check(wrong, apply, jnp.eye(2), jnp.array([[1.0, 2.0]])) > 0.1
  True

  The function test of a specification: ours, after the issue in which a wrong
  one went unnoticed, https://github.com/samuela/git-re-basin/issues/10.
  """
  checks.check_params(axes, params, "check")
  if draws < 1:
    raise ValueError(f"check: draws is {draws}, expected at least 1")
  key = jax.random.key(0) if key is None else key
  wrong = uncovered(axes)
  if wrong:
    raise ValueError(f"check: {wrong[0]}")
  params = _shaken(params, jax.random.fold_in(key, draws))
  wanted, worst = _outputs(apply, params, inputs), 0.0
  if not wanted:
    raise ValueError("check: no finite output, expected numbers to compare")
  for draw in range(draws):
    perm = permutations.random(axes, params, jax.random.fold_in(key, draw))
    found = _outputs(apply, permutations.permute(axes, perm, params), inputs)
    for a, b in zip(wanted, found):
      scale = np.abs(a).max(initial=0.0) or 1.0
      apart = np.abs(a - b).max(initial=0.0) / scale
      worst = max(worst, float(apart) if np.isfinite(apart) else np.inf)
  return worst


def _shaken(params: Params, key: Key) -> Params:
  """Make equal units differ a little; statistics stay."""
  words = np.asarray(jax.random.key_data(key)).ravel().tolist()
  stream = np.random.Generator(np.random.Philox(words))

  def shake(path: str, leaf: Any) -> Any:
    if not trees.inexact(leaf) or checks.is_statistic(path):
      return leaf
    array = np.asarray(leaf)
    wide = array.astype(np.result_type(array.dtype, np.float32))
    draw = stream.uniform(-0.1, 0.1, wide.shape)
    shift = np.where(wide == 0, draw, draw * wide)
    return np.asarray(wide + shift).astype(array.dtype)

  return trees.map_named(shake, params)


def _outputs(apply: Any, params: Params, inputs: Any) -> list[np.ndarray]:
  outputs = jax.tree.leaves(apply(params, *inputs))
  return [np.asarray(jnp.asarray(x, jnp.float32)) for x in outputs]


def uncovered(axes: Axes) -> list[str]:
  """Return what is wrong with axes by themselves, one line for each."""
  found = []
  used = {w for p in trees.named(axes.tree).values() for w in words(p)}
  bases = {base(name) for name in axes.sizes}
  for path, pattern in trees.named(axes.tree).items():
    for axis, term in enumerate(parse(pattern)):
      if (
        isinstance(term, int) and term > 1 and f"{path}:{axis}" not in axes.pins
      ):
        found.append(f"axis {axis} of {path!r} has no name and no reason")
  for name in axes.sizes:
    if name not in used and name not in axes.pins:
      found.append(f"name {name!r} is on no axis")
    for block in blocks(name):
      if block not in bases:
        found.append(f"name {name!r} lies in {block!r}, which has no size")
  if len(bases) < len(axes.sizes):
    found.append("two names differ in their blocks only")
  return found


def lint(
  axes: Axes, apply: Callable[..., Any], params: Params, *inputs: Any
) -> list[str]:
  """Return what looks wrong with axes that were written or edited by hand.

  Args:
    axes: to look at.
    apply, params, inputs: what `trace_axes` would be given; shapes will do.

  Returns:
    One line each for: an axis without name or reason, a name of two sizes, a
    name on an axis that the input, the output or a primitive fixes, and units
    that are tied to each other in the function but not here.

  >>> def apply(p, x): return x @ p
  >>> wrong = Axes("a 2", {"a": 2}, {":1": "output"})
  >>> lint(wrong, apply, jnp.eye(2), jnp.ones((1, 2)))
  ["'a' is on axis 0 of '', which input fixes"]
  """
  try:
    checks.check_params(axes, params, "lint")
  except ValueError as error:
    return [str(error)]
  found = uncovered(axes)
  own = tracing.trace_axes(apply, params, *inputs)
  movable = set(free(axes))
  rows: dict[str, set[str]] = {}
  pairs = zip(trees.named(axes.tree).items(), trees.named(own.tree).values())
  for (path, mine), theirs in pairs:
    for axis, (a, b) in enumerate(zip(parse(mine), parse(theirs))):
      if isinstance(a, str) and a in movable:
        reason = own.pins.get(f"{path}:{axis}")
        if reason:
          found.append(
            f"{a!r} is on axis {axis} of {path!r}, which {reason} fixes"
          )
        elif isinstance(b, str):
          rows.setdefault(b, set()).add(a)
      elif isinstance(a, int) and isinstance(b, str):
        rows.setdefault(b, set()).add("")
  for name, mine_ in rows.items():
    if len(mine_) > 1:
      said = ", ".join(repr(m) if m else "fixed" for m in sorted(mine_))
      found.append(f"axes that move together ({name!r}) are {said}")
  return found
