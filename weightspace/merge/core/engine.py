"""How steps run over leaves: measures, looks, edits.

Every way to run a recipe (in memory, leaf by leaf, from files) is these
functions over a stream of `(path, leaf)`; `contexts` says what each is given.

>>> steps.mean.edit(jnp.array([1.0, 3.0]), steps.At()).item()
2.0
"""

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.merge.core import leaves, steps

Chain = tuple[steps.Step, ...]
Stream = Callable[[], Iterable[tuple[str, leaves.Leaf]]]  # one pass over leaves


def measured_at(
  resolved: Chain, measured: Sequence[dict[Any, Any]]
) -> tuple[Any, ...]:
  """Return what each of a leaf's steps has measured (None without)."""
  return tuple(
    values.get(step.measures) for step, values in zip(resolved, measured)
  )


def at_path(chained: Chain, path: str) -> tuple[steps.Step, ...]:
  """Return the steps that the leaf at `path` goes through."""
  return tuple(s.resolve(path) if s.resolve else s for s in chained)


def through(
  chained: Sequence[steps.Step],
  leaf: leaves.Leaf,
  at: steps.At,
  measured: tuple[Any, ...] = (),
  known: tuple[Any, ...] = (),
) -> jax.Array:
  """Run a leaf through steps; the i-th uses `measured[i]` and `known[i]`."""
  x, at = leaves.widened(leaf), at._replace(base=leaves.widen(at.base))
  for index, step in enumerate(chained):
    value = measured[index] if index < len(measured) else None
    at = at._replace(measured=value, local=None)
    if step.local:
      if index < len(known):
        at = at._replace(local=known[index])
      else:
        x = leaves.stacked(x)
        at = at._replace(local=_of_leaf(step, x, at))
    x = leaves.edited(step, x, at)
  return leaves.stacked(x)


def _of_leaf(step: steps.Step, x: jax.Array, at: steps.At) -> Any:
  """Return the `local` of a step."""
  if callable(step.local):
    return step.local(x, at)
  return steps.through(step.local or (), x, at)


def _view(
  chained: Chain,
  fold: steps.Fold | steps.Measure,
  leaf: leaves.Leaf,
  at: steps.At,
  measured: tuple[Any, ...],
  known: tuple[Any, ...] = (),
) -> Any:
  """Return what a measure sees of a leaf behind these steps."""
  x = through(chained, leaf, at, measured, known)
  return steps.view(fold, x, at._replace(base=leaves.widen(at.base)))


_through_compiled = jax.jit(through, static_argnums=0)
_view_compiled = jax.jit(_view, static_argnums=(0, 1))


def _seen(
  chained: Chain,
  fold: steps.Fold | steps.Measure,
  leaf: leaves.Leaf,
  at: steps.At,
  measured: tuple[Any, ...],
  known: tuple[Any, ...],
) -> Iterator[tuple[Any, steps.At]]:
  """Yield what a measure is to be updated with: views of a leaf, or pieces."""
  parts: Iterable[tuple[leaves.Leaf, steps.At]] = [(leaf, at)]
  if getattr(fold, "pieces", False) and leaves.divides(
    chained, leaf, at, leaves.PIECE
  ):
    parts = leaves.pieces(leaf, at, leaves.PIECE)
  for part, there in parts:
    yield _view_compiled(chained, fold, part, there, measured, known), there


def look(
  chained: Chain, leaf: leaves.Leaf, at: steps.At, measured: tuple[Any, ...]
) -> tuple[Any, ...]:
  """Return the `local` of each step, taken outside the compiled program."""
  known: tuple[Any, ...] = ()
  last = max((i for i, s in enumerate(chained) if s.local), default=-1)
  for index, step in enumerate(chained[: last + 1]):
    found = None
    if step.local and leaves.is_number(leaf):
      before, seen = chained[:index], measured[:index]
      if callable(step.local):
        edited = _through_compiled(before, leaf, at, seen, known)
        found = step.local(edited, at)
      else:
        found = _measured(before, step.local, leaf, at, seen, known)
    known = (*known, found)
  return known


def _measured(
  chained: Chain,
  folds: Sequence[steps.Measure],
  leaf: leaves.Leaf,
  at: steps.At,
  measured: tuple[Any, ...],
  known: tuple[Any, ...],
) -> Any:
  """Return what measures say of one leaf behind these steps."""
  value: Any = None
  for fold in folds:
    state = fold.init(value)
    if state is not None:
      for item in _seen(chained, fold, leaf, at, measured, known):
        state = fold.update(state, item)
      value = fold.value(state)
  return value


def stages(
  chained: Chain, x: jax.Array, at: steps.At, measured: tuple[Any, ...]
) -> list[jax.Array]:
  """Return a leaf as it came and as it left each step."""
  return [
    through(chained[:index], x, at, measured)
    for index in range(len(chained) + 1)
  ]


def finish(
  chained: Chain,
  leaf: leaves.Leaf,
  at: steps.At,
  measured: tuple[Any, ...],
  known: tuple[Any, ...] = (),
  marked: bool = False,
) -> jax.Array:
  """Return one merged leaf in its input dtype.

  Where it is to be `marked`, entries of which an input is NaN are NaN.
  """
  if not leaves.is_number(leaf):
    reduces = any(step.reduces for step in chained)
    return leaf[0] if reduces else leaves.stacked(leaf)
  x = through(chained, leaf, at, measured, known)
  if marked:
    bad = _nan_somewhere(leaf, at.base)
    bad = bad if bad.ndim == x.ndim else bad[None]
    x = jnp.where(bad, jnp.nan, x)
  like = leaves.example(leaf)
  if leaves.is_complex(like):
    reduces = any(step.reduces for step in chained)
    one = like.shape if isinstance(leaf, tuple) else like.shape[1:]
    x = leaves.paired(x, one if reduces else (len(x), *one))
  return x.astype(jnp.result_type(like))


def _nan_somewhere(leaf: leaves.Leaf, base: Any) -> jax.Array:
  """Tell for each entry [...] whether a model or the base has a NaN there."""
  inputs = [*leaf, *([] if base is None else [base])]
  return functools.reduce(
    operator.or_, (jnp.isnan(leaves.widen(x)) for x in inputs)
  )


finish_compiled = jax.jit(finish, static_argnums=0, static_argnames="marked")


def finish_marked(
  chained: Chain,
  leaf: leaves.Leaf,
  at: steps.At,
  measured: tuple[Any, ...],
  known: tuple[Any, ...],
) -> jax.Array:
  """Return one merged leaf, `marked`; a long one is merged in pieces.

  They stay in cache, and NumPy gives the whole large pages of memory: those of
  an array that XLA makes cost more than a mean of three models.
  """
  reduces = any(step.reduces for step in chained)
  if not reduces or not leaves.divides(chained, leaf, at, leaves.MERGED):
    return finish_compiled(chained, leaf, at, measured, known, marked=True)
  merged = leaves.empty(leaf[0].size, jnp.result_type(leaf[0]))
  done = 0
  for part, there in leaves.pieces(leaf, at, leaves.MERGED):
    piece = finish_compiled(chained, part, there, measured, known, marked=True)
    merged[done : done + piece.size] = np.asarray(piece)
    done += piece.size
  (device,) = leaf[0].devices()
  return jax.device_put(merged.reshape(leaf[0].shape), device, may_alias=True)


def measure(
  chained: Chain,
  stream: Stream,
  ats: dict[str, steps.At],
  compiled: bool = False,
) -> list[dict[Any, Any]]:
  """Return, for each step, {its measures: the value of the last of them}.

  Leaves that resolve to steps with other measures are measured apart, those
  without measures not at all; `measured_at` says what a leaf's steps see.  With
  `compiled`, leaves come to a measure through one program each.
  """
  measured: list[dict[Any, Any]] = []
  for index in range(len(chained)):
    values: dict[Any, Any] = {}
    groups = {at_path(chained, path)[index].measures: None for path in ats}
    for turn in range(max(map(len, groups), default=0)):
      folds = {m: m[turn] for m in groups if turn < len(m)}
      states = {m: fold.init(values.get(m)) for m, fold in folds.items()}
      states = {m: state for m, state in states.items() if state is not None}
      for path, x in stream() if states else ():
        resolved, at = at_path(chained, path), ats[path]
        m, before = resolved[index].measures, resolved[:index]
        if m not in states or not leaves.is_number(x):
          continue
        seen = measured_at(before, measured)
        if not compiled:
          item = _view(before, folds[m], x, at, seen)
          states[m] = folds[m].update(states[m], (item, at))
          continue
        known = look(before, x, at, seen)
        for pair in _seen(before, folds[m], x, at, seen, known):
          states[m] = folds[m].update(states[m], pair)
      values |= {m: folds[m].value(state) for m, state in states.items()}
    measured.append(values)
  return measured
