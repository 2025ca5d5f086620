"""Losses and scores of logits, one number per example.

A loss of the library is `loss(params, data)`, scalar or [B]; `of` makes one
from a model's apply and a metric.  Numbers per example keep what a mean throws
away: intervals, and means over batches of different sizes that are exact.

>>> loss = of(lambda params, x: params * x, cross_entropy)
>>> batch = {"x": jnp.zeros((1, 4)), "y": jnp.array([2])}
>>> round(loss(1.0, batch).item(), 4)  # log 4
1.3863
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.types import Apply, Loss

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


def _per_example(x: jax.Array) -> jax.Array:
  return x.mean(tuple(range(1, x.ndim))) if x.ndim > 1 else x


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return -sum_c y_c log softmax(logits)_c for each example, in nats.

  Args:
    logits: [B, C], or [B, T, V] for a language model.
    labels: whole numbers [B] or [B, T], or probabilities shaped as the logits.

  Returns:
    [B] float32; the mean over T where there is one.

  Raises:
    ValueError: when the labels do not fit the logits.

  >>> cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])).round(4).tolist()
  [1.386..., 1.386...]
  """
  labels = jnp.asarray(labels)
  shares = _shares(logits, labels)
  logits = logits.astype(jnp.float32)
  if shares:
    chosen = (labels * jax.nn.log_softmax(logits)).sum(-1)
    return _per_example(-chosen)
  chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
  return _per_example(jax.nn.logsumexp(logits, axis=-1) - chosen)


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return for each example the share of labels that have the largest logit.

  Of equal logits the first counts, so a constant model is right on class 0
  only.

  Args:
    logits: [B, C] or [B, T, V].
    labels: whole numbers, or probabilities, of which the largest is meant.

  Returns:
    [B] float32: 0 or 1, or the mean over T.

  Raises:
    ValueError: when the labels do not fit the logits.

  >>> accuracy(jnp.eye(3), jnp.array([0, 1, 1])).tolist()
  [1.0, 1.0, 0.0]
  """
  labels = jnp.asarray(labels)
  if _shares(logits, labels):
    labels = labels.argmax(-1)
  return _per_example((logits.argmax(-1) == labels).astype(jnp.float32))


def entropy(logits: jax.Array, labels: Any = None) -> jax.Array:
  """Return the entropy of softmax(logits) for each example, in nats.

  Args:
    logits: [B, C] or [B, T, V].
    labels: not looked at; there so that `of` takes it as a metric.

  Returns:
    [B] float32, between 0 and log C.

  >>> entropy(jnp.zeros((1, 4))).round(4).tolist()  # log 4
  [1.386...]
  """
  logs = jax.nn.log_softmax(logits.astype(jnp.float32))
  return _per_example(-(jnp.exp(logs) * logs).sum(-1))


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
  logs = jnp.where(shares > 0, logs, 0.0)  # logits of -inf: 0 log 0 is 0
  return _per_example(-(shares * logs).sum(-1)).mean()


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
    if "x" not in batch:
      raise ValueError(f"batch: has {sorted(batch)}, expected 'x' and 'y'")
    return metric(apply(params, batch["x"]), batch.get("y"))

  return loss
