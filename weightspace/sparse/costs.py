"""What a sparse network would cost: products by the density of their weights.

Operations are counted off the program, so convolutions, shared weights and
scanned layers count as often as they run.  Unstructured zeros save nothing on
most devices: these are operations that must be done, not seconds.

>>> import jax.numpy as jnp
>>> def apply(params, x):
...   return x @ params["w"]
>>> mask = {"w": jnp.array([[True, False], [False, False]])}
>>> flops(apply, {"w": jnp.ones((2, 2))}, mask, jnp.ones((3, 2)))
6.0
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from weightspace import trees
from weightspace.jaxpr import graph
from weightspace.sparse import masks
from weightspace.types import Params

# What changes the shape or the type of a weight, and not which of it is zero.
SHAPES = {"reshape", "transpose", "convert_element_type", "broadcast_in_dim"}
SHAPES |= {"squeeze", "copy", "rev"}


def flops(
  function: Callable[..., Any], params: Params, mask: Params, *args: Any
) -> float:
  """Return the operations of `function(params, *args)` that zeros do not spare.

  A product with a weight counts by the share that its mask keeps; of a scanned
  leaf that of all layers.  Products of values alone count in full; the body of
  a `while` counts once, and of branches the longest.

  Args:
    function: any JAX-traceable function.
    params: of one model, or its shapes.
    mask: booleans, shaped as `params`.
    *args: further arguments, or their shapes.

  Returns:
    Operations, two for each multiplication with its addition.

  Raises:
    ValueError: at the first leaf that the mask does not fit.

  >>> mask, w = {"w": np.array([True, False])}, {"w": np.ones(2)}
  >>> flops(lambda p, x: x @ p["w"], w, mask, np.ones(2))
  2.0
  """
  masks.check(params, mask, "flops")
  closed = jax.make_jaxpr(function)(params, *args)
  shares: list[float | None] = [
    float(np.mean(np.asarray(x))) for x in trees.named(mask).values()
  ]
  rest = len(closed.jaxpr.invars) - len(shares)
  return _flops(closed, shares + [None] * rest)


def _flops(closed: Any, shares: Sequence[float | None]) -> float:
  """Count a program, given which share of each input is kept, if a weight."""
  program, total = graph.opened(closed), 0.0
  kept: dict[Any, float | None] = dict(zip(program.inputs, shares))

  def share(value: Any) -> float | None:
    return kept.get(value) if isinstance(value, graph.Ref) else None

  for eqn in program.equations:
    name, params = eqn.primitive.name, eqn.params
    given = [share(value) for value in eqn.inputs]
    if name == "scan":
      total += params["length"] * _flops(params["jaxpr"], given)
    elif name == "while":
      skip = params["cond_nconsts"]
      total += _flops(params["body_jaxpr"], given[skip:])
    elif name == "cond":
      total += max(_flops(branch, given[1:]) for branch in params["branches"])
    elif name in SHAPES and given[0] is not None:
      kept[eqn.outputs[0]] = given[0]
    else:
      weights = [1.0 if one is None else one for one in given]
      total += graph.product_flops(eqn) * float(np.prod(weights))
  return total
