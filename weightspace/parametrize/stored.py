"""Computed leaves in files: their fields as arrays, the rest as JSON.

Codes are packed, so that 4 bits take half a byte.  Only the kinds of this room
are ever built from a file, by name.

>>> from weightspace.parametrize.few_levels import quantise
>>> kind, fields, rest = take_apart(quantise(jnp.ones((3, 3)), bits=4))
>>> kind, fields["packed"].nbytes, rest["shape"]
('Quantised', 5, [3, 3])
>>> put_together(kind, fields, rest).value().sum().item()
9.0
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.parametrize import few_levels, leaf
from weightspace.parametrize.blocks import Bone, Miss
from weightspace.parametrize.combinations import Companded, Masked, Mixture
from weightspace.parametrize.dora_vera import Dora, Vera
from weightspace.parametrize.few_levels import Quantised
from weightspace.parametrize.kronecker_sums import Kronecker
from weightspace.parametrize.low_rank import Adapter
from weightspace.parametrize.merging import Changed, Shaped
from weightspace.parametrize.straight_through import LearnedScale, StatsQ
from weightspace.parametrize.training import Frozen
from weightspace.parametrize.triplets import SvdLora

KINDS: dict[str, type] = {
  kind.__name__: kind
  for kind in (
    Adapter,
    Bone,
    Changed,
    Companded,
    Dora,
    Frozen,
    Kronecker,
    LearnedScale,
    Masked,
    Miss,
    Mixture,
    Quantised,
    Shaped,
    StatsQ,
    SvdLora,
    Vera,
  )
}


def is_stored(node: Any) -> bool:
  """Tell whether a node is of a kind that files know."""
  return KINDS.get(type(node).__name__) is type(node)


def take_apart(node: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
  """Return a leaf's or change's kind, its fields, and the rest as JSON.

  Args:
    node: of one of `KINDS`.

  Returns:
    (kind, {field: tree of arrays}, {field: JSON}).
  """
  fields, rest = {}, {}
  for field in dataclasses.fields(node):
    value = getattr(node, field.name)
    if field.metadata.get("pytree_node", True):
      fields[field.name] = value
    else:
      rest[field.name] = list(value) if isinstance(value, tuple) else value
  if isinstance(node, Quantised):
    rest["shape"] = list(np.shape(fields.pop("codes")))
    fields["packed"] = few_levels.pack(node)
  return type(node).__name__, fields, rest


def put_together(
  kind: str, fields: Mapping[str, Any], rest: Mapping[str, Any]
) -> Any:
  """Undo `take_apart`.

  Raises:
    ValueError: for another kind, or fields that are not those of the kind.
  """
  if kind not in KINDS:
    raise ValueError(f"a leaf of kind {kind!r}, expected one of {list(KINDS)}")
  values: dict[str, Any] = {
    name: tuple(x) if isinstance(x, list) else x for name, x in rest.items()
  }
  values |= dict(fields)
  if kind == "Quantised" and "packed" in values:
    packed, shape = values.pop("packed"), values.pop("shape")
    values["codes"] = _codes(packed, values["bits"], shape)
  names = {field.name for field in dataclasses.fields(KINDS[kind])}
  if set(values) != names:
    raise ValueError(f"a {kind} has {sorted(values)}, expected {sorted(names)}")
  return KINDS[kind](**values)


def _codes(packed: Any, bits: int, shape: tuple[int, ...]) -> Any:
  if isinstance(packed, jax.ShapeDtypeStruct):  # only the shape is asked for
    if packed.shape != (math.ceil(math.prod(shape) * bits / 8),):
      raise ValueError(f"codes are {packed.shape}, expected those of {shape}")
    return jax.ShapeDtypeStruct(shape, jnp.int8)
  return few_levels.unpack(packed, bits, shape)


def shape_of(node: Any) -> tuple[tuple[int, ...], Any]:
  """Return shape and dtype of a leaf's value, from the shapes of its fields."""
  value = jax.eval_shape(leaf.array, node)
  return value.shape, value.dtype


def value_of(node: Any) -> jax.Array:
  """Return the value of a leaf whose fields may be NumPy arrays."""
  return leaf.array(jax.tree.map(jnp.asarray, node))
