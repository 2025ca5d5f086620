"""OPCM: models merged one by one as they arrive, in constant memory.

A new task vector is stripped of what the merged one already uses before it is
added, and the sum is brought back to the length of a task vector.  The state is
the base, one merged task vector and four numbers, however many models came.

>>> fold = opcm(0.5)
>>> state = fold.init({"w": jnp.zeros((2, 2))})
>>> for model in ({"w": jnp.eye(2)}, {"w": jnp.ones((2, 2))}):
...   state = fold.update(state, model)
>>> fold.value(state)["w"].shape
(2, 2)
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.merge.core import alike, checks, matrix_view, one_by_one
from weightspace.merge.core.matrix_view import View, dot, kernels, thin_svd
from weightspace.types import Fold, Key, Params, Stack


class Merged(NamedTuple):
  """What OPCM keeps between models."""

  base: Params  # integer leaves are those of the first model
  delta: Params  # float32, the merged task vector
  length: jax.Array  # [], mean norm of the task vectors so far
  stretch: jax.Array  # [], lambda_t: norm of the sum before it was rescaled
  seen: jax.Array  # [], models so far


class Opcm(NamedTuple):
  """OPCM for one alpha; a `OneByOne` recipe."""

  init: Callable[[Params], Merged]
  update: Callable[[Merged, Params], Merged]
  value: Callable[[Merged], Params]
  merge: None = None  # the order of models matters: parts cannot be joined

  @property
  def needs(self) -> tuple[str, ...]:
    """Names that must be given in a call."""
    return ("base",)

  def __call__(
    self, stack: Stack, *, base: Params | None = None, key: Key | None = None
  ) -> Params:
    """Merge the models of a Stack, from the first to the last."""
    fold = Fold(self.init, self.update, self.value)
    return one_by_one.over_stack("opcm", fold, stack, base)


def opcm(alpha: float | jax.Array = 0.5, view: View = kernels) -> Opcm:
  """Return orthogonal projection-based continual merging, a Fold over models.

  With M = U S V' the merged task vector of a matrix and T the new one, T loses
  the diagonal and the leading k x k block of U' T V, where k singular values
  make up the share alpha of their sum; so <T, M> = 0.  Then
  M <- (lambda M + T) / lambda_new, one lambda_new for the whole model, such
  that |M| is the mean norm of the task vectors so far.  Leaves that are not
  matrices are added as they are.

  Args:
    alpha: in [0, 1]; 0 takes only the diagonal, 1 all that M spans.
    view: which leaves are matrices.

  Returns:
    Opcm: `init(base)`, `update(state, params)`, `value(state)`; or called as
    `opcm(alpha)(stack, base=base)`.

  Raises:
    ValueError: for alpha outside [0, 1]; in update, for a model that is not
      shaped as the base or holds a NaN.

  >>> start, models = {"w": jnp.zeros((2, 2))}, {"w": jnp.eye(2)[None]}
  >>> opcm()(models, base=start)["w"].tolist()
  [[1.0, 0.0], [0.0, 1.0]]

  Tang et al. 2025, "Merging models on the fly without retraining: a sequential
  approach to scalable continual model merging",
  https://arxiv.org/abs/2501.09522; k counts shares <= alpha, as in its code.
  """
  checks.number("opcm: alpha", alpha, least=0.0, most=1.0)

  def init(base: Params) -> Merged:
    if not jax.tree.leaves(base):
      raise ValueError("opcm: base has no leaves, expected a model")
    trees.check_finite(base, "base")
    base = jax.tree.map(jnp.asarray, base)
    one = jnp.ones((), jnp.float32)
    zero = jnp.zeros((), jnp.float32)
    delta = jax.tree.map(lambda x: jnp.zeros_like(_widen(x)), base)
    return Merged(base, delta, zero, one, jnp.zeros((), jnp.int32))

  def update(state: Merged, params: Params) -> Merged:
    trees.check_same(state.base, params, "model")
    trees.check_finite(params, "model")
    return _update(state, params, alpha, view)

  return Opcm(init, update, _value)


@functools.partial(jax.jit, static_argnames="view")
def _update(
  state: Merged, params: Params, alpha: float | jax.Array, view: View
) -> Merged:
  new = jax.tree.map(_difference, params, state.base)
  deltas, change = trees.named(state.delta), trees.named(new)
  total: dict[str, jax.Array] = {}
  lengths: dict[str, tuple[jax.Array, jax.Array]] = {}
  for paths in alike.together(deltas, view):

    def add(row: tuple[jax.Array, jax.Array], path: str = paths[0]) -> Any:
      merged, delta = row
      added = state.stretch * merged + _free(merged, delta, view(path), alpha)
      return added, (_square(delta), _square(added))

    pairs = [(deltas[path], change[path]) for path in paths]
    rows = alike.apart(alike.mapped(add, alike.stacked(pairs)))
    for path, (added, squares) in zip(paths, rows):
      total[path], lengths[path] = added, squares
  size_new, size = (
    _root(squares) for squares in zip(*(lengths[path] for path in deltas))
  )
  count = state.seen.astype(jnp.float32)
  length = (count * state.length + size_new) / (count + 1)
  stretch = jnp.where((size > 0) & (length > 0), size / length, 1.0)
  delta = jax.tree.unflatten(
    jax.tree.structure(state.delta), [total[path] / stretch for path in deltas]
  )
  base = jax.tree.map(
    lambda b, x: b if trees.inexact(b) else jnp.where(state.seen == 0, x, b),
    state.base,
    params,
  )
  return Merged(base, delta, length, stretch, state.seen + 1)


def _free(
  merged: jax.Array, delta: jax.Array, rule: matrix_view.Rule, alpha: Any
) -> jax.Array:
  """Return a task vector without what `merged` uses, where it is a matrix."""
  shape = rule(merged.shape)
  if shape is None or jnp.iscomplexobj(merged):
    return delta
  free = _project(merged.reshape(shape), delta.reshape(shape), alpha)
  return free.reshape(delta.shape)


def _project(
  merged: jax.Array, delta: jax.Array, alpha: float | jax.Array
) -> jax.Array:
  """Strip [batch, in, out] of what `merged` already uses."""
  u, s, vt = thin_svd(merged)
  total = s.sum(-1, keepdims=True)
  share = jnp.cumsum(s, -1) / jnp.where(total == 0, 1.0, total)
  # A thin SVD is enough: the diagonal and the block lie inside its span.
  leading = (share <= alpha).astype(s.dtype)
  block = leading[..., :, None] * leading[..., None, :]
  removed = jnp.maximum(block, jnp.eye(s.shape[-1], dtype=s.dtype)[None])
  inside = removed * dot(dot(u.mT, delta), vt.mT)
  return delta - dot(dot(u, inside), vt)


def _value(state: Merged) -> Params:
  """Return base + merged task vector in the base's dtypes."""

  def leaf(base: jax.Array, delta: jax.Array) -> jax.Array:
    if not trees.inexact(base):
      return base
    return (_widen(base) + delta).astype(base.dtype)

  return jax.tree.map(leaf, state.base, state.delta)


def _widen(x: jax.Array) -> jax.Array:
  """Return a leaf in its accumulator; leaves without arithmetic, as zero."""
  if not trees.inexact(x):
    return jnp.zeros((), jnp.float32)
  return x.astype(trees.accumulator(x.dtype))


def _difference(model: jax.Array, base: jax.Array) -> jax.Array:
  return _widen(jnp.asarray(model)) - _widen(base)


def _square(x: jax.Array) -> jax.Array:
  return jnp.sum(jnp.abs(x) ** 2)


def _root(squares: Sequence[jax.Array]) -> jax.Array:
  return jnp.sqrt(sum(squares, jnp.zeros((), jnp.float32)))
