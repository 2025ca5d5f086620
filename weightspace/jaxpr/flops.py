"""Arithmetic: what a program must compute, and how quickly this device can.

Matrix products and convolutions are counted off the jaxpr; the rest of a
network's work is small beside them.  A device's rate is measured on one large
product, which no program is quicker than: together they are a floor of time.

>>> operations(jax.make_jaxpr(jnp.dot)(jnp.ones((2, 3)), jnp.ones((3, 4))))
48
"""

import time
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.jaxpr import graph

SIZE = 1024  # of the square matrices whose product is timed
TURNS = 5


def operations(closed: Any) -> int:
  """Return the floating-point operations of a jaxpr's matrix products.

  The body of a scan counts as often as it runs; that of a `while`, whose turns
  nobody knows, counts once; of branches the longest counts.

  Args:
    closed: a closed jaxpr, as `jax.make_jaxpr` gives it.

  Returns:
    Operations, two for each multiplication with its addition.

  >>> def powers(x):
  ...   return jax.lax.scan(lambda y, _: (y @ x, None), x, length=5)[0]
  >>> operations(jax.make_jaxpr(powers)(jnp.ones((2, 2))))
  80
  """
  return sum(map(_operations, graph.opened(closed).equations))


def _operations(eqn: graph.Equation) -> int:
  name, params = eqn.primitive.name, eqn.params
  if name == "scan":
    return params["length"] * operations(params["jaxpr"])
  if name == "while":
    return operations(params["body_jaxpr"])
  if name == "cond":
    return max(map(operations, params["branches"]))
  return graph.product_flops(eqn)


def rate(device: Any = None) -> float:
  """Measure the operations a second of float32 matrix products here.

  The best of a few turns; about a tenth of a second on two CPU cores.

  >>> rate() > 1e8
  True
  """
  x = jax.device_put(jnp.ones((SIZE, SIZE)), device)
  product = jax.jit(lambda x: x @ x)
  product(x).block_until_ready()
  best = float("inf")
  for _ in range(TURNS):
    began = time.perf_counter()
    product(x).block_until_ready()
    best = min(best, time.perf_counter() - began)
  return 2 * SIZE**3 / best
