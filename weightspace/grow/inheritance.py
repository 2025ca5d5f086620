"""A student cut out of its teacher, and the loss that has it follow.

>>> from weightspace.symmetry import Axes
>>> tree = {"block_0": "a", "block_1": "a", "block_2": "a", "block_3": "a"}
>>> params = {name: jnp.arange(4.0) + k for k, name in enumerate(tree)}
>>> axes = Axes(tree, {"a": 4}, {})
>>> student = inherit(axes, params, {"a": 2}, "block_*", [0, 2])
>>> {name: units.tolist() for name, units in student.items()}
{'block_0': [0.0, 1.0], 'block_1': [2.0, 3.0]}
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import losses
from weightspace.grow import depth, indices, numbering, width
from weightspace.grow.depth import Order
from weightspace.grow.indices import Index
from weightspace.symmetry import Axes
from weightspace.types import Params

Features = tuple[jax.Array, jax.Array, Any]  # images, texts, scale


def inherit(
  axes: Axes,
  params: Params,
  sizes: Index,
  pattern: str | None = None,
  order: Order | None = None,
) -> Params:
  """Return a smaller model cut out of a larger one, in width and in depth.

  restack(take(axes, sizes, params), pattern, order); the two commute.

  Args:
    axes: of the teacher, from `trace_axes`.
    params: the teacher.
    sizes: {name: number} of leading units, as `sizes` gives them or as the
      student's own axes have them; or {name: indices} of chosen units.
    pattern: of the teacher's blocks, as in `restack`; None for all blocks.
    order: the blocks to keep, such as `spaced(old, new)`.

  Raises:
    ValueError: for a student that is wider or deeper than its teacher, or
      whatever `take` and `restack` refuse.

  >>> from weightspace.symmetry import Axes
  >>> axes = Axes({"w": "a"}, {"a": 3}, {})
  >>> inherit(axes, {"w": jnp.array([1.0, 2.0, 3.0])}, {"a": [2, 0]})["w"]
  Array([3., 1.], dtype=float32)

  Wu et al. 2023, "TinyCLIP", https://arxiv.org/abs/2309.12314: leading units
  and evenly spaced blocks are their manual inheritance, indices chosen by a
  score their automatic one.
  """
  if (pattern is None) != (order is None):
    raise ValueError("inherit: pattern and order, expected both or neither")
  kept = {}
  for name, places in sizes.items():
    number, size = indices.length(places), axes.sizes.get(name)
    if size is not None and number > size:
      raise ValueError(
        f"inherit: {number} of {size} {name!r}, expected no more than {size}"
      )
    if name not in axes.pins or not isinstance(places, int) or number != size:
      kept[name] = places  # a fixed axis may be named where it stays
  student = width.take(axes, kept, params, unique=True)
  if pattern is None or order is None:
    return student
  _check_depth(student, pattern, order)
  return depth.restack(student, pattern, order)


def _check_depth(params: Params, pattern: str, order: Order) -> None:
  """Raise a ValueError where there are more blocks than before."""
  count = len(numbering.numbers(params, pattern))
  if np.size(order) > count:
    raise ValueError(
      f"inherit: {np.size(order)} of {count} blocks, expected no more"
    )


def affinity(student: Features, teacher: Features) -> jax.Array:
  """Return how far a student's pairing of images and texts is from a teacher's.

  The mean of two soft cross-entropies of scale I T^T: of each image's row of
  texts, and of each text's row of images.

  Args:
    student: (images [N, D], texts [N, D], scale); features as the model
      compares them (of norm 1 in CLIP), scale the inverse temperature.
    teacher: the same of the teacher, of any D; no gradient flows to it.

  Returns:
    Scalar in nats: at an equal student the mean entropy of the teacher's rows.

  Raises:
    ValueError: for features that are no [N, D], or of different N.

  >>> images = texts = jnp.eye(2)
  >>> affinity((images, texts, 0.0), (images, texts, 0.0)).round(4).item()
  0.693...

  Wu et al. 2023, "TinyCLIP", https://arxiv.org/abs/2309.12314, section 3.1; the
  mean of the directions as in their code (a sum of KL divergences in the text).
  """
  logits = []
  for name, (images, texts, scale) in (
    ("student", student),
    ("teacher", teacher),
  ):
    shapes = np.shape(images), np.shape(texts)
    if len(shapes[0]) != 2 or shapes[0] != shapes[1]:
      raise ValueError(
        f"affinity: {name} has images {shapes[0]} and texts {shapes[1]},"
        " expected both [N, D]"
      )
    product = jnp.matmul(images, jnp.transpose(texts), precision="highest")
    logits.append(scale * product)
  ours, theirs = logits[0], jax.lax.stop_gradient(logits[1])
  if ours.shape != theirs.shape:
    raise ValueError(
      f"affinity: {len(ours)} pairs of the student and {len(theirs)} of the"
      " teacher, expected one number"
    )
  by_image = losses.soft_cross_entropy(theirs, ours)
  by_text = losses.soft_cross_entropy(theirs.T, ours.T)
  return (by_image + by_text) / 2
