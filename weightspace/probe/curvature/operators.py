"""Curvature as operators: matrices known by their products with vectors.

A Hessian, a Gauss-Newton matrix or a Fisher matrix of P parameters has P^2
entries, and every probe of its spectrum needs products only.  An Operator is a
pytree that is called on a tree of tangents; the algorithms open it once, so
that what does not depend on the vector (the gradient's linearisation) is
computed once and reused by every product.

>>> from weightspace.probe.curvature.curvature import hessian
>>> matrix = jnp.array([[2.0, 1.0], [1.0, 3.0]])
>>> def loss(w, a): return 0.5 * w @ a @ w
>>> product = hessian(loss, jnp.zeros(2), matrix)
>>> product(jnp.array([1.0, 0.0])).tolist()
[2.0, 1.0]
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.jaxpr import closures
from weightspace.losses import objectives
from weightspace.types import Key, Params

Product = Callable[[jax.Array], jax.Array]  # [n] -> [n]
Free = list[jax.Array]  # the leaves that vary


class Part(NamedTuple):
  """Which leaves of a tree an operator acts on, and their shapes."""

  chosen: tuple[int, ...]  # leaf numbers
  shapes: tuple[tuple[int, ...], ...]

  @property
  def size(self) -> int:
    return sum(map(math.prod, self.shapes))

  def take(self, tree: Params) -> Free:
    """Return the chosen leaves as float32 (float64 stays)."""
    leaves = jax.tree.leaves(tree)
    wide = [jnp.asarray(leaves[n]) for n in self.chosen]
    return [x.astype(trees.accumulator(x.dtype)) for x in wide]

  def put(self, tree: Params, free: Free) -> Params:
    """Return the tree with the chosen leaves replaced, in float32 or wider.

    Not in fewer bits, in which small steps would be rounded away.
    """
    leaves, structure = jax.tree.flatten(trees.widened(tree))
    for n, x in zip(self.chosen, free):
      leaves[n] = x.astype(jnp.result_type(leaves[n]))
    return jax.tree.unflatten(structure, leaves)

  def ravel(self, free: Free) -> jax.Array:
    return jnp.concatenate([x.reshape(-1) for x in free])

  def unravel(self, flat: jax.Array) -> Free:
    ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1]
    pieces = jnp.split(flat, ends.tolist(), axis=0)
    return [x.reshape(shape) for x, shape in zip(pieces, self.shapes)]


@flax.struct.dataclass
class Operator:
  """A symmetric matrix on trees shaped like `params`.

  `operator(tree)` is its product; entries outside of its part are 0, in the
  input as in the output.  Built by `hessian`, `ggn`, `fisher`,
  `empirical_fisher`, `streamed`, `from_matrix` or `from_function`.
  """

  params: Params
  given: Any  # what products depend on besides: data, weights
  mask: Any  # [n] of 0 and 1, or None
  open: Callable[..., Product] = flax.struct.field(pytree_node=False)
  part: Part = flax.struct.field(pytree_node=False)
  on_host: bool = flax.struct.field(pytree_node=False, default=False)
  # By construction: rounding alone can make products of a converged network's
  # Hessian differ, where its terms cancel.
  symmetric: bool = flax.struct.field(pytree_node=False, default=False)

  def __repr__(self) -> str:
    kind = getattr(self.open, "__name__", type(self.open).__name__)
    leaves = [trees.names(self.params)[n] for n in self.part.chosen]
    more = f" and {len(leaves) - 3} more" if len(leaves) > 3 else ""
    return (
      f"Operator({kind.lstrip('_')} of {self.part.size} parameters in"
      f" {', '.join(leaves[:3])}{more})"
    )

  def __call__(self, vector: Params) -> Params:
    """Return the product with a tree shaped like the parameters.

    Raises:
      ValueError: at the first leaf of another shape.
    """
    like, given = (
      jax.tree.map(lambda x: np.zeros(np.shape(x), np.int8), tree)
      for tree in (self.params, vector)
    )
    trees.check_same(like, given, "operator: vector")
    flat = self.part.ravel(self.part.take(vector))
    own = current(self)
    return self.tree((multiply if self.on_host else multiply_jit)(own, flat))

  @property
  def size(self) -> int:
    """Return n, the number of parameters that it acts on."""
    if self.mask is None:
      return self.part.size
    return int(np.asarray(self.mask).sum())

  def product(self) -> Product:
    """Return [n] -> [n] on flat vectors; the linearisation is done here."""
    inner = self.open(self.part, self.params, self.given)
    mask = self.mask
    if mask is None:
      return inner
    return lambda flat: mask * inner(mask * flat)

  def flat(self, vector: Params) -> jax.Array:
    """Return a tree shaped like the parameters as a flat vector [n]."""
    flat = self.part.ravel(self.part.take(vector))
    return flat if self.mask is None else flat * self.mask

  def tree(self, flat: jax.Array) -> Params:
    """Return a flat vector [n] as a tree, 0 outside of the part."""
    leaves, structure = jax.tree.flatten(self.params)
    free = dict(zip(self.part.chosen, self.part.unravel(flat)))
    whole = [
      free[n] if n in free else jnp.zeros(np.shape(leaf), flat.dtype)
      for n, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, whole)

  def draw(self, key: Key, kind: str = "normal") -> jax.Array:
    """Return a random flat vector [n] of independent entries, variance 1."""
    dtype = jnp.result_type(*(self.part.take(self.params)))
    make = jax.random.rademacher if kind == "rademacher" else jax.random.normal
    drawn = make(key, (self.part.size,), dtype)
    return drawn if self.mask is None else drawn * self.mask


def current(operator: Operator) -> Operator:
  """Return the operator of its functions with the values they have now.

  Compiled products are kept by these functions: see `closures`.
  """
  whole: Any = operator.open
  if operator.on_host:
    return operator
  if not dataclasses.is_dataclass(whole):
    return operator.replace(open=closures.fixed(whole))  # type: ignore
  parts = {f.name: getattr(whole, f.name) for f in dataclasses.fields(whole)}
  now = {n: closures.fixed(f) for n, f in parts.items() if callable(f)}
  return operator.replace(open=dataclasses.replace(whole, **now))  # type: ignore


def multiply(operator: Operator, flat: jax.Array) -> jax.Array:
  """Return the product with a flat vector [n]."""
  return operator.product()(flat)


multiply_jit = jax.jit(multiply)


def select(
  params: Params, only: Sequence[str] | None, mask: Params | None, what: str
) -> tuple[Part, Any]:
  """Return the part of a model that an operator acts on, and its mask.

  Args:
    params: one model.
    only: paths or their beginnings, such as "Dense_0" or "Dense_0/kernel".
    mask: a prefix tree of booleans, or of arrays shaped as the leaves.
    what: for errors.

  Raises:
    ValueError: for a path that chooses nothing, a mask that does not fit, or
      when nothing is left.
  """
  names, leaves = trees.names(params), jax.tree.leaves(params)
  chosen = objectives.inexact_leaves(params, what)
  if only is not None:
    for start in only:
      if not any(_begins(name, start) for name in names):
        raise ValueError(f"{what}: only={start!r}, expected one of {names}")
    chosen = [
      n for n in chosen if any(_begins(names[n], start) for start in only)
    ]
  spread = None if mask is None else trees.spread(mask, params, f"{what}: mask")
  kept = {}
  for n in chosen:
    one = np.asarray(True if spread is None else jax.tree.leaves(spread)[n])
    shape = np.shape(leaves[n])
    if one.shape not in ((), shape):
      raise ValueError(
        f"{what}: mask of {names[n]!r} is {one.shape}, expected () or {shape}"
      )
    if one.any():
      kept[n] = np.broadcast_to(one, shape)
  if not kept:
    raise ValueError(f"{what}: nothing is chosen, expected some parameters")
  part = Part(tuple(kept), tuple(np.shape(leaves[n]) for n in kept))
  if all(one.all() for one in kept.values()):
    return part, None
  flat = np.concatenate([one.ravel() for one in kept.values()])
  return part, jnp.asarray(flat, float)


def _begins(name: str, start: str) -> bool:
  return name == start or name.startswith(f"{start}/")
