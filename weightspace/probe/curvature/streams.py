"""Curvature over data that do not fit: one batch in memory at a time.

>>> from weightspace.probe.curvature.curvature import hessian
>>> def loss(w, x): return x * w**2
>>> def begin(): return (jnp.full(n, float(n)) for n in (1, 3))
>>> streamed(lambda x: hessian(loss, jnp.ones(()), x), begin)(1.0).item()
5.0
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.probe.curvature import operators
from weightspace.probe.curvature.operators import Operator, Part, Product
from weightspace.types import Data, Params


@dataclasses.dataclass(frozen=True, eq=False)
class _Stream:
  """Products summed over a stream, on the host."""

  make: Callable[[Data], Operator]
  batches: Callable[[], Iterator[Data]]
  count: Callable[[Data], float]

  def __call__(self, part: Part, params: Params, given: Any) -> Product:
    def product(flat: jax.Array) -> jax.Array:
      total, seen = jnp.zeros_like(flat), 0.0
      for batch in self.batches():
        share, own = self.count(batch), self.make(batch)
        total = total + share * operators.multiply_jit(
          operators.current(own), flat
        )
        seen += share
      return total / seen

    return product


def _length(batch: Data) -> float:
  return float(len(jax.tree.leaves(batch)[0]))


def streamed(
  make: Callable[[Data], Operator],
  batches: Sequence[Data] | Callable[[], Iterable[Data]],
  count: Callable[[Data], float] = _length,
) -> Operator:
  """Return the mean of operators over a stream of batches, by examples.

  A v = sum_b n_b A_b v / sum_b n_b: exact for batches of any sizes, each of
  which compiles once.  Every product reads the stream once, one batch in memory
  at a time.

  Args:
    make: batch -> Operator, such as `lambda b: hessian(loss, params, b)`.
    batches: a list, or a function that begins the stream anew.
    count: batch -> n_b; by default the length of its first leaf.

  Returns:
    Operator, whose products run on the host.

  Raises:
    ValueError: for a stream without batches.

  >>> from weightspace.probe.curvature.curvature import hessian
  >>> def loss(w, x): return x * w**2
  >>> parts = [jnp.array([1.0]), jnp.array([2.0, 3.0])]
  >>> streamed(lambda x: hessian(loss, jnp.ones(()), x), parts)(1.0).item()
  4.0
  """
  begin: Any = batches if callable(batches) else lambda: iter(batches)
  first = next(iter(begin()), None)
  if first is None:
    raise ValueError("streamed: no batches, expected at least one")
  like = make(first)
  stream = _Stream(make, begin, count)
  return Operator(
    like.params, None, like.mask, stream, like.part, True, like.symmetric
  )
