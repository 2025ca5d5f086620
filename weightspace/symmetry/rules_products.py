"""How products, reductions and elementwise primitives treat axes.

>>> sorted(set(RULES) - ELEMENTWISE)[:3]
['conv_general_dilated', 'cumlogsumexp', 'cummax']
"""

from weightspace.jaxpr.graph import Equation, Ref
from weightspace.symmetry import equations, terms, values
from weightspace.symmetry.terms import Term
from weightspace.symmetry.values import Rule, Use, Value, Walk

ELEMENTWISE = set(
  """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e
  bessel_i1e cbrt ceil clamp clz complex conj convert_element_type copy copy_p
  cos cosh device_put digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge
  gt igamma igammac imag integer_pow is_finite layout_constraint le lgamma log
  log1p log2 logistic lt max min mul name ne neg nextafter not
  one_minus_square optimization_barrier or pcast polygamma polynomial
  population_count pow psum_invariant pvary real reduce_precision
  regularized_incomplete_beta rem reshard round rsqrt select_n shard_alike
  sharding_constraint shift_left shift_right_arithmetic shift_right_logical
  sign sin sinh sqrt square stop_gradient sub tan tanh to_edtype xor
  zeta""".split()
)


def elementwise(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Axes at one place are the same; of size one they are broadcast."""
  name = eqn.primitive.name
  if name == "optimization_barrier":
    return list(given)
  for value in given:
    values.pin_content(walk, value)
  dims: list[Term] = []
  for axis, n in enumerate(values.shape_of(eqn)):
    column = [v.dims[axis] for v in given if v.dims]
    same = [d for d in column if values.size(walk, d) == n]
    for other in same[1:]:
      equations.unify(walk.forest, same[0], other, name)
    dims.append(same[0])
  return [Value(tuple(dims)) for _ in eqn.outputs]


def dot(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Contracted axes are the same, and so are those of the batch."""
  a, b = given
  (left, right), (rows, columns) = eqn.params["dimension_numbers"]
  for i, j in (*zip(left, right), *zip(rows, columns)):
    equations.unify(walk.forest, a.dims[i], b.dims[j], "dot_general")
  batch = tuple(a.dims[i] for i in rows)
  # An inner unit may depend on a block only if the block is the same one on
  # both sides: hence axes met in a contraction are met without the free ones.
  values.record(walk, batch + tuple(a.dims[i] for i in left))
  walk.spent.extend(a.dims[i] for i in left)
  _use(walk, eqn, given, (left, right))
  free = [
    d
    for value, taken in ((a, (*left, *rows)), (b, (*right, *columns)))
    for i, d in enumerate(value.dims)
    if i not in taken
  ]
  return [Value((*batch, *free))]


def _use(walk: Walk, eqn: Equation, given: list[Value], axes: tuple) -> None:
  """Note what a contraction reads of values that depend on the inputs."""
  for ref, value, contracted in zip(eqn.inputs, given, axes):
    if isinstance(ref, Ref) and value.data and not walk.context:
      walk.uses.extend(Use(ref, axis, value.dims) for axis in contracted)


def conv(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Channels are contracted; places stay, unless a filter is one place."""
  x, kernel = given
  numbers, forest = eqn.params["dimension_numbers"], walk.forest
  batch, channel, *places = numbers.lhs_spec
  outputs, inputs, *filters = numbers.rhs_spec
  groups, shape = eqn.params["feature_group_count"], values.shape_of(eqn)
  if eqn.params["batch_group_count"] != 1:
    return unknown(walk, eqn, given)
  _channels(walk, x.dims[channel], kernel.dims[inputs], kernel.dims[outputs],
            groups)  # fmt: skip
  _use(walk, eqn, given, ((channel,), ()))
  dims = {numbers.out_spec[0]: x.dims[batch]}
  dims[numbers.out_spec[1]] = kernel.dims[outputs]
  for place, (i, f, o) in enumerate(zip(places, filters, numbers.out_spec[2:])):
    still = values.size(walk, kernel.dims[f]) == 1 and _still(eqn, place)
    if not still:
      terms.pin(forest, x.dims[i], "conv_general_dilated")
    terms.pin(forest, kernel.dims[f], "conv_general_dilated")
    fresh = terms.fresh(forest, shape[o], "conv_general_dilated")
    dims[o] = x.dims[i] if still else fresh
  return [Value(tuple(dims[o] for o in range(len(shape))))]


def _still(eqn: Equation, place: int) -> bool:
  p = eqn.params
  steps = p["window_strides"][place], p["lhs_dilation"][place]
  return steps == (1, 1) and tuple(p["padding"][place]) == (0, 0)


def _channels(walk: Walk, x: Term, k: Term, out: Term, n: int) -> None:
  """Equate the channels of the input with those that each group reads."""
  forest, why = walk.forest, "conv_general_dilated"
  walk.spent.append(x)
  if n == 1:
    equations.unify(forest, x, k, why)
    return values.record(walk, (x,))
  halves = []
  for whole in (x, out):
    term = values.resolve(walk, whole)
    found = equations.split_product(forest, term, n, why)
    if found is None:
      for term in (x, k, out):
        terms.pin(forest, term, why)
      return
    halves.append(found)
  equations.unify(forest, halves[0][0], halves[1][0], why)
  equations.unify(forest, halves[0][1], k, why)
  values.record(walk, halves[0])


def reduce(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Reduced axes go; operands that are reduced together are alike."""
  p = eqn.params
  gone = p["axes"] if "axes" in p else p["dimensions"]
  arrays = given[: len(eqn.outputs)]
  for value in arrays:
    values.pin_content(walk, value)
  for other in arrays[1:]:
    values.unify(walk, arrays[0], other, eqn.primitive.name)
  walk.spent.extend(arrays[0].dims[a] for a in gone)
  dims = tuple(d for a, d in enumerate(arrays[0].dims) if a not in gone)
  return [Value(dims) for _ in eqn.outputs]


def window(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Axes that a window moves along are places; the others stay."""
  p, name, dims = eqn.params, eqn.primitive.name, []
  shape = values.shape_of(eqn)
  for axis, d in enumerate(given[0].dims):
    still = p["window_dimensions"][axis] == p["window_strides"][axis] == 1
    still &= tuple(p["padding"][axis]) == (0, 0)
    still &= p["base_dilation"][axis] == 1
    if not still:
      terms.pin(walk.forest, d, name)
    fresh = terms.fresh(walk.forest, shape[axis], name)
    dims.append(d if still else fresh)
  return [Value(tuple(dims)) for _ in eqn.outputs]


def cumulative(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """The axis that is gone through has an order."""
  axis = given[0].dims[eqn.params["axis"]]
  terms.pin(walk.forest, axis, eqn.primitive.name)
  values.pin_content(walk, given[0])
  return [Value(given[0].dims)]


def fourier(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """The last axes have an order; the others stay."""
  x, count = given[0], len(eqn.params["fft_lengths"])
  for d in x.dims[-count:]:
    terms.pin(walk.forest, d, "fft")
  new = values.known(walk, values.shape_of(eqn)[-count:], "fft").dims
  return [Value((*x.dims[:-count], *new))]


def unknown(walk: Walk, eqn: Equation, given: list[Value]) -> list[Value]:
  """Pin all that a primitive without a rule touches."""
  name = eqn.primitive.name
  for value in given:
    values.pin(walk, value, name)
  return [
    values.known(walk, values.shape_of(eqn, k), name)
    for k in range(len(eqn.outputs))
  ]


RULES: dict[str, Rule] = {name: elementwise for name in ELEMENTWISE}
for kind in ("sum", "prod", "max", "min", "logsumexp"):
  RULES[f"cum{kind}"] = cumulative
for kind in ("sum", "max", "min", "prod", "and", "or", "xor"):
  RULES[f"reduce_{kind}"] = reduce
for kind in ("", "_sum", "_max", "_min"):
  RULES[f"reduce_window{kind}"] = window
RULES |= {"dot_general": dot, "conv_general_dilated": conv, "reduce": reduce}
RULES["fft"] = fourier
