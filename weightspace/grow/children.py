"""Supernets: one set of weights whose slices are all trained at once.

>>> from weightspace.symmetry import Axes
>>> axes = Axes({"v": "a 2", "w": "3 a"}, {"a": 4}, {"w:0": "input"})
>>> def apply(params, x): return jax.nn.relu(x @ params["w"]) @ params["v"]
>>> loss = sandwich(apply, axes, [{}, {"a": 2}, {"a": 1}])
>>> params = {"v": jnp.ones((4, 2)), "w": jnp.ones((3, 4))}
>>> batch = {"x": jnp.ones((1, 3)), "y": jnp.array([0])}
>>> loss(params, batch).round(4).item()  # three times log 2
2.07...
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import losses, trees
from weightspace.grow import indices, width
from weightspace.grow.indices import Index
from weightspace.symmetry import Axes
from weightspace.symmetry.axes import extent, parse
from weightspace.types import Apply, Data, Key, Loss, Params

CHILD = "child"  # of a batch: the numbers of the children that are drawn


def sandwich(
  apply: Apply | Sequence[Apply],
  axes: Axes,
  children: Sequence[Index | float],
  *,
  smoothing: float = 0.1,
  distil: bool = True,
) -> Loss:
  """Return the loss of the largest, the smallest and some children between.

  CE(f(W), y) + sum_c H(softmax(stopgrad f(W)), f(W[c])), a sum: a weight that
  several children share gets the sum of their gradients.

  Args:
    apply: apply(params, x) -> logits at any width; or one for each child, for
      modules that hold their sizes.
    axes: of the whole model, from `trace_axes`.
    children: indices of `take`, or shares of the width, as `sizes` takes them;
      one is the whole model.
    smoothing: of the labels, for the whole model only.
    distil: whether children follow the whole model (in-place distillation)
      rather than the labels.

  Returns:
    Loss over batches {"x", "y"} and, where `draw_children` prepares them,
    "child": the numbers, among those between, of the children that take part;
    all do where there is none.  With a third argument, a key, it draws them
    itself.

  Raises:
    ValueError: for fewer than two children, or where none is the whole model;
      for one that `take` refuses.

  Yu et al. 2020, "BigNAS", https://arxiv.org/abs/2003.11142; the sum, the
  smoothing of 0.1 and the soft cross-entropy are those of AttentiveNAS's code
  (BigNAS has none), https://github.com/facebookresearch/AttentiveNAS.
  """
  slices, order = _ordered(axes, children)
  applies = [apply] * len(slices) if callable(apply) else list(apply)
  if len(applies) != len(slices):
    raise ValueError(
      f"sandwich: {len(applies)} functions for {len(slices)} children"
    )

  def logits(number: int, params: Params, x: Any) -> jax.Array:
    return applies[number](width.take(axes, slices[number], params), x)

  def loss(params: Params, batch: Data, key: Key | None = None) -> jax.Array:
    if key is not None and CHILD not in batch and len(order) > 2:
      batch = draw_children(slices)(key, batch)
    x, labels = batch["x"], jnp.asarray(batch["y"])
    largest = logits(order[-1], params, x)
    teacher = jax.lax.stop_gradient(largest)

    def follow(number: int, params: Params, x: Any) -> jax.Array:
      student = logits(number, params, x)
      if distil:
        return losses.soft_cross_entropy(teacher, student)
      return losses.cross_entropy(student, labels).mean()

    smooth = _smoothed(labels, largest.shape, smoothing)
    total = losses.cross_entropy(largest, smooth).mean()
    total += follow(order[0], params, x)
    between = [_branch(follow, number) for number in order[1:-1]]
    if CHILD not in batch:
      return total + sum(branch(params, x) for branch in between)
    for number in jnp.ravel(jnp.asarray(batch[CHILD])):
      total += jax.lax.switch(number, between, params, x)
    return total

  return loss


def draw_children(
  children: Sequence[Index | float], count: int = 2
) -> Callable[[Key, Data], Data]:
  """Return prepare(key, batch) that draws which children take part in a step.

  Args:
    children: of `sandwich`; those between the smallest and the largest are
      drawn, with replacement.
    count: how many.

  >>> prepare = draw_children([{}, {"a": 3}, {"a": 2}, {"a": 1}])
  >>> prepare(jax.random.key(0), {"x": 0.0})["child"].shape
  (2,)

  Two, as AttentiveNAS's code draws them.
  """
  between = len(children) - 2
  if between < 1 or count < 1:
    raise ValueError(
      f"draw_children: {count} of {between} children between the smallest and"
      " the largest, expected at least 1 of 1"
    )

  def prepare(key: Key, batch: Data) -> Data:
    return batch | {CHILD: jax.random.randint(key, (count,), 0, between)}

  return prepare


def _ordered(
  axes: Axes, children: Sequence[Index | float]
) -> tuple[list[Index], list[int]]:
  """Return the slices, and their numbers from the smallest to the whole."""
  slices = [
    width.sizes(axes, c) if isinstance(c, int | float) else c for c in children
  ]
  for child in slices:
    indices.check_range(axes, indices.checked(axes, child, False, True), True)
  order = _by_size(axes, slices)
  if len(order) < 2 or _changes(axes, slices[order[-1]]):
    raise ValueError(
      f"sandwich: {len(order)} children, expected two or more, of which one has"
      " all units"
    )
  return slices, order


def _branch(
  follow: Callable[[int, Params, Any], jax.Array], number: int
) -> Callable[[Params, Any], jax.Array]:
  return lambda params, x: follow(number, params, x)


def _smoothed(
  labels: jax.Array, shape: tuple[int, ...], smoothing: float
) -> jax.Array:
  """Return probabilities (1 - s) y + s / C; the labels themselves for s = 0."""
  if not smoothing:
    return labels
  if labels.shape != shape:
    labels = jax.nn.one_hot(labels, shape[-1])
  return (1 - smoothing) * labels + smoothing / shape[-1]


def _by_size(axes: Axes, children: Sequence[Index]) -> list[int]:
  """Return the numbers of the children, that of fewest parameters first."""
  patterns = trees.named(axes.tree)

  def count(child: Index) -> int:
    lengths = {name: indices.length(i) for name, i in child.items()}
    sizes = axes.sizes | lengths
    return sum(
      math.prod(extent(term, sizes) for term in parse(text))
      for text in patterns.values()
    )

  return sorted(range(len(children)), key=lambda k: count(children[k]))


def _changes(axes: Axes, child: Index) -> bool:
  """Tell whether a child lacks units, or has them in another order."""
  return any(
    not np.array_equal(indices.array(axes, child, n), np.arange(axes.sizes[n]))
    for n in child
  )
