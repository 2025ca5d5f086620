"""Products with curvature matrices, linearised once for many vectors.

Each class holds the functions that a matrix is made of; called on the arrays it
gives `product(flat) -> flat`.  Data come in blocks [K, B, ...] with weights
[K, B] that sum to 1.  One block is linearised before the first product and its
residuals are kept; of several, each is linearised again within each product,
since the residuals of all would not fit.

>>> part = Part((0,), ((),))
>>> given = jnp.ones((1, 2)), jnp.full((1, 2), 0.5)
>>> product = Hessian(lambda w, x: x * w**2)(part, jnp.ones(()), given)
>>> product(jnp.ones(1)).tolist()
[2.0]
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.jaxpr.convolutions import canonical
from weightspace.losses import logits
from weightspace.probe.curvature.operators import Free, Part, Product
from weightspace.probe.functions import outputs
from weightspace.types import Apply, Data, Loss, Params

OpenBlock = Callable[[Data, jax.Array], Callable[[Free], Free]]


def _over_blocks(part: Part, given: Any, open_block: OpenBlock) -> Product:
  """Return the product that is the sum of those of all blocks."""
  blocks, weights = given
  if len(weights) == 1:
    one = open_block(*jax.tree.map(lambda x: x[0], (blocks, weights)))
    return canonical(lambda flat: part.ravel(one(part.unravel(flat))))

  @canonical
  def add(total: jax.Array, item: Any, flat: jax.Array) -> jax.Array:
    return total + part.ravel(open_block(*item)(part.unravel(flat)))

  def product(flat: jax.Array) -> jax.Array:
    def body(total: jax.Array, item: Any) -> tuple[jax.Array, None]:
      return add(total, item, flat), None

    return jax.lax.scan(body, jnp.zeros_like(flat), (blocks, weights))[0]

  return product


def _weighted(values: jax.Array, weights: jax.Array) -> jax.Array:
  """Return sum w l of losses [B], or w l of one number, weights made to fit."""
  values = jnp.asarray(values)
  values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
  weights = weights.astype(values.dtype)
  if values.ndim == 0:
    return values * weights.sum()
  return (weights * jnp.where(weights > 0, values, 0.0)).sum()


@dataclasses.dataclass(frozen=True)
class Hessian:
  """H v, by a gradient that is linearised once."""

  loss: Loss

  def __call__(self, part: Part, params: Params, given: Any) -> Product:
    free = part.take(params)

    def open_block(block: Data, weights: jax.Array) -> Any:
      def objective(free: Free) -> jax.Array:
        return _weighted(self.loss(part.put(params, free), block), weights)

      return jax.linearize(jax.grad(objective), free)[1]

    return _over_blocks(part, given, open_block)


@dataclasses.dataclass(frozen=True)
class Ggn:
  """J' (d2l/dz2) J v."""

  loss: Any  # of (params, data), or with `apply` of (outputs, y)
  apply: Apply | None

  def __call__(self, part: Part, params: Params, given: Any) -> Product:
    free = part.take(params)

    def open_block(block: Data, weights: jax.Array) -> Any:
      if self.apply is None:
        head, tail = outputs.split(self.loss, part.put(params, free), block)
      else:
        head, tail = outputs.given(self.apply, self.loss)
      z, push, fixed = jax.linearize(
        lambda f: head(part.put(params, f), block), free, has_aux=True
      )
      pull = jax.linear_transpose(push, free)
      criterion = jax.grad(lambda z: _weighted(tail(z, fixed, block), weights))
      _, bend = jax.linearize(criterion, z)
      return lambda tangent: pull(bend(push(tangent)))[0]

    return _over_blocks(part, given, open_block)


@dataclasses.dataclass(frozen=True)
class Fisher:
  """J' (E g g') J v, in closed form at the outputs."""

  apply: Apply
  likelihood: str
  tokens: str  # of a sequence: the "mean" over those that count, or the "sum"
  ignore: int  # the label of a token that does not

  def __call__(self, part: Part, params: Params, given: Any) -> Product:
    free = part.take(params)

    def open_block(block: Data, weights: jax.Array) -> Any:
      def head(free: Free) -> jax.Array:
        z = self.apply(part.put(params, free), block["x"])
        return logits.wide(jnp.asarray(z))

      z, push = jax.linearize(head, free)
      pull = jax.linear_transpose(push, free)
      share = self._shares(z, block.get("y"), weights)
      p = jax.nn.softmax(z)

      def bend(u: jax.Array) -> jax.Array:
        if self.likelihood == "categorical":
          # (diag(p) - p p') u in closed form: no second backward pass.
          u = p * (u - (p * u).sum(-1, keepdims=True))
        return share * u

      return lambda tangent: pull(bend(push(tangent)))[0]

    return _over_blocks(part, given, open_block)

  def _shares(self, z: jax.Array, y: Any, weights: jax.Array) -> jax.Array:
    """Return the weight of each place of the outputs, [B, ..., 1]."""
    lead = weights.astype(z.dtype).reshape(-1, *(1 for _ in z.shape[1:-1]))
    kept = logits.labelled(z, y, self.ignore) if z.ndim > 2 else None
    if kept is None:
      kept = jnp.ones(z.shape[:-1], bool)
    axes = tuple(range(1, kept.ndim))
    count = jnp.maximum(kept.sum(axes, keepdims=True), 1)
    share = jnp.where(kept, lead, 0.0)
    return (share / count if self.tokens == "mean" else share)[..., None]


@dataclasses.dataclass(frozen=True)
class Empirical:
  """mean_n g_n (g_n' v)."""

  loss: Loss

  def __call__(self, part: Part, params: Params, given: Any) -> Product:
    free = part.take(params)

    def open_block(block: Data, weights: jax.Array) -> Any:
      def each(free: Free) -> jax.Array:
        values = self.loss(part.put(params, free), block)
        wide = jnp.promote_types(values.dtype, jnp.float32)
        return jnp.where(weights > 0, values.astype(wide), 0.0)

      found, push = jax.linearize(each, free)
      pull, share = (
        jax.linear_transpose(push, free),
        weights.astype(found.dtype),
      )
      return lambda tangent: pull(share * push(tangent))[0]

    return _over_blocks(part, given, open_block)
