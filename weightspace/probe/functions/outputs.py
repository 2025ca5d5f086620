"""A loss as criterion(outputs(params)): what the Gauss-Newton matrix wants.

For `loss(params, data)` the two are read off the jaxpr (`cuts`).  What the
criterion reads of the parameters itself (penalties, learned scales) stands
among the outputs as it is, so its own curvature is that of the Hessian.

>>> def loss(p, d): return (jax.nn.relu(d @ p - 1.0) ** 2).sum()
>>> head, tail = split(loss, jnp.ones((3, 2)), jnp.ones((4, 3)))
>>> values, fixed = head(jnp.ones((3, 2)), jnp.ones((4, 3)))
>>> [value.shape for value in values]
[(4, 2)]
>>> tail(values, fixed, jnp.ones((4, 3))).item()
32.0
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.jaxpr import graph
from weightspace.probe.functions import cuts
from weightspace.types import Data, Loss, Params

Values = list[jax.Array]
Head = Callable[[Params, Data], tuple[Values, Values]]
Tail = Callable[[Values, Values, Data], jax.Array]


def split(
  loss: Loss, params: Params, data: Data, what: str = "ggn"
) -> tuple[Head, Tail]:
  """Return (outputs, criterion) of a loss: `loss = tail(*head(...), data)`.

  Args:
    loss: any JAX-traceable loss.
    params: parameters, or their shapes.
    data: data, or their shapes.
    what: for errors.

  Returns:
    head(params, data) -> (values that move, whole numbers that do not), and
    tail(values, fixed, data) -> the loss.

  Raises:
    ValueError: for a criterion without curvature in its outputs.

  Ours; papers write the network and the criterion apart.
  """
  program = graph.trace(loss, params, data)
  count = len(jax.tree.leaves(params))
  found = cuts.cut(program, count, what)
  dtypes = {
    ref: aval.dtype
    for eqn in program.equations
    for ref, aval in zip(eqn.outputs, eqn.avals[len(eqn.inputs) :])
  }
  leaves = [jnp.result_type(leaf) for leaf in jax.tree.leaves(params)]
  dtypes |= dict(zip(program.inputs, leaves))
  frontier = found.outputs + found.params
  moving = [r for r in frontier if jnp.issubdtype(dtypes[r], jnp.inexact)]
  fixed = [r for r in frontier if r not in moving]
  before = cuts.sliced(program, frontier, set(program.inputs))
  known = set(frontier) | set(program.inputs[count:])
  after = cuts.sliced(program, list(program.outputs), known)

  def head(params: Params, data: Data) -> tuple[Values, Values]:
    env = dict(zip(program.inputs, jax.tree.leaves((params, data))))
    values = graph.evaluate(before, env, moving + fixed)
    return values[: len(moving)], values[len(moving) :]

  def tail(values: Values, rest: Values, data: Data) -> jax.Array:
    env = dict(zip(program.inputs[count:], jax.tree.leaves(data)))
    env |= dict(zip(moving + fixed, [*values, *rest]))
    return graph.evaluate(after, env, program.outputs)[0]

  return head, tail


def given(apply: Any, metric: Any) -> tuple[Head, Tail]:
  """Return (outputs, criterion) of a model's apply and a metric.

  >>> head, tail = given(lambda p, x: p * x, lambda z, y: (z - y) ** 2)
  >>> batch = {"x": jnp.array([2.0]), "y": jnp.array([1.0])}
  >>> tail(*head(3.0, batch), batch).tolist()
  [25.0]
  """

  def head(params: Params, data: Data) -> tuple[Values, Values]:
    return [jnp.asarray(apply(params, data["x"]))], []

  def tail(values: Values, rest: Values, data: Data) -> jax.Array:
    return metric(values[0], data.get("y"))

  return head, tail


def check_curved(
  apply: Any, metric: Any, params: Params, data: Data, what: str
) -> None:
  """Raise a ValueError for a metric that is affine in the model's outputs."""
  z = jax.eval_shape(lambda p, d: apply(p, d["x"]), params, data)
  program = graph.trace(lambda z, d: metric(z, d.get("y")), z, data)
  if not cuts.curves(program, program.inputs[0], list(program.inputs[:1])):
    raise ValueError(
      f"{what}: the loss is affine in the outputs of apply, so the matrix would"
      " be zero, expected one with curvature (such as a squared error)"
    )
