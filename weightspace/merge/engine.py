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
  trees.size(stack)
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
  return {
    name: trees.named(jax.tree.broadcast(tree, stack))
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
      base=_widen(bases.get(path)),
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


def at_path(chained: Chain, path: str) -> tuple[steps.Step, ...]:
  """Return the steps that the leaf at `path` goes through."""
  return tuple(s.resolve(path) if s.resolve else s for s in chained)


def _apply(
  chained: Sequence[steps.Step],
  x: jax.Array,
  at: steps.At,
  measured: tuple[Any, ...],
) -> jax.Array:
  """Run a float32 leaf through steps; the i-th uses `measured[i]`."""
  for index, step in enumerate(chained):
    value = measured[index] if index < len(measured) else None
    x = step.edit(x, at._replace(measured=value))
  return x


def finish(
  chained: Chain, x: jax.Array, at: steps.At, measured: tuple[Any, ...]
) -> jax.Array:
  """Return one merged leaf in its input dtype."""
  if not trees.inexact(x):
    return x[0] if any(step.reduces for step in chained) else x
  return _apply(chained, _widen(x), at, measured).astype(x.dtype)


finish_compiled = jax.jit(finish, static_argnums=0)


def measure(
  chained: Chain, stream: Stream, ats: dict[str, steps.At]
) -> list[Any]:
  """Return, for each step, the value of its last measure (None without)."""
  measured: list[Any] = []
  for index, step in enumerate(chained):
    value = None
    for fold in step.measures:
      state = fold.init(value)
      for path, x in stream():
        if not trees.inexact(x):
          continue
        before = at_path(chained, path)[:index]
        edited = _apply(before, _widen(x), ats[path], tuple(measured))
        state = fold.update(state, (edited, ats[path]))
      value = fold.value(state)
    measured.append(value)
  return measured
