"""Where a loss stops being the network, read off its jaxpr.

Every equation that brings parameters and data together is a use of the
parameters.  What the last uses on each way to the loss give are the outputs of
the network; what follows is the criterion.  A use behind which the loss is
affine, and which a criterion may have too (a penalty or a bias added, a learned
scale), belongs to the criterion.

>>> def loss(w, x): return ((x @ w) ** 2).mean() + 0.1 * (w ** 2).sum()
>>> program = graph.trace(loss, jnp.ones(3), jnp.ones((4, 3)))
>>> [program.equations[0].avals[-1].shape, len(cut(program, 1, "ggn").outputs)]
[(4,), 1]
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from weightspace.jaxpr import graph
from weightspace.jaxpr.graph import Equation, Program, Ref

# Without curvature in any operand; without it where one operand moves.
PIECEWISE = graph.ADDITIVE | {"abs", "max", "min", "clamp", "select_n", "pad"}
PIECEWISE |= {"reduce_max", "reduce_min", "cumsum", "sort", "expand_dims"}
PIECEWISE |= {"gather", "dynamic_slice", "dynamic_update_slice", "real"}
PIECEWISE |= {"scatter-add", "scatter", "reduce_window_sum", "reduce_precision"}
PIECEWISE |= {"stack", "unstack", "tile"}
# What spreads one number over an array, or keeps it one number.
SCALES = ("broadcast_in_dim", "reshape", "convert_element_type", "squeeze")


class Cut(NamedTuple):
  """Where a loss is cut: values of its program."""

  outputs: list[Ref]  # made of parameters and data, in order
  params: list[Ref]  # the parameters that the criterion reads itself


class Kinds(NamedTuple):
  """What the values of a program are made of."""

  alone: set[Ref]  # of parameters alone
  mixed: set[Ref]  # of parameters and data
  numbers: set[Ref]  # of parameters alone, one number (spread or not)
  tasks: set[Ref]  # of both, a list of single numbers put together
  uses: list[int]  # equations that make mixed values of parameters


def cut(program: Program, count: int, what: str) -> Cut:
  """Return the outputs of the network, and what the criterion reads besides.

  Args:
    program: of a loss whose first inputs are the parameters.
    count: how many of its inputs they are.
    what: for errors.

  Raises:
    ValueError: for a criterion without curvature in every output.

  Ours; papers write the network and the criterion apart.
  """
  params = program.inputs[:count]
  kinds = _kinds(program, params)
  makers = {
    ref: n for n, eqn in enumerate(program.equations) for ref in eqn.outputs
  }
  ceded: set[int] = set()
  while True:
    found = _frontier(program, kinds, ceded)
    outputs = [ref for ref in found if ref in kinds.mixed]
    flat = [ref for ref in outputs if not curves(program, ref, found)]
    more = {
      makers[ref]
      for ref in flat
      if makers[ref] in kinds.uses
      and _may_be_criterion(program.equations[makers[ref]], kinds)
    }
    if not more - ceded:
      break
    ceded |= more
  if len(flat) == len(outputs):
    raise ValueError(
      f"{what}: the loss has no curvature in the outputs of the network that"
      " were read off it, so the matrix would be zero; expected a criterion"
      " that is not affine in them, or apply= and a loss of (outputs, y)"
    )
  return Cut(outputs, [ref for ref in found if ref in set(params)])


def _kinds(program: Program, params: tuple[Ref, ...]) -> Kinds:
  """Sort the values by what they are made of.

  Where parameters and data never meet, the data are closed over: then arrays
  among the constants are data.
  """
  kinds = _sorted(program, params, constants=False)
  if not any(ref in kinds.mixed for ref in program.outputs):
    kinds = _sorted(program, params, constants=True)
  return kinds


def _sorted(
  program: Program, params: tuple[Ref, ...], constants: bool
) -> Kinds:
  alone = set(params)
  mixed: set[Ref] = set()
  numbers: set[Ref] = set()
  tasks: set[Ref] = set()
  uses = []
  for index, eqn in enumerate(program.equations):
    refs = [i for i in eqn.inputs if isinstance(i, Ref)]
    moving = [i for i in refs if i in alone or i in mixed]
    if not moving:
      continue
    arrays = any(
      not isinstance(i, Ref) and len(aval.shape)
      for i, aval in zip(eqn.inputs, eqn.avals)
    )
    plain = all(i in alone for i in refs) and not (constants and arrays)
    if plain:
      alone.update(eqn.outputs)
      small = all(math.prod(a.shape) == 1 for a in eqn.avals[len(eqn.inputs) :])
      spread = eqn.primitive.name in SCALES and refs[0] in numbers
      if small or spread:
        numbers.update(eqn.outputs)
      continue
    mixed.update(eqn.outputs)
    uses += [index] if any(i in alone for i in moving) else []
    if _lists_tasks(eqn) or (_scaled(eqn) and any(i in tasks for i in moving)):
      tasks.update(eqn.outputs)
  shapes = {
    i: aval.shape
    for e in program.equations
    for i, aval in zip(e.inputs, e.avals)
    if isinstance(i, Ref)
  }
  numbers |= {i for i in params if math.prod(shapes.get(i, (2,))) == 1}
  return Kinds(alone, mixed, numbers, tasks, uses)


def _lists_tasks(eqn: Equation) -> bool:
  """Tell whether single numbers are put together, as losses of tasks are."""
  if eqn.primitive.name != "concatenate":
    return eqn.primitive.name == "stack"
  axis = eqn.params["dimension"]
  return all(aval.shape[axis] == 1 for aval in eqn.avals[: len(eqn.inputs)])


def _scaled(eqn: Equation) -> bool:
  return eqn.primitive.name in ("mul", "div", "neg", "add", "sub")


def _frontier(program: Program, kinds: Kinds, ceded: set[int]) -> list[Ref]:
  """Return what the criterion reads: outputs of the network, parameters."""
  uses = set(kinds.uses) - ceded
  needed: set[Ref] = set()  # by uses, at one remove or more
  inside: set[Ref] = set()  # values that the network makes
  for index in range(len(program.equations) - 1, -1, -1):
    eqn = program.equations[index]
    if index in uses or needed & set(eqn.outputs):
      needed |= {i for i in eqn.inputs if isinstance(i, Ref)}
      inside |= set(eqn.outputs) & kinds.mixed
  last = [ref for ref in program.outputs if isinstance(ref, Ref)]
  read = set(last)
  for eqn in reversed(program.equations):
    if read & (set(eqn.outputs) - inside):
      read |= {i for i in eqn.inputs if isinstance(i, Ref)}
  made = [ref for eqn in program.equations for ref in eqn.outputs]
  return [ref for ref in made if ref in inside and ref in read] + [
    ref for ref in program.inputs if ref in kinds.alone and ref in read
  ]


def curves(program: Program, start: Ref, frontier: list[Ref]) -> bool:
  """Tell whether the loss has curvature in one value, the others fixed."""
  moving, held = {start}, set(frontier)
  for eqn in program.equations:
    flags = [isinstance(i, Ref) and i in moving for i in eqn.inputs]
    results = eqn.avals[len(eqn.inputs) :]
    if not any(flags) or eqn.primitive.name == "stop_gradient":
      continue
    if not any(jnp.issubdtype(a.dtype, jnp.inexact) for a in results):
      continue
    if held & set(eqn.outputs):
      continue
    if not _flat(eqn, flags):
      return True
    moving.update(eqn.outputs)
  return False


def _flat(eqn: Equation, flags: list[bool]) -> bool:
  """Tell whether an equation is piecewise affine in what moves."""
  name = eqn.primitive.name
  if name in PIECEWISE or name in ("sign", "floor", "ceil", "round"):
    return True
  if name == "integer_pow":
    return bool(eqn.params["y"] == 1)
  if name in graph.BILINEAR:
    return sum(flags) == 1
  return name in graph.FIRST and not any(flags[1:])


def _may_be_criterion(eqn: Equation, kinds: Kinds) -> bool:
  """Tell whether a criterion may use parameters so: added, or as a scale."""
  name = eqn.primitive.name
  if name in ("add", "sub", "add_any"):
    return True
  own = [isinstance(i, Ref) and i in kinds.alone for i in eqn.inputs]
  if name not in ("mul", "div", "dot_general") or sum(own) != 1:
    return False
  if name == "div" and own[0]:
    return False
  at = own.index(True)
  if name != "dot_general" and eqn.inputs[at] in kinds.numbers:
    return True
  other = eqn.inputs[1 - at]
  return isinstance(other, Ref) and other in kinds.tasks


def sliced(
  program: Program, wanted: list[Any], known: set[Ref]
) -> list[Equation]:
  """Return the equations that lead from known values to wanted ones."""
  read = {ref for ref in wanted if isinstance(ref, Ref)} - known
  kept = []
  for eqn in reversed(program.equations):
    if read & set(eqn.outputs):
      kept.append(eqn)
      read |= {i for i in eqn.inputs if isinstance(i, Ref)} - known
  return kept[::-1]
