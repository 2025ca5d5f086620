"""Matching: symmetry read off a model, models aligned, alignment repaired.

`trace_axes` finds which units of a model can be reordered, from its jaxpr
alone; everything else maps between these axes and permutations.

>>> import jax, jax.numpy as jnp
>>> def apply(p, x): return jnp.tanh(x @ p["w"]) @ p["v"]
>>> a = {"w": jnp.array([[1.0, 2.0, 3.0]]), "v": jnp.ones((3, 2))}
>>> axes = trace_axes(apply, a, jnp.ones((1, 1)))
>>> b = permute(axes, {"w": jnp.array([2, 0, 1])}, a)
>>> b["w"].tolist()
[[3.0, 1.0, 2.0]]
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.match.repairs.layerwise import least_squares
from weightspace.match.repairs.repairing import repair
from weightspace.match.repairs.scaling import balanced
from weightspace.match.repairs.singular import singular_alignment
from weightspace.match.repairs.zip_units import (
  Groups,
  merge_units,
  partial_groups,
  transport_groups,
  zip_groups,
)
from weightspace.match.solvers.activations import Alike, match_activations
from weightspace.match.solvers.learned import (
  Learned,
  match_sinkhorn,
  straight_through,
)
from weightspace.match.solvers.many import match_many
from weightspace.match.solvers.weights import (
  Matched,
  match_pairs,
  match_weights,
)
from weightspace.symmetry.axes import Axes, Perm, from_json, to_json
from weightspace.symmetry.permutations import (
  compose,
  identity,
  invert,
  permute,
  random,
)
from weightspace.symmetry.self_check import check, lint
from weightspace.symmetry.tracing import trace_axes

__all__ = [
  "Alike",
  "Axes",
  "Groups",
  "Learned",
  "Matched",
  "Perm",
  "balanced",
  "check",
  "compose",
  "from_json",
  "identity",
  "invert",
  "least_squares",
  "lint",
  "match_activations",
  "match_many",
  "match_pairs",
  "match_sinkhorn",
  "match_weights",
  "merge_units",
  "partial_groups",
  "permute",
  "random",
  "repair",
  "singular_alignment",
  "straight_through",
  "to_json",
  "trace_axes",
  "transport_groups",
  "zip_groups",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
