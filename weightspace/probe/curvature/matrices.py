"""Operators made of what is at hand: an array, or a function of trees.

>>> from_matrix(jnp.diag(jnp.array([1.0, 2.0])))(jnp.ones(2)).tolist()
[1.0, 2.0]
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.probe.curvature import operators
from weightspace.probe.curvature.operators import Operator, Part, Product
from weightspace.types import Params


@dataclasses.dataclass(frozen=True)
class _Matrix:
  """Products with a given array [n, n]."""

  def __call__(self, part: Part, params: Params, given: Any) -> Product:
    highest = jax.lax.Precision.HIGHEST
    return lambda flat: jnp.matmul(given, flat, precision=highest)


@dataclasses.dataclass(frozen=True)
class _Function:
  """Products by a function of trees."""

  function: Callable[[Params], Params]

  def __call__(self, part: Part, params: Params, given: Any) -> Product:
    def product(flat: jax.Array) -> jax.Array:
      tree = part.put(params, part.unravel(flat))
      return part.ravel(part.take(self.function(tree)))

    return product


def from_matrix(array: Any) -> Operator:
  """Return a symmetric array [n, n] as an Operator on vectors [n].

  Raises:
    ValueError: when it is not square or not symmetric beyond rounding.

  >>> from_matrix(jnp.diag(jnp.array([1.0, 2.0])))(jnp.ones(2)).tolist()
  [1.0, 2.0]
  """
  array = jnp.asarray(array)
  if array.ndim != 2 or array.shape[0] != array.shape[1] or not len(array):
    raise ValueError(f"from_matrix: {array.shape}, expected [n, n]")
  wide = array.astype(trees.accumulator(array.dtype))
  gap, size = jnp.abs(wide - wide.T).max(), jnp.abs(wide).max()
  if trees.concrete(array) and gap > 1e3 * jnp.finfo(wide.dtype).eps * size:
    raise ValueError(
      f"from_matrix: differs from its transpose by {float(gap):.2g}, expected a"
      " symmetric one"
    )
  part = Part((0,), (array.shape[:1],))
  return Operator(
    jnp.zeros(len(array), wide.dtype), wide, None, _Matrix(), part
  )


def from_function(
  product: Callable[[Params], Params], like: Params
) -> Operator:
  """Return a function of trees, v -> A v, as an Operator.

  Args:
    product: a linear symmetric function; what it closes over is
      read at each use.
    like: a tree of the shapes that it takes and gives.

  >>> from_function(lambda v: 3.0 * v, jnp.zeros(2))(jnp.ones(2)).tolist()
  [3.0, 3.0]
  """
  part, _ = operators.select(like, None, None, "from_function")
  return Operator(like, None, None, _Function(product), part)


def check_key(key: Any, what: str) -> None:
  """Raise a ValueError for what is no key of random numbers.

  >>> check_key(0, "trace")
  Traceback (most recent call last):
  ...
  ValueError: trace: key is an int, expected a key such as jax.random.key(0)
  """
  dtype = getattr(key, "dtype", None)
  typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
  words = dtype == jnp.uint32 and np.shape(key)[-1:] in ((2,), (4,))
  if not (typed or words):
    name = type(key).__name__
    article = "an" if name[:1] in "aeiou" else "a"
    raise ValueError(
      f"{what}: key is {article} {name}, expected a key such as"
      " jax.random.key(0)"
    )


def as_operator(thing: Any, what: str) -> Operator:
  """Return an Operator as it is, an array [n, n] too.

  Raises:
    ValueError: for anything else.
  """
  if isinstance(thing, Operator):
    return operators.current(thing)
  if np.ndim(thing) == 2 and not callable(thing):
    return from_matrix(thing)
  raise ValueError(
    f"{what}: got a {type(thing).__name__}, expected an operator (hessian, ggn,"
    " fisher, from_function) or a symmetric array [n, n]"
  )
