"""How one leaf goes through the steps of a recipe.

A `BoundLeaf` is the steps of a leaf with all that they are to know of it.  It
is a pytree whose steps are static, so that each function here may be compiled,
and leaves of one shape with the same steps share a program.

>>> mean = BoundLeaf((steps.mean,), steps.At())
>>> finish(mean, jnp.array([1.0, 3.0])).item()
2.0
"""

import dataclasses
import functools
import operator
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.merge.core import leaves, steps

Chain = tuple[steps.Step, ...]
Fold = steps.Fold | steps.Measure


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BoundLeaf:
  """The steps that one leaf goes through, and what they know of it."""

  chain: Chain = dataclasses.field(metadata={"static": True})
  at: steps.At
  measured: tuple[Any, ...] = ()  # for each step, over the whole tree
  known: tuple[Any, ...] = ()  # for each step, its `local` of this leaf

  def before(self, index: int) -> "BoundLeaf":
    """Return the leaf as bound to the steps before the one at `index`."""
    return dataclasses.replace(
      self, chain=self.chain[:index], measured=self.measured[:index]
    )

  @property
  def reduces(self) -> bool:
    """Whether one model comes out."""
    return any(step.reduces for step in self.chain)


def through(bound: BoundLeaf, leaf: leaves.Leaf) -> jax.Array:
  """Return a leaf [M, ...] behind its steps, in the dtype of sums.

  What a step's `local` says is measured on the way where it is not known.
  """
  x = leaves.widened(leaf)
  at = bound.at._replace(base=leaves.widen(bound.at.base))
  for index, step in enumerate(bound.chain):
    values = bound.measured[index : index + 1]
    at = at._replace(measured=values[0] if values else None, local=None)
    if step.local and index < len(bound.known):
      at = at._replace(local=bound.known[index])
    elif step.local:
      x = leaves.stacked(x)
      at = at._replace(local=steps.through(step.local, x, at))
    x = leaves.edited(step, x, at)
  return leaves.stacked(x)


def _view(fold: Fold, bound: BoundLeaf, leaf: leaves.Leaf) -> Any:
  """Return what a measure sees of a leaf behind its steps."""
  at = bound.at._replace(base=leaves.widen(bound.at.base))
  return steps.view(fold, through(bound, leaf), at)


_view_compiled = jax.jit(_view, static_argnums=0)


def views(
  bound: BoundLeaf, fold: Fold, leaf: leaves.Leaf, compiled: bool = False
) -> Iterator[tuple[Any, steps.At]]:
  """Yield what a measure is to be updated with: views of a leaf, or pieces.

  With `compiled`, each is one program, and what the steps' `local` says is
  taken outside of it.
  """
  if not compiled:
    yield _view(fold, bound, leaf), bound.at
    return
  bound = look(bound, leaf)
  parts: Any = [(leaf, bound.at)]
  if getattr(fold, "pieces", False) and leaves.divides(
    bound.chain, leaf, bound.at, leaves.PIECE
  ):
    parts = leaves.pieces(leaf, bound.at, leaves.PIECE)
  for part, at in parts:
    there = dataclasses.replace(bound, at=at)
    yield _view_compiled(fold, there, part), at


def look(bound: BoundLeaf, leaf: leaves.Leaf) -> BoundLeaf:
  """Return the leaf with the `local` of each step known.

  They are taken outside of a compiled program, where NumPy may do it.
  """
  last = max((i for i, s in enumerate(bound.chain) if s.local), default=-1)
  known: tuple[Any, ...] = ()
  for index, step in enumerate(bound.chain[: last + 1]):
    value: Any = None
    if leaves.is_number(leaf):
      before = dataclasses.replace(bound.before(index), known=known)
      for measure in step.local:
        value = _local(before, measure, leaf, value)
    known = (*known, value)
  return dataclasses.replace(bound, known=known)


def _local(
  bound: BoundLeaf, measure: steps.Measure, leaf: leaves.Leaf, value: Any
) -> Any:
  """Return what a measure says of one leaf, given the value of the last."""
  state = measure.init(value)
  if state is None:
    return value
  for item in views(bound, measure, leaf, compiled=True):
    state = measure.update(state, item)
  return measure.value(state)


def stages(bound: BoundLeaf, x: jax.Array) -> list[jax.Array]:
  """Return a leaf as it came and as it left each step."""
  return [
    through(bound.before(index), x) for index in range(len(bound.chain) + 1)
  ]


def finish(
  bound: BoundLeaf, leaf: leaves.Leaf, marked: bool = False
) -> jax.Array:
  """Return one merged leaf in its input dtype.

  Args:
    bound: its steps.
    leaf: [M, ...], or M arrays [...].
    marked: set the entries to NaN of which a model or the base is NaN, where a
      step might have hidden it.
  """
  if not leaves.is_number(leaf):
    return leaf[0] if bound.reduces else leaves.stacked(leaf)
  x = through(bound, leaf)
  if marked:
    bad = _nan_somewhere(leaf, bound.at.base)
    bad = bad if bad.ndim == x.ndim else bad[None]
    x = jnp.where(bad, jnp.nan, x)
  like = leaves.example(leaf)
  if leaves.is_complex(like):
    one = like.shape if isinstance(leaf, tuple) else like.shape[1:]
    x = leaves.paired(x, one if bound.reduces else (len(x), *one))
  return x.astype(jnp.result_type(like))


def _nan_somewhere(leaf: leaves.Leaf, base: Any) -> jax.Array:
  """Tell for each entry [...] whether a model or the base has a NaN there."""
  inputs = [*leaf, *([] if base is None else [base])]
  return functools.reduce(
    operator.or_, (jnp.isnan(leaves.widen(x)) for x in inputs)
  )


finish_compiled = jax.jit(finish, static_argnames="marked")


def finish_marked(bound: BoundLeaf, leaf: leaves.Leaf) -> jax.Array:
  """Return one merged leaf, `marked`; a long one is merged in pieces.

  The pieces stay in cache, and NumPy gives the result large pages of memory:
  those of an array that XLA makes cost more than a mean of three models.
  """
  bound = look(bound, leaf)
  if not bound.reduces or not leaves.divides(
    bound.chain, leaf, bound.at, leaves.MERGED
  ):
    return finish_compiled(bound, leaf, marked=True)
  merged = leaves.empty(leaf[0].size, jnp.result_type(leaf[0]))
  done = 0
  for part, at in leaves.pieces(leaf, bound.at, leaves.MERGED):
    there = dataclasses.replace(bound, at=at)
    piece = finish_compiled(there, part, marked=True)
    merged[done : done + piece.size] = np.asarray(piece)
    done += piece.size
  (device,) = leaf[0].devices()
  return jax.device_put(merged.reshape(leaf[0].shape), device, may_alias=True)
