"""How far apart two models are: in their answers, and in weight space.

>>> disagreement(jnp.eye(2), jnp.ones((2, 2))).item()
0.5
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.losses import logits
from weightspace.numerics import scales
from weightspace.types import Params


def disagreement(a: Any, b: Any) -> jax.Array:
  """Return the share of examples on which two models answer differently.

  Args:
    a: logits [N, ..., C].
    b: logits of the other model.

  >>> disagreement(jnp.eye(2), jnp.ones((2, 2))).item()
  0.5

  Of model zoos: Yang et al. 2021, https://arxiv.org/abs/2107.11228.
  """
  a, b = jnp.asarray(a), jnp.asarray(b)
  if a.shape != b.shape:
    raise ValueError(f"disagreement: {a.shape} and {b.shape}, expected equal")
  return (a.argmax(-1) != b.argmax(-1)).mean(dtype=jnp.float32)


def js_divergence(a: Any, b: Any) -> jax.Array:
  """Return the mean Jensen-Shannon divergence of softmaxes, in nats.

  KL(p|m)/2 + KL(q|m)/2 with m = (p + q)/2: from 0 to log 2.

  Args:
    a: logits [N, ..., C]; -inf for a class that is masked out.
    b: logits of the other model.

  Raises:
    ValueError: for logits of different shapes.

  >>> js_divergence(jnp.array([[99.0, 0.0]]), jnp.array([[0.0, 99.0]])).round(4)
  Array(0.6931, dtype=float32)

  Lin 1991, https://doi.org/10.1109/18.61115.
  """
  a, b = jnp.asarray(a), jnp.asarray(b)
  if a.shape != b.shape:
    raise ValueError(f"js_divergence: {a.shape} and {b.shape}, expected equal")
  logs = [jax.nn.log_softmax(logits.wide(z)) for z in (a, b)]
  middle = jnp.logaddexp(*logs) - jnp.log(2.0)
  each = [logits.expected(jnp.exp(p), p - middle) for p in logs]
  return (each[0] + each[1]).mean() / 2


def distance(a: Params, b: Params) -> jax.Array:
  """Return |a - b|, the Euclidean distance of two models' parameters.

  >>> a, b = {"w": jnp.array([0.0, 3.0])}, {"w": jnp.array([4.0, 0.0])}
  >>> distance(a, b).item()
  5.0

  Yang et al. 2021, https://arxiv.org/abs/2107.11228.
  """
  trees.check_same(a, b, "distance: model 1")
  gap, scale = _scaled(jax.tree.map(_gap, a, b))
  return scale * jnp.sqrt(_inner(gap, gap))


def cosine(a: Params, b: Params, base: Params | None = None) -> jax.Array:
  """Return <a - base, b - base> / (|a - base| |b - base|); base 0 by default.

  >>> a, b = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([1.0, 1.0])}
  >>> cosine(a, b).round(3)
  Array(0.707, dtype=float32)

  Yang et al. 2021, https://arxiv.org/abs/2107.11228.
  """
  trees.check_same(a, b, "cosine: model 1")
  zero = jax.tree.map(_zeros, a) if base is None else base
  trees.check_same(a, zero, "cosine: base")
  x, y = (_scaled(jax.tree.map(_gap, model, zero))[0] for model in (a, b))
  return scales.ratio(_inner(x, y), _inner(x, x), _inner(y, y))


def _zeros(x: Any) -> Any:
  return jnp.zeros_like(x) if trees.inexact(x) else x


def _scaled(tree: Params) -> tuple[Params, jax.Array]:
  """Return a tree over a power of two, and that power."""
  scale = scales.power(*jax.tree.leaves(tree))
  return jax.tree.map(lambda x: x / scale, tree), scale


def _gap(x: Any, y: Any) -> jax.Array:
  if not trees.inexact(x):
    return jnp.zeros(np.shape(x))
  x, y = jnp.asarray(x), jnp.asarray(y)
  wide = trees.accumulator(x.dtype)
  return x.astype(wide) - y.astype(wide)


def _inner(x: Params, y: Params) -> jax.Array:
  parts = jax.tree.map(lambda a, b: jnp.real(jnp.vdot(a, b)), x, y)
  return jnp.stack(jax.tree.leaves(parts)).sum()
