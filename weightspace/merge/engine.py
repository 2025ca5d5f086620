"""How steps run over leaves: checks, contexts, measures, edits.

Every way to run a recipe (in memory, leaf by leaf, from files) is these five
functions over a stream of `(path, leaf)`.

>>> steps.mean.edit(jnp.array([1.0, 3.0]), steps.At()).item()
2.0
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.merge import steps
from weightspace.types import Key, Params, Stack

Chain = tuple[steps.Step, ...]
Stream = Callable[[], Iterable[tuple[str, jax.Array]]]  # one pass over leaves


def check_given(
  chained: Chain,
  stack: Stack,
  base: Params | None,
  key: Key | None,
  statistics: dict[str, Any],
) -> dict[str, Any]:
  """Refuse missing, unknown or ill-shaped inputs by name, before any work."""
  count = trees.size(stack)
  for step in chained:
    if step.models not in (None, count):
      raise ValueError(
        f"recipe: {step.name!r} is made for {step.models} models, got {count}"
      )
  given = dict(statistics, base=base, key=key)
  needs = [name for step in chained for name in step.needs]
  for name in needs:
    if given.get(name) is None:
      users = [s.name for s in chained if name in s.needs]
      raise ValueError(
        f"recipe: {users[0]!r} needs {name}=, which was not given"
      )
  for name in statistics:
    if name not in needs:
      wanted = sorted({*needs, "base", "key"})
      raise ValueError(f"recipe: unknown input {name!r}, expected {wanted}")
  if base is not None:
    like = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape[1:], jnp.result_type(x)), stack
    )
    trees.check_same(like, base, "base")
    trees.check_finite(base, "base")
  trees.check_finite(statistics, "recipe")
  return {
    name: trees.named(trees.spread(tree, stack, name))
    for name, tree in statistics.items()
  }


def leaf_contexts(
  leaves: Iterable[str],
  base: Params | None,
  key: Key | None,
  sources: dict[str, dict[str, Any]],
) -> dict[str, steps.At]:
  """Return the At of every leaf, by path."""
  bases = {} if base is None else trees.named(base)
  return {
    path: steps.At(
      base=bases.get(path),
      key=key,
      seed=np.uint32(zlib.crc32(path.encode())),
      given={name: leaf[path] for name, leaf in sources.items()},
    )
    for path in leaves
  }


def _widen(x: Any) -> Any:
  if x is None or not trees.inexact(x):
    return x
  return jnp.asarray(x).astype(trees.accumulator(jnp.result_type(x)))


def bind(chained: Chain, paths: Iterable[str]) -> Chain:
  """Return the steps for a tree of these paths, which they may refuse."""
  every = tuple(paths)
  return tuple(s.bind(every) if s.bind else s for s in chained)


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


def _apply(
  chained: Sequence[steps.Step],
  x: jax.Array,
  at: steps.At,
  measured: tuple[Any, ...],
  known: tuple[Any, ...] = (),
) -> jax.Array:
  """Run a leaf through steps; the i-th uses `measured[i]` and `known[i]`."""
  x, at = _widen(x), at._replace(base=_widen(at.base))
  for index, step in enumerate(chained):
    value = measured[index] if index < len(measured) else None
    at = at._replace(measured=value, local=None)
    if step.local:
      found = known[index] if index < len(known) else step.local(x, at)
      at = at._replace(local=found)
    x = step.edit(x, at)
  return x


def _view(
  chained: Chain,
  fold: steps.Fold | steps.Measure,
  x: jax.Array,
  at: steps.At,
  measured: tuple[Any, ...],
  known: tuple[Any, ...] = (),
) -> Any:
  """Return what a measure sees of a leaf behind these steps."""
  x = _apply(chained, x, at, measured, known)
  view = getattr(fold, "view", None)
  return view(x, at._replace(base=_widen(at.base))) if view else x


_apply_compiled = jax.jit(_apply, static_argnums=0)
_view_compiled = jax.jit(_view, static_argnums=(0, 1))


def look(
  chained: Chain, x: jax.Array, at: steps.At, measured: tuple[Any, ...]
) -> tuple[Any, ...]:
  """Return the `local` of each step, taken outside the compiled program."""
  known: list[Any] = []
  last = max((i for i, s in enumerate(chained) if s.local), default=-1)
  for index, step in enumerate(chained[: last + 1]):
    found = None
    if step.local and trees.inexact(x):
      before = chained[:index]
      edited = _apply_compiled(before, x, at, measured[:index], tuple(known))
      found = step.local(edited, at)
    known.append(found)
  return tuple(known)


def stages(
  chained: Chain, x: jax.Array, at: steps.At, measured: tuple[Any, ...]
) -> list[jax.Array]:
  """Return a leaf as it came and as it left each step."""
  return [
    _apply(chained[:index], x, at, measured)
    for index in range(len(chained) + 1)
  ]


def finish(
  chained: Chain,
  x: jax.Array,
  at: steps.At,
  measured: tuple[Any, ...],
  known: tuple[Any, ...] = (),
) -> jax.Array:
  """Return one merged leaf in its input dtype."""
  if not trees.inexact(x):
    return x[0] if any(step.reduces for step in chained) else x
  return _apply(chained, x, at, measured, known).astype(x.dtype)


finish_compiled = jax.jit(finish, static_argnums=0)


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
  view = _view_compiled if compiled else _view
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
        if m not in states or not trees.inexact(x):
          continue
        seen = measured_at(before, measured)
        known = look(before, x, at, seen) if compiled else ()
        item = view(before, folds[m], x, at, seen, known)
        states[m] = folds[m].update(states[m], (item, at))
      values |= {m: folds[m].value(state) for m, state in states.items()}
    measured.append(values)
  return measured
