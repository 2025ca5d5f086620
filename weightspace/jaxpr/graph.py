"""What a function's jaxpr says of its parameters.

A function of parameters is traced once; its equations, with every call inlined,
are plain data that can be read, split and run again.  Here they tell which
values are linear in the parameters (the "stem": the first layer of a network
on fixed inputs) and which are not (the "trunk").  A stem of a mix is the mix
of the stems, so many mixes share the work of the first layer.

>>> def loss(p, x):
...   return jnp.tanh(x @ p["w"]).sum()
>>> split = split_linear(loss, {"w": jnp.ones((3, 2))}, jnp.ones((5, 3)))
>>> [value.shape for value in split.frontier]
[(5, 2)]
"""

import math
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from weightspace import trees
from weightspace.types import Params

CALLS = {
  "checkpoint": "jaxpr",
  "closed_call": "call_jaxpr",
  "custom_jvp_call": "call_jaxpr",
  "custom_vjp_call": "call_jaxpr",
  "jit": "jaxpr",
  "pjit": "jaxpr",
  "remat": "jaxpr",
  "remat2": "jaxpr",
}
# Linear in all operands together; in one operand; in the first, others fixed.
ADDITIVE = {"add", "sub", "add_any", "neg", "concatenate"}
ADDITIVE |= {"reshape", "transpose", "broadcast_in_dim", "squeeze", "rev"}
ADDITIVE |= {"slice", "reduce_sum", "convert_element_type", "copy", "split"}
BILINEAR = {"mul", "dot_general", "conv_general_dilated"}
FIRST = {"div"}


class Ref(NamedTuple):
  """A value of the program, by number."""

  number: int


class Equation(NamedTuple):
  """One primitive application; inputs are Refs or constants."""

  primitive: Any
  inputs: tuple[Any, ...]
  outputs: tuple[Ref, ...]
  params: dict[str, Any]
  avals: tuple[Any, ...]  # of the inputs, then of the outputs


class Program(NamedTuple):
  """A traced function: inputs, equations in order, outputs, output tree."""

  inputs: tuple[Ref, ...]
  equations: tuple[Equation, ...]
  outputs: tuple[Any, ...]
  tree: Any


class Split(NamedTuple):
  """A function as `trunk(stem(params, *args), *args)`, the stem linear."""

  stem: Callable[..., list[jax.Array]]
  trunk: Callable[..., Any]
  frontier: list[Any]  # shapes and dtypes of what the stem returns
  leaves: list[int | None]  # which of them are parameters: their leaf numbers
  flops: int  # of the products that moved into the stem
  width: int  # bytes of the largest value that the whole function computes


def trace(function: Callable[..., Any], *args: Any) -> Program:
  """Return the equations of `function(*args)`, calls inlined."""
  closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
  return opened(closed)._replace(tree=jax.tree.structure(shape))


def opened(closed: Any) -> Program:
  """Return the equations of a closed jaxpr, such as the body of a scan."""
  equations: list[Equation] = []
  counter = iter(range(1 << 62))

  def walk(jaxpr: Any, consts: Any, inputs: Any) -> list[Any]:
    env = dict(zip(jaxpr.constvars, consts)) | dict(zip(jaxpr.invars, inputs))

    def read(atom: Any) -> Any:
      return atom.val if isinstance(atom, jex.Literal) else env[atom]

    for eqn in jaxpr.eqns:
      given = tuple(read(atom) for atom in eqn.invars)
      inner = eqn.params.get(CALLS.get(eqn.primitive.name, ""))
      if inner is not None:
        closed = isinstance(inner, jex.ClosedJaxpr)
        body, own = (inner.jaxpr, inner.consts) if closed else (inner, ())
        env.update(zip(eqn.outvars, walk(body, own, given)))
        continue
      outputs = tuple(Ref(next(counter)) for _ in eqn.outvars)
      avals = tuple(v.aval for v in (*eqn.invars, *eqn.outvars))
      equations.append(
        Equation(eqn.primitive, given, outputs, eqn.params, avals)
      )
      env.update(zip(eqn.outvars, outputs))
    return [read(atom) for atom in jaxpr.outvars]

  inputs = tuple(Ref(next(counter)) for _ in closed.jaxpr.invars)
  outputs = walk(closed.jaxpr, closed.consts, inputs)
  return Program(inputs, tuple(equations), tuple(outputs), None)


def evaluate(
  equations: Any,
  env: dict[Ref, Any],
  outputs: Any,
  rules: Mapping[str, Callable[..., Any]] = types.MappingProxyType({}),
) -> list[Any]:
  """Run equations in the environment `env` and return the outputs.

  Args:
    equations: of a Program, in order.
    env: the values of those that are known.
    outputs: Refs or constants.
    rules: what to call, by name, in place of a primitive with one result.
  """
  env = dict(env)

  def read(atom: Any) -> Any:
    return env[atom] if isinstance(atom, Ref) else atom

  for eqn in equations:
    params = eqn.primitive.get_bind_params(eqn.params)
    apply = rules.get(eqn.primitive.name, eqn.primitive.bind)
    values = apply(*map(read, eqn.inputs), **params)
    values = values if eqn.primitive.multiple_results else [values]
    env.update(zip(eqn.outputs, values))
  return [read(atom) for atom in outputs]


def is_wide(dtype: Any) -> bool:
  """Tell whether values of a dtype are mixed without rounding to fewer bits."""
  inexact = jnp.issubdtype(dtype, jnp.inexact)
  return inexact and trees.accumulator(dtype) == dtype


def is_linear(eqn: Equation, linear: list[bool]) -> bool:
  """Tell whether the outputs are linear, given which inputs are."""
  name = eqn.primitive.name
  if not all(is_wide(aval.dtype) for aval in eqn.avals[len(eqn.inputs) :]):
    return False
  if name in ADDITIVE:
    return all(linear)
  if name in BILINEAR:
    return sum(linear) == 1
  return name in FIRST and linear[0] and not any(linear[1:])


def product_flops(eqn: Equation) -> int:
  """Return the floating-point operations of a dot or convolution, else 0."""
  if eqn.primitive.name == "dot_general":
    (contracted, _), _ = eqn.params["dimension_numbers"]
    inner = math.prod(eqn.avals[0].shape[axis] for axis in contracted)
    return 2 * inner * math.prod(eqn.avals[-1].shape)
  if eqn.primitive.name == "conv_general_dilated":
    kernel = eqn.avals[1].shape
    features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(kernel) // features * math.prod(eqn.avals[-1].shape)
  return 0


def widest(program: Program) -> int:
  """Return the bytes of the largest value that the program computes."""
  outputs = [a for e in program.equations for a in e.avals[len(e.inputs) :]]
  sizes = [math.prod(a.shape) * a.dtype.itemsize for a in outputs]
  return max(sizes, default=0)


def split_linear(
  function: Callable[..., Any], params: Params, *args: Any
) -> Split:
  """Split `function(params, *args)` into a linear stem and a trunk.

  The stem computes every value that is linear in the parameters and is used by
  something that is not; a parameter used non-linearly is its own stem, and so
  is one that is not mixed (integers) or is rounded when mixed (bfloat16).  For
  any coefficients c and the sum of `means.weighted_sum`, `function(sum_m c_m
  params_m)` equals `trunk(sum_m c_m stem(params_m))`.  A gather is left to the
  trunk: it costs less than a mix.

  Args:
    function: any JAX-traceable function.
    params: parameters, or their shapes (`jax.ShapeDtypeStruct`).
    *args: further arguments, or their shapes; fixed while parameters vary.

  Returns:
    A Split.

  >>> x = jnp.array([1.0, 0.5])
  >>> split = split_linear(lambda p, x: jax.nn.relu(x * p), jnp.ones(2), x)
  >>> stem = split.stem(jnp.array([-3.0, 2.0]), x)
  >>> split.trunk(stem, x).tolist()
  [0.0, 1.0]

  The idea is ours; papers evaluate every mix from its first layer on.
  """
  program = trace(function, params, *args)
  leaves = jax.tree.leaves(params)
  given = program.inputs[: len(leaves)]
  wide = [is_wide(jnp.result_type(leaf)) for leaf in leaves]
  linear = {ref for ref, mixed in zip(given, wide) if mixed}
  other = set(given) - linear
  values = {"linear": linear, "other": other}
  before, after, moved, used = [], [], [], list(program.outputs)
  for eqn in program.equations:
    kind = _kind(eqn, linear, other)
    values.get(kind, set()).update(eqn.outputs)
    before += [eqn] if kind != "other" else []
    after += [eqn] if kind != "linear" else []
    moved += [eqn] if kind == "linear" else []
    used += eqn.inputs if kind == "other" else ()
  mixed = linear | set(given)
  frontier = dict.fromkeys(i for i in used if isinstance(i, Ref) and i in mixed)
  stem, trunk = _halves(program, len(leaves), before, after, list(frontier))
  shapes = jax.eval_shape(stem, params, *args)
  numbers = {ref: number for number, ref in enumerate(given)}
  plain = [numbers.get(ref) for ref in frontier]
  flops = sum(map(product_flops, moved))
  return Split(stem, trunk, shapes, plain, flops, widest(program))


def _kind(eqn: Equation, linear: set[Ref], other: set[Ref]) -> str:
  """Tell whether an equation is fixed, linear in the parameters, or other."""
  refs = {i for i in eqn.inputs if isinstance(i, Ref)}
  if refs & other or not eqn.outputs:  # no outputs: a print, for instance
    return "other"
  if not refs & linear:
    return "fixed"
  flags = [isinstance(i, Ref) and i in linear for i in eqn.inputs]
  return "linear" if is_linear(eqn, flags) else "other"


def _halves(
  program: Program,
  count: int,
  before: list[Equation],
  after: list[Equation],
  frontier: list[Ref],
) -> tuple[Callable[..., list[jax.Array]], Callable[..., Any]]:
  """Make the stem and the trunk from their equations."""

  def stem(params: Params, *args: Any) -> list[jax.Array]:
    given = dict(zip(program.inputs, jax.tree.leaves((params, *args))))
    return evaluate(before, given, frontier)

  def trunk(values: list[jax.Array], *args: Any) -> Any:
    fixed = zip(program.inputs[count:], jax.tree.leaves(args))
    env = dict(fixed) | dict(zip(frontier, values))
    outputs = evaluate(after, env, program.outputs)
    return jax.tree.unflatten(program.tree, outputs)

  return stem, trunk
