"""How much each block of a model matters, before any is removed.

A residual block adds something to a stream.  Where it does is read off the
program: a sum of the stream and of a value that depends on the stream and on
the block's parameters.  That value gets a gate, and scores are derivatives by
the gates, or what changes when one is closed.

>>> def apply(p, x):
...   for k in range(2): x = x + jnp.tanh(x @ p[f"block_{k}"])
...   return x
>>> params = {"block_0": jnp.zeros((2, 2)), "block_1": jnp.eye(2)}
>>> data = {"x": jnp.ones((1, 2)), "y": jnp.array([0])}
>>> block_scores(apply, params, data, "block_*", "drop").round(4).tolist()
[0.0, 0.0]
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import losses
from weightspace.grow import numbering
from weightspace.jaxpr import graph
from weightspace.jaxpr.graph import Equation, Ref
from weightspace.losses import Metric
from weightspace.probe import cka
from weightspace.types import Apply, Data, Params

KINDS = ("snip", "grasp", "drop", "cka")
GatedApply = Callable[[Params, Any, jax.Array], Any]  # (params, x, gates [B])


def block_scores(
  apply: Apply,
  params: Params,
  data: Data,
  pattern: str = "block_*",
  kind: str = "snip",
  *,
  metric: Metric = losses.cross_entropy,
) -> jax.Array:
  """Return how much each residual block matters: the lowest may go first.

  With a gate m_b = 1 on what block b adds to the stream:
  snip: |dL/dm_b|; grasp: m_b d(|dL/dtheta|^2 / 2)/dm_b, the part of the
  gradient's norm that goes with the block, to first order; drop: |L(m_b = 0) -
  L|; cka: 1 - CKA of the outputs with and without the block.

  Args:
    apply: apply(params, x) -> outputs [N, ...].
    params: with numbered blocks.
    data: {"x", "y"}, one batch.
    pattern: of the blocks, as in `restack`.
    kind: snip, grasp, drop or cka.
    metric: of outputs and labels, [N]; its mean is L.

  Returns:
    [blocks] float32, in order of their numbers; infinite for a block that
    nothing passes by, such as one that changes the width: it must stay.

  Raises:
    ValueError: for another kind, stacked layers, or a model without any
      residual block.

  >>> def apply(p, x): return x + x @ p["block_0"]
  >>> data = {"x": jnp.ones((2, 1)), "y": jnp.ones((2, 1))}
  >>> square = lambda y, label: ((y - label) ** 2).mean(-1)
  >>> block_scores(apply, {"block_0": jnp.ones((1, 1))}, data, metric=square)
  Array([2.], dtype=float32)

  Jordao et al. 2023, "When Layers Play the Lottery, all Tickets Win at
  Initialization", https://arxiv.org/abs/2301.10835 (criteria on blocks; gates
  are ours); SNIP: Lee et al. 2019, https://arxiv.org/abs/1810.02340; GraSP:
  Wang et al. 2020, https://arxiv.org/abs/2002.07376.
  """
  if kind not in KINDS:
    raise ValueError(f"block_scores: kind {kind!r}, expected one of {KINDS}")
  gate, found = gated(apply, params, data["x"], pattern)
  ones = jnp.ones(len(found))
  closed = 1.0 - jnp.eye(len(found))

  def loss(params: Params, gates: jax.Array) -> jax.Array:
    return metric(gate(params, data["x"], gates), data["y"]).mean()

  def flow(gates: jax.Array) -> jax.Array:
    gradient = jax.grad(loss, allow_int=True)(params, gates)
    leaves = jax.tree.leaves(gradient)
    return sum(
      (jnp.square(g.astype(jnp.float32)).sum() / 2
       for g in leaves if jnp.issubdtype(g.dtype, jnp.inexact)),
      jnp.zeros(()),
    )  # fmt: skip

  if kind == "snip":
    scores = jnp.abs(jax.grad(loss, 1)(params, ones))
  elif kind == "grasp":
    scores = jax.grad(flow)(ones)
  elif kind == "drop":
    without = jax.lax.map(lambda gates: loss(params, gates), closed)
    scores = jnp.abs(without - loss(params, ones))
  else:
    whole = gate(params, data["x"], ones)
    scores = 1.0 - jax.lax.map(
      lambda gates: cka(gate(params, data["x"], gates), whole), closed
    )
  return jnp.where(jnp.array(found), scores, jnp.inf).astype(jnp.float32)


def gated(
  apply: Apply, params: Params, x: Any, pattern: str = "block_*"
) -> tuple[GatedApply, list[bool]]:
  """Return apply with a gate on what each residual block adds to its stream.

  Args:
    apply, params, x: a model and a batch, or its shape.
    pattern: of the blocks, as in `restack`.

  Returns:
    (function(params, x, gates [blocks]), which blocks have a gate).

  Raises:
    ValueError: for stacked layers, or where no block has a gate.

  >>> def apply(p, x): return x + x @ p["block_0"]
  >>> x = jnp.ones((1, 1))
  >>> function, _ = gated(apply, {"block_0": x}, x)
  >>> function({"block_0": x}, x, jnp.array([0.5])).item()
  1.5
  """
  owners, count = _owners(params, pattern)
  program = graph.trace(apply, params, x)
  equations, gates = _with_gates(program, owners)
  if not gates:
    raise ValueError(
      f"block_scores: no block of {pattern!r} adds to a stream, expected"
      " residual blocks"
    )

  def function(params: Params, x: Any, values: jax.Array) -> Any:
    env = dict(zip(program.inputs, jax.tree.leaves((params, x))))
    for ref, (number, aval) in gates.items():
      value = jnp.asarray(values)[number].astype(aval.dtype)
      env[ref] = jnp.broadcast_to(value, aval.shape)
    outputs = graph.evaluate(equations, env, program.outputs)
    return jax.tree.unflatten(program.tree, outputs)

  having = {number for number, _ in gates.values()}
  return function, [number in having for number in range(count)]


def _with_gates(
  program: graph.Program, owners: list[int]
) -> tuple[list[Equation], dict[Ref, tuple[int, Any]]]:
  """Return the equations with gates in them, and block and shape of each."""
  equations: list[Equation] = []
  gates: dict[Ref, tuple[int, Any]] = {}
  nothing: frozenset[int] = frozenset()
  sources = {r: frozenset([leaf]) for leaf, r in enumerate(program.inputs)}
  fresh = 1 + max(r.number for e in program.equations for r in e.outputs)
  inputs = frozenset(range(len(owners), len(program.inputs)))
  for eqn in program.equations:
    around = [
      sources.get(i, nothing) if isinstance(i, Ref) else nothing
      for i in eqn.inputs
    ]
    sources.update(dict.fromkeys(eqn.outputs, nothing.union(*around)))
    place, block = _adds(eqn, around, owners, inputs)
    if place is not None:
      scaled, gate = Ref(fresh), Ref(fresh + 1)
      fresh += 2
      gates[gate] = block, eqn.avals[place]
      product = graph.trace(jax.lax.mul, *[eqn.avals[place]] * 2).equations[0]
      operands = eqn.inputs[place], gate
      equations.append(product._replace(inputs=operands, outputs=(scaled,)))
      given = list(eqn.inputs)
      given[place] = scaled
      eqn = eqn._replace(inputs=tuple(given))
    equations.append(eqn)
  return equations, gates


def _owners(params: Params, pattern: str) -> tuple[list[int], int]:
  """Return the place of the block that each leaf is in, -1 beside them."""
  found = numbering.blocks_of(params, pattern)
  if isinstance(found, numbering.Stacked):
    raise ValueError(
      f"block_scores: {pattern!r} are stacked layers, expected numbered blocks"
    )
  marked = {
    n: jax.tree.map(lambda _, k=k: k, block)
    for k, (n, block) in enumerate(found.items())
  }
  beside = jax.tree.map(lambda _: -1, params)
  whole = numbering.replace(beside, pattern, lambda _: marked)
  return jax.tree.leaves(whole), len(found)


def _adds(
  eqn: Equation,
  around: list[frozenset[int]],
  owners: list[int],
  inputs: frozenset[int],
) -> tuple[int | None, int]:
  """Return which operand a block adds to a stream, and the block; or None.

  The stream, the other operand, depends on the model's input.  What is added
  depends on all that the stream does, and on parameters of one block besides.
  """
  sums = eqn.primitive.name in ("add", "add_any") and len(around) == 2
  if sums and eqn.avals[0].shape == eqn.avals[1].shape:
    for place, other in ((0, 1), (1, 0)):
      extra = around[place] - around[other]
      own = {owners[leaf] if leaf < len(owners) else -1 for leaf in extra}
      passed = around[other] & inputs and around[other] <= around[place]
      if passed and len(own) == 1 and own != {-1}:
        return place, own.pop()
  return None, -1
