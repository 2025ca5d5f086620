"""Where a loss stops being the network: its last use of the parameters.

The Gauss-Newton matrix wants the loss as criterion(outputs(params)).  For
`loss(params, data)` the two are read off the jaxpr: the outputs are the values
after the last equation that uses a parameter (or something made of parameters
alone), and the criterion is the rest.  For a network whose last layer is dense
these are its logits.

>>> def loss(p, d): return jax.nn.relu(d @ p - 1.0).sum()
>>> head, tail = split(loss, jnp.ones((3, 2)), jnp.ones((4, 3)))
>>> values = head(jnp.ones((3, 2)), jnp.ones((4, 3)))
>>> [value.shape for value in values], tail(values, jnp.ones((4, 3))).item()
([(4, 2)], 16.0)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.jaxpr import graph
from weightspace.types import Data, Loss, Params

Head = Callable[[Params, Data], list[jax.Array]]
Tail = Callable[[list[jax.Array], Data], jax.Array]


def split(loss: Loss, params: Params, data: Data) -> tuple[Head, Tail]:
  """Return (outputs, criterion) of a loss: `loss = tail(head(params, data))`.

  Args:
    loss: any JAX-traceable loss.
    params: parameters, or their shapes.
    data: data, or their shapes.

  Returns:
    head(params, data) -> values, and tail(values, data) -> the loss.

  Ours; papers write the network and the criterion apart.
  """
  program = graph.trace(loss, params, data)
  given = program.inputs[: len(jax.tree.leaves(params))]
  # Values made of parameters alone, and all that depend on parameters.
  weights, moved, last = set(given), set(given), -1
  for index, eqn in enumerate(program.equations):
    refs = {i for i in eqn.inputs if isinstance(i, graph.Ref)}
    if refs & moved:
      moved.update(eqn.outputs)
      last = index if refs & weights else last
      if refs <= weights:
        weights.update(eqn.outputs)
  before = program.equations[: last + 1]
  made = {ref for eqn in before for ref in eqn.outputs} | set(given)
  after = [e for e in program.equations[last + 1 :]]
  used = [i for e in after for i in e.inputs] + list(program.outputs)
  frontier = list(
    dict.fromkeys(
      i for i in used if isinstance(i, graph.Ref) and i in made & moved
    )
  )
  fixed = [e for e in before if not moved & set(e.outputs)]

  def head(params: Params, data: Data) -> list[jax.Array]:
    env = dict(zip(program.inputs, jax.tree.leaves((params, data))))
    return graph.evaluate(before, env, frontier)

  def tail(values: list[jax.Array], data: Data) -> jax.Array:
    env = dict(zip(program.inputs[len(given) :], jax.tree.leaves(data)))
    env |= dict(zip(frontier, values))
    return graph.evaluate([*fixed, *after], env, program.outputs)[0]

  return head, tail


def given(apply: Any, metric: Any) -> tuple[Head, Tail]:
  """Return (outputs, criterion) of a model's apply and a metric.

  >>> head, tail = given(lambda p, x: p * x, lambda z, y: (z - y) ** 2)
  >>> batch = {"x": jnp.array([2.0]), "y": jnp.array([1.0])}
  >>> tail(head(3.0, batch), batch).tolist()
  [25.0]
  """

  def head(params: Params, data: Data) -> list[jax.Array]:
    return [jnp.asarray(apply(params, data["x"]))]

  def tail(values: list[jax.Array], data: Data) -> jax.Array:
    return metric(values[0], data.get("y"))

  return head, tail
