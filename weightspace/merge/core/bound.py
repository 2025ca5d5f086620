"""A recipe bound to the leaves of a tree: what every way to run it shares.

Merging in memory, leaf by leaf, from files, and reporting all begin alike: the
inputs are checked, the steps are bound to the paths, each leaf gets its context
and what the steps measure over the whole tree is measured.  A `Bound` is the
recipe at that point; `leaf(path)` is what one leaf then goes through.

>>> arrays = {"w": jax.numpy.array([1.0, 3.0])}
>>> bound = bind((steps.mean,), arrays)
>>> bound = bound.measure(bound.over(arrays))
>>> engine.finish(bound.leaf("w"), arrays["w"]).item()
2.0
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax

from weightspace import trees
from weightspace.merge.core import contexts, engine, leaves, steps
from weightspace.types import Key, Params, Stack

# Begins one pass over leaves, each with its path and its context.
Stream = Callable[[], Iterable[tuple[str, leaves.Leaf, steps.At]]]
Measures = tuple[Any, ...]  # of one step, taken one after the other
# From the index of a step and a fold for each of its measures to what each of
# these is to be updated with.
Views = Callable[[int, dict[Measures, engine.Fold]], Iterator[tuple[Any, Any]]]


@dataclasses.dataclass(frozen=True)
class Bound:
  """A recipe's steps, the context of each leaf, and what was measured."""

  chain: engine.Chain
  contexts: dict[str, steps.At]  # by path
  measured: tuple[dict[Measures, Any], ...] = ()  # of each step

  def steps_at(self, path: str) -> engine.Chain:
    """Return the steps that the leaf at `path` goes through."""
    return contexts.at_path(self.chain, path)

  def leaf(self, path: str, at: steps.At | None = None) -> engine.BoundLeaf:
    """Return the steps of one leaf with what they measured.

    Args:
      path: of the leaf.
      at: its context, where that is not the one it was bound with.
    """
    chain = self.steps_at(path)
    at = self.contexts[path] if at is None else at
    return engine.BoundLeaf(chain, at, self.values_of(chain))

  def check(self, path: str, x: Any, at: steps.At) -> None:
    """Let the steps refuse a leaf [M, ...], or its statistics, by its path."""
    for step in self.steps_at(path):
      if step.check and trees.inexact(x):
        step.check(path, x, at)

  def over(self, arrays: Mapping[str, leaves.Leaf]) -> Stream:
    """Return the stream of leaves that are in memory."""
    return lambda: ((p, x, self.contexts[p]) for p, x in arrays.items())

  def values_of(self, chain: engine.Chain) -> tuple[Any, ...]:
    """Return what each step of a leaf has measured, None for nothing."""
    return tuple(
      values.get(step.measures) for step, values in zip(chain, self.measured)
    )

  def measure(self, stream: Stream, compiled: bool = False) -> "Bound":
    """Return the recipe with all its measures taken, a pass over leaves each.

    Args:
      stream: begins a pass over leaves.
      compiled: let each leaf come to a measure through one program.
    """

    def views(bound: "Bound") -> Views:
      def each(index: int, folds: Any) -> Iterator[tuple[Any, Any]]:
        for path, x, at in stream():
          leaf = bound.leaf(path, at)
          measures = leaf.chain[index].measures
          if measures in folds and leaves.is_number(x):
            fold, before = folds[measures], leaf.before(index)
            for item in engine.views(before, fold, x, compiled):
              yield measures, item

      return each

    return self.measured_by(views)

  def measured_by(self, views: Callable[["Bound"], Views]) -> "Bound":
    """Return the recipe with all its measures taken from `views(bound)`."""
    bound = self
    for index in range(len(self.chain)):
      kinds = {
        self.steps_at(path)[index].measures: None for path in self.contexts
      }
      values = _values(list(kinds), index, views(bound))
      bound = dataclasses.replace(bound, measured=(*bound.measured, values))
    return bound


def _values(
  kinds: list[Measures], index: int, views: Views
) -> dict[Measures, Any]:
  """Return the value of the last of each sequence of measures.

  Leaves that resolve to steps with other measures are measured apart, and those
  without measures not at all.
  """
  values: dict[Measures, Any] = {}
  for turn in range(max(map(len, kinds), default=0)):
    folds = {kind: kind[turn] for kind in kinds if turn < len(kind)}
    states = {kind: fold.init(values.get(kind)) for kind, fold in folds.items()}
    states = {kind: s for kind, s in states.items() if s is not None}
    wanted = {kind: folds[kind] for kind in states}
    for kind, item in views(index, wanted) if states else ():
      states[kind] = folds[kind].update(states[kind], item)
    values |= {kind: folds[kind].value(state) for kind, state in states.items()}
  return values


def bind(
  chain: engine.Chain,
  stack: Stack,
  *,
  base: Params | None = None,
  key: Key | None = None,
  statistics: dict[str, Any] | None = None,
  finite: bool = True,
) -> Bound:
  """Check what a recipe is given, and bind its steps to the leaves.

  Args:
    chain: the recipe's steps.
    stack: leaves [M, ...], or their shapes.
    base: what the models were fine-tuned from.
    key: for steps that draw masks.
    statistics: what else the steps need, by name.
    finite: search a base that the steps need for NaN.

  Raises:
    ValueError: naming what is missing, unknown or does not fit.
  """
  sources = contexts.check_given(
    chain, stack, base, key, statistics or {}, finite=finite
  )
  named = trees.named(stack)
  ats = contexts.leaf_contexts(named, base, key, sources)
  bound = Bound(contexts.bind(chain, named), ats)
  if not any(
    isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(sources)
  ):
    for path, x in named.items():
      bound.check(path, x, ats[path])
  return bound
