"""Two models side by side in one twice as wide, and what lies between them.

>>> from weightspace.symmetry import Axes
>>> axes = Axes({"w": "a b"}, {"a": 1, "b": 1}, {})
>>> one = {"w": jnp.ones((1, 1))}
>>> side_by_side(axes, one, one, 0.0)["w"].tolist()
[[1.0, 0.0], [0.0, 1.0]]
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.grow import indices
from weightspace.symmetry import Axes, checks, moving
from weightspace.symmetry.axes import parse
from weightspace.types import Params


def side_by_side(axes: Axes, a: Params, b: Params, fill: Any = 0.0) -> Params:
  """Return the model twice as wide whose first half is a, its second half b.

  A leaf with two widened axes is [[a, fill], [fill, b]]; with one, [a, b]; the
  biases of the output are added.  With fill 0 the function is the sum of the
  two, as long as units of the two halves only meet in sums: a norm over a
  widened axis, a choice among experts, or a layer across tokens sees both.

  Args:
    axes: of a, from `trace_axes`.  The names that lie in no block are doubled:
      heads, not what they hold; inputs and outputs stay.
    a, b: models of one size.
    fill: a number, or parameters of the grown size, for the blocks between.

  Returns:
    Params of the grown size, in the dtypes of `a`.

  Raises:
    ValueError: for models of different sizes; for a leaf without a widened axis
      that is no output and differs; for a fill that does not fit.

  >>> from weightspace.symmetry import Axes
  >>> axes = Axes({"b": "1", "w": "a 1"}, {"a": 1}, {"b:0": "output"})
  >>> one = {"b": jnp.ones(1), "w": jnp.ones((1, 1))}
  >>> [x.tolist() for x in side_by_side(axes, one, one).values()]
  [[2.0], [[1.0], [1.0]]]

  Pham et al. 2023, "MixtureGrowth", https://arxiv.org/abs/2311.04251, whose
  blocks between are mixtures of the halves' templates.
  """
  axes = checks.fitted(axes, a, "side_by_side: a")
  checks.check_params(axes, b, "side_by_side: b")
  patterns, other = trees.named(axes.tree), trees.named(b)
  blocks = functools.partial(_blocks, axes, frozenset(indices.outer(axes)))

  def leaf(path: str, x: Any) -> jax.Array:
    y = jnp.asarray(other[path], jnp.result_type(x))
    return blocks(path, patterns[path], jnp.asarray(x), y)

  def filled(path: str, x: Any, grown: Any, between: Any) -> jax.Array:
    one = jnp.ones(jnp.shape(x), jnp.int8)
    taken = blocks(path, patterns[path], one, one) > 0
    return jnp.where(taken, grown, jnp.asarray(between, grown.dtype))

  grown = trees.map_named(leaf, a)
  if jax.tree_util.treedef_is_leaf(jax.tree.structure(fill)):
    if np.ndim(fill) == 0:
      if trees.concrete(fill) and fill == 0:
        return grown
      fill = jax.tree.map(lambda x: jnp.broadcast_to(fill, x.shape), grown)
  wanted, given = (
    jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), bool), tree)
    for tree in (grown, fill)
  )
  trees.check_same(wanted, given, "side_by_side: fill")
  return trees.map_named(filled, a, grown, fill)


def _blocks(
  axes: Axes, doubled: frozenset[str], path: str, pattern: str, a: Any, b: Any
) -> jax.Array:
  """Return the block matrix of two leaves, with zeros between."""
  summed = any(
    why == "output" and place.rpartition(":")[0] == path
    for place, why in axes.pins.items()
  )

  def change(part: Any, labels: Any) -> jax.Array:
    places = [axis for axis, name in enumerate(labels) if name in doubled]
    if places:
      first, second = ([(0, 0)] * part.ndim for _ in "ab")
      for axis in places:
        first[axis], second[axis] = (0, part.shape[axis]), (part.shape[axis], 0)
      return jnp.pad(part[:1], first) + jnp.pad(part[1:], second)
    if summed:
      return part.sum(0, keepdims=True, dtype=part.dtype)
    if trees.concrete(part) and np.array_equal(part[0], part[1]):
      return part[:1]
    raise ValueError(
      f"side_by_side: {path!r} has no units that are doubled, and is no output;"
      " expected the same in both models"
    )

  words = (2, *parse(pattern))
  return moving.by_parts(jnp.stack([a, b]), words, axes.sizes, change)[0]


def orthogonal(previous: Any) -> jax.Array:
  """Return the unit vector that is orthogonal to coefficients before it.

  The last right singular vector of their matrix, its largest entry positive.

  Args:
    previous: [P, J] coefficients of J templates, P < J; those of one set of
      templates, or the products mean nothing.

  Returns:
    [J].

  Raises:
    ValueError: for P >= J: nothing is orthogonal to all of them.

  >>> [round(v, 3) for v in orthogonal(jnp.array([[3.0, 4.0]])).tolist()]
  [0.8, -0.6]

  Pham et al. 2023, "MixtureGrowth", https://arxiv.org/abs/2311.04251; their
  code stacks those of several sets, and then it is orthogonal to none.
  """
  previous = jnp.asarray(previous)
  if previous.ndim != 2 or previous.shape[0] >= previous.shape[1]:
    raise ValueError(
      f"orthogonal: previous has shape {previous.shape}, expected [P, J] with"
      " fewer rows than templates"
    )
  dtype = jnp.promote_types(jnp.float32, previous.dtype)
  *_, right = jnp.linalg.svd(previous.astype(dtype), full_matrices=True)
  vector = right[-1]
  vector *= jnp.sign(vector[jnp.argmax(jnp.abs(vector))])
  return vector.astype(previous.dtype)
