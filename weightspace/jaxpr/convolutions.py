"""Convolutions inside loops: laid out as XLA's CPU backend has them fast.

XLA's CPU backend gives a convolution to its quick kernels when batch and
channels lie as in [N, H, W, C] and [H, W, in, out].  It brings convolutions
into that order itself, but only those outside of loops; in the body of a scan,
a map or a while loop the gradients of convolutions, whose order is another, run
by plain loops, ten to thirty times slower.  `canonical` brings them into order
before they enter a loop.

>>> def double(x):
...   kernel = jnp.full((1, 1, 1), 2.0)
...   return jax.lax.conv_general_dilated(x, kernel, (1,), "SAME")
>>> canonical(double)(jnp.ones((1, 1, 3))).ravel().tolist()
[2.0, 2.0, 2.0]
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from weightspace.jaxpr import graph


def canonical(function: Callable[..., Any]) -> Callable[..., Any]:
  """Return the same function with its convolutions in the order that is fast.

  On the CPU only, and only where there are any.  For the body of a loop that
  takes gradients: derivatives are to be taken within the function, since rules
  of its own (jax.custom_jvp) are not kept.

  Args:
    function: of trees of arrays; traceable.

  >>> kernel_gradient = jax.grad(
  ...   lambda w: jax.lax.conv(jnp.ones((1, 1, 4)), w, (1,), "SAME").sum())
  >>> canonical(kernel_gradient)(jnp.ones((1, 1, 3))).ravel().tolist()
  [3.0, 4.0, 3.0]
  """

  @functools.wraps(function)
  def rewritten(*args: Any) -> Any:
    if jax.default_backend() != "cpu":
      return function(*args)
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    program, given = graph.opened(closed), jax.tree.leaves(args)
    names = {eqn.primitive.name for eqn in program.equations}
    if names & RULES.keys():
      env = dict(zip(program.inputs, given))
      found = graph.evaluate(program.equations, env, program.outputs, RULES)
    else:  # as it is, without a second trace
      found = jex.jaxpr_as_fun(closed)(*given)
    return jax.tree.unflatten(jax.tree.structure(shape), found)

  return rewritten


def convolves(function: Callable[..., Any], *args: Any) -> bool:
  """Tell whether a function of arrays convolves, in loops of its own too.

  >>> convolves(jnp.sin, 1.0)
  False
  """
  return any(name in str(jax.make_jaxpr(function)(*args)) for name in RULES)


def _convolve(
  x: jax.Array, kernel: jax.Array, *, dimension_numbers: Any, **rest: Any
) -> jax.Array:
  """Convolve in the order [N, space, C], [space, in, out], and turn back."""
  inputs, filters, outputs = dimension_numbers
  last = len(inputs) - 1
  space = range(1, last)
  order = jax.lax.ConvDimensionNumbers(
    (0, last, *space), (last, last - 1, *range(last - 1)), (0, last, *space)
  )
  batch, features, *places = inputs
  x = jnp.transpose(x, (batch, *places, features))
  out, into, *places = filters
  kernel = jnp.transpose(kernel, (*places, into, out))
  rest.pop("out_sharding", None)  # of meshes whose axes are explicit
  found = jax.lax.conv_general_dilated(
    x, kernel, dimension_numbers=order, **rest
  )
  batch, features, *places = outputs
  came = {batch: 0, features: last} | dict(zip(places, space))
  return jnp.transpose(found, [came[axis] for axis in range(last + 1)])


RULES = {"conv_general_dilated": _convolve}
