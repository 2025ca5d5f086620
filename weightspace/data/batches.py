"""From arrays to batches, and transforms of a batch before the loss sees it.

`batches` cuts a data set into equal shapes (one compiled program) and weighs
the examples, so that sums over it are exact: the padding weighs 0, and nobody
needs a mean of means.  A transform is `prepare(key, batch) -> batch`.

>>> parts = list(batches({"x": np.arange(5)}, size=2))
>>> sum((part["weight"] * part["x"]).sum() for part in parts).item()
10.0
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.types import Key

Batch = dict[str, Any]
Prepare = Callable[[Key, Mapping[str, Any]], Batch]


def batches(data: Mapping[str, Any], size: int) -> Iterator[Batch]:
  """Cut a data set into batches of one size, in order, with weights.

  Args:
    data: arrays [N, ...].
    size: examples in a batch; the last one is filled up with copies of the
      last example (not with zeros, on which a loss may not be finite).

  Yields:
    The arrays [size, ...] and "weight" [size] float32: 1, or 0 for the filling.

  Raises:
    ValueError: when the arrays disagree on N, there is none, or size < 1.

  >>> [part["weight"].tolist() for part in batches({"x": np.ones(3)}, size=2)]
  [[1.0, 1.0], [1.0, 0.0]]
  """
  counts = {name: len(array) for name, array in data.items()}
  count = min(counts.values(), default=0)
  if not count or len(set(counts.values())) > 1 or "weight" in data or size < 1:
    raise ValueError(
      f"arrays of {counts} examples in batches of {size}, expected equally"
      ' many, at least one, none of them named "weight"'
    )
  for start in range(0, count, size):
    at = np.arange(start, start + size)
    batch = {k: v[np.minimum(at, count - 1)] for k, v in data.items()}
    yield {**batch, "weight": (at < count).astype(np.float32)}


def one_hot(y: jax.Array, classes: int) -> jax.Array:
  """Return labels [N] as float32 [N, classes]; soft labels pass unchanged.

  >>> one_hot(jnp.array([1]), 3).tolist()
  [[0.0, 1.0, 0.0]]
  """
  y = jnp.asarray(y)
  if jnp.issubdtype(y.dtype, jnp.integer):
    return jax.nn.one_hot(y, classes, dtype=jnp.float32)
  if y.ndim < 1 or y.shape[-1] != classes:
    raise ValueError(
      f"y: {y.dtype} of shape {y.shape}, expected integers or soft labels"
      f" [N, {classes}]"
    )
  return y


def smooth_labels(epsilon: float, classes: int) -> Prepare:
  """Build a transform that softens labels: (1 - epsilon) y + epsilon / classes.

  Args:
    epsilon: from 0 to 1.
    classes: how many there are.

  Returns:
    prepare(key, batch), which makes "y" float32 [B, classes].

  >>> batch = {"y": jnp.array([0])}
  >>> smooth_labels(0.5, 2)(jax.random.key(0), batch)["y"].tolist()
  [[0.75, 0.25]]

  Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7.
  """
  if not 0 <= epsilon <= 1:
    raise ValueError(f"epsilon {epsilon}, expected 0 to 1")

  def prepare(key: Key, batch: Mapping[str, Any]) -> Batch:
    soft = (1 - epsilon) * one_hot(batch["y"], classes) + epsilon / classes
    return {**batch, "y": soft}

  return prepare


def mixup(alpha: float, classes: int) -> Prepare:
  """Build a transform that mixes each example with another of its batch.

  x <- lambda x + (1 - lambda) x', y likewise, with x' a permutation of the
  batch and one lambda ~ Beta(alpha, alpha) for all of it (as in the paper's
  listing; its formula has one for each pair).

  Args:
    alpha: above 0; larger mixes more.
    classes: how many there are.

  Returns:
    prepare(key, batch), which keeps the dtype of "x" (floats) and makes "y"
    float32 [B, classes].

  >>> batch = {"x": jnp.ones((4, 2)), "y": jnp.arange(4)}
  >>> mixup(0.2, 4)(jax.random.key(0), batch)["y"].sum().item()
  4.0

  Zhang et al. 2018, "mixup", https://arxiv.org/abs/1710.09412.
  """
  if not alpha > 0:
    raise ValueError(f"alpha {alpha}, expected above 0")

  def prepare(key: Key, batch: Mapping[str, Any]) -> Batch:
    x, y = jnp.asarray(batch["x"]), one_hot(batch["y"], classes)
    if not jnp.issubdtype(x.dtype, jnp.floating):
      raise ValueError(f"x: {x.dtype}, expected floats: integers do not mix")
    share_key, order_key = jax.random.split(key)
    share = jax.random.beta(share_key, alpha, alpha)
    order = jax.random.permutation(order_key, len(x))
    wide = x.astype(jnp.float32)
    mixed = share * wide + (1 - share) * wide[order]
    soft = share * y + (1 - share) * y[order]
    return {**batch, "x": mixed.astype(x.dtype), "y": soft}

  return prepare
