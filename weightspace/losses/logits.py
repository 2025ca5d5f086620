"""Losses and scores of logits, one number per example.

A loss of the library is `loss(params, data)`, scalar or [B]; `of` makes one
from a model's apply and a metric.  Numbers per example keep what a mean throws
away: intervals, and means over batches of different sizes that are exact.

>>> loss = of(lambda params, x: params * x, cross_entropy)
>>> batch = {"x": jnp.zeros((1, 4)), "y": jnp.array([2])}
>>> round(loss(1.0, batch).item(), 4)  # log 4
1.3863
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.types import Apply, Loss

IGNORE = -100  # the label of what has none
Metric = Callable[[jax.Array, Any], jax.Array]  # metric(logits, labels) -> [B]


def _shares(logits: jax.Array, labels: jax.Array) -> bool:
  """Tell whether labels are probabilities; raise where they fit neither way."""
  if logits.ndim < 2:
    raise ValueError(f"logits: {logits.shape}, expected [B, ..., classes]")
  if labels.shape == logits.shape:
    return True
  if labels.shape != logits.shape[:-1]:
    raise ValueError(
      f"labels: {labels.shape}, expected {logits.shape[:-1]} or {logits.shape}"
      f" for logits {logits.shape}"
    )
  if not jnp.issubdtype(labels.dtype, jnp.integer):
    raise ValueError(f"labels: {labels.dtype}, expected whole numbers")
  return False


def per_example(x: jax.Array, kept: jax.Array | None = None) -> jax.Array:
  """Return the mean of [B, ...] over all axes but the first, of those kept.

  An example of which nothing is kept has 0.

  >>> kept = jnp.array([[True, False], [False, False]])
  >>> per_example(jnp.array([[2.0, 9.0], [9.0, 9.0]]), kept).tolist()
  [2.0, 0.0]
  """
  axes = tuple(range(1, x.ndim))
  if kept is None:
    return x.mean(axes) if axes else x
  count = jnp.maximum(kept.sum(axes), 1).astype(x.dtype)
  return jnp.where(kept, x, 0.0).sum(axes) / count


def wide(logits: jax.Array) -> jax.Array:
  """Return logits in float32, float64 as they are."""
  return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def expected(shares: jax.Array, values: jax.Array) -> jax.Array:
  """Return sum_c shares_c values_c, without what has no share.

  A class that is masked out has a logit of -inf and no share, and counts for
  nothing; neither does its gradient.

  >>> expected(jnp.array([1.0, 0.0]), jnp.array([2.0, -jnp.inf])).item()
  2.0
  """
  return (shares * jnp.where(shares > 0, values, 0.0)).sum(-1)


def cross_entropy(
  logits: jax.Array, labels: jax.Array, ignore: int = IGNORE
) -> jax.Array:
  """Return -sum_c y_c log softmax(logits)_c for each example, in nats.

  Args:
    logits: [B, C], or [B, T, V] for a language model; -inf for a class that is
      masked out.
    labels: whole numbers [B] or [B, T], or probabilities shaped as the logits.
    ignore: a label that says that there is none: its place does not count.

  Returns:
    [B] float32 (float64 of float64); the mean over T where there is one, over
    the places that have a label.  An example without any is 0: give it weight
    0.  A label that is no class is NaN.

  Raises:
    ValueError: when the labels do not fit the logits.

  >>> cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])).round(4).tolist()
  [1.386..., 1.386...]
  >>> cross_entropy(jnp.zeros((1, 2, 4)), jnp.array([[0, -100]])).tolist()
  [1.386...]

  That a label of -100 is none is the habit of PyTorch's cross_entropy.
  """
  labels, logits = jnp.asarray(labels), jnp.asarray(logits)
  shares = _shares(logits, labels)
  logits = wide(logits)
  if shares:
    return per_example(-expected(labels, jax.nn.log_softmax(logits)))
  kept, known = labels != ignore, (labels >= 0) & (labels < logits.shape[-1])
  at = jnp.where(known, labels, 0)[..., None]
  chosen = jnp.take_along_axis(logits, at, axis=-1)[..., 0]
  each = jax.nn.logsumexp(logits, axis=-1) - chosen
  return per_example(jnp.where(known | ~kept, each, jnp.nan), kept)


def accuracy(
  logits: jax.Array, labels: jax.Array, ignore: int = IGNORE
) -> jax.Array:
  """Return for each example the share of labels that have the largest logit.

  Of equal logits the first counts, so a constant model is right on class 0
  only.

  Args:
    logits: [B, C] or [B, T, V].
    labels: whole numbers, or probabilities, of which the largest is meant.
    ignore: a label that says that there is none, as in `cross_entropy`.

  Returns:
    [B] float32: 0 or 1, or the mean over the places of T that have a label.

  Raises:
    ValueError: when the labels do not fit the logits.

  >>> accuracy(jnp.eye(3), jnp.array([0, 1, 1])).tolist()
  [1.0, 1.0, 0.0]
  """
  labels, logits = jnp.asarray(labels), jnp.asarray(logits)
  kept = None
  if _shares(logits, labels):
    labels = labels.argmax(-1)
  else:
    kept = labels != ignore
  return per_example((logits.argmax(-1) == labels).astype(jnp.float32), kept)


def entropy(
  logits: jax.Array, labels: Any = None, ignore: int = IGNORE
) -> jax.Array:
  """Return the entropy of softmax(logits) for each example, in nats.

  Args:
    logits: [B, C] or [B, T, V]; -inf for a class that is masked out.
    labels: there so that `of` takes it as a metric; of whole numbers those that
      are none take their place out, others are not looked at.
    ignore: a label that says that there is none.

  Returns:
    [B] float32 (float64 of float64), between 0 and log C.

  >>> entropy(jnp.zeros((1, 4))).round(4).tolist()  # log 4
  [1.386...]
  """
  logits = wide(jnp.asarray(logits))
  logs = jax.nn.log_softmax(logits)
  return per_example(
    -expected(jnp.exp(logs), logs), labelled(logits, labels, ignore)
  )


def labelled(
  logits: jax.Array, labels: Any, ignore: int = IGNORE
) -> jax.Array | None:
  """Return which places have a label; None where labels do not say.

  >>> labelled(jnp.zeros((2, 3)), jnp.array([1, -100])).tolist()
  [True, False]
  """
  if labels is None or np.shape(labels) != logits.shape[:-1]:
    return None
  labels = jnp.asarray(labels)
  return labels != ignore if jnp.issubdtype(labels.dtype, jnp.integer) else None


def soft_cross_entropy(
  teacher_logits: jax.Array, student_logits: jax.Array
) -> jax.Array:
  """Return the mean of -sum_c softmax(teacher)_c log softmax(student)_c.

  Its gradient by the student is that of the KL divergence; it is not zero but
  the teacher's entropy where the two agree.

  Args:
    teacher_logits: [B, ..., C]; a gradient flows to them too, unless stopped.
    student_logits: of the same shape.

  Returns:
    Scalar in nats, float32 or wider.

  Raises:
    ValueError: for logits of different shapes, or without classes.

  >>> teacher = jnp.array([[0.0, 0.0]])
  >>> soft_cross_entropy(teacher, jnp.array([[0.0, 0.0]])).round(4).item()
  0.693...

  Hinton et al. 2015, https://arxiv.org/abs/1503.02531, at temperature 1.
  """
  teacher, student = jnp.asarray(teacher_logits), jnp.asarray(student_logits)
  if teacher.shape != student.shape or student.ndim < 2:
    raise ValueError(
      f"soft_cross_entropy: {teacher.shape} of the teacher and {student.shape}"
      " of the student, expected both [B, ..., classes]"
    )
  dtype = jnp.promote_types(jnp.float32, student.dtype)
  shares = jax.nn.softmax(teacher.astype(dtype))
  logs = jax.nn.log_softmax(student.astype(dtype))
  return per_example(-expected(shares, logs)).mean()


def of(apply: Apply, metric: Metric) -> Loss:
  """Return loss(params, batch) = metric(apply(params, x), y), for each example.

  Args:
    apply: apply(params, x) -> logits.
    metric: metric(logits, labels) -> [B].

  Returns:
    Loss or Score over batches {"x", "y"}; labels are None where there is no
    "y".

  Raises:
    ValueError: from the loss, when the batch has no "x".

  >>> score = of(lambda params, x: x @ params, accuracy)
  >>> score(jnp.eye(2), {"x": jnp.eye(2), "y": jnp.array([0, 0])}).tolist()
  [1.0, 0.0]
  """

  def loss(params: Any, batch: Any) -> jax.Array:
    if not isinstance(batch, Mapping):
      raise ValueError(
        f"batch: a {type(batch).__name__}, expected a dict of 'x' and 'y'"
      )
    if "x" not in batch:
      raise ValueError(f"batch: has {sorted(batch)}, expected 'x' and 'y'")
    return metric(apply(params, batch["x"]), batch.get("y"))

  return loss
