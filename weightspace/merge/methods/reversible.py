"""Reversible merging: a few basis vectors from which every model comes back.

Instead of one model, p basis vectors per position are kept with each model's
coefficients, so that any of the M models can be reconstructed.  It is made for
the factors of low-rank adapters, where one merged model loses most.

>>> factors = {"a": jnp.array([[[1.0, 0.0]], [[2.0, 0.0]]])}  # [M, in, r]
>>> kept = rmm(1)(factors)  # the two are multiples of one vector
>>> reconstruct(kept)["a"].round(4).tolist()
[[[1.0, 0.0]], [[2.0, 0.0]]]
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.merge.core import checks
from weightspace.types import Key, Params, Stack

SCOPES = ("position", "layer")
Axis = Callable[[str, tuple[int, ...]], int]  # the rank axis of a factor


class Reversible(NamedTuple):
  """Basis [..., p] and coefficients [..., p, M] of each leaf, in float32."""

  basis: Params
  coefficients: Params  # axes that share coefficients have size 1
  lost: Params  # [], squared error of each leaf over all models


def rank_axis(path: str, shape: tuple[int, ...]) -> int:
  """Return the axis of a factor that has the rank, by the leaf's name.

  -2 for a name that ends in b, as in B [r, out]; -1 for all others, as for
  A [in, r].

  >>> rank_axis("dense/lora_b", (4, 512))
  -2
  """
  return -2 if path.lower().endswith("b") and len(shape) > 1 else -1


def rmm(
  basis: int, scope: str = "position", axis: Axis = rank_axis
) -> Callable[..., Reversible]:
  """Return the compression of M models to `basis` vectors per position.

  At each position the M vectors X = [x_1 .. x_M] (r x M) become W C with
  W = U_p and C = U_p' X from X = U S V'; the squared error is the sum of the
  other squared singular values, which no basis of p vectors beats.

  Args:
    basis: p, the vectors kept; from min(r, M) on, nothing is lost.
    scope: "position", each row of A [in, r] and column of B [r, out] by itself
      (the paper), or "layer", a whole leaf as one vector, so that a model's
      coefficients are shared by all positions (ours).
    axis: (path, shape) -> the axis of a leaf that has the rank.

  Returns:
    A function from a Stack of factors to Reversible; `reconstruct` undoes it.

  Raises:
    ValueError: for basis < 1 or an unknown scope; when called, for a NaN or a
      leaf that is not real.

  >>> float(rmm(1)({"a": jnp.eye(2)[:, None]}).lost["a"])
  1.0

  "Reversible model merging for low-rank weights", 2025,
  https://arxiv.org/abs/2510.14163; no code is public, so no centring.
  """
  checks.number("rmm: basis", basis, least=1)
  checks.option("rmm: scope", scope, SCOPES)

  def compress(
    stack: Stack, *, base: Params | None = None, key: Key | None = None
  ) -> Reversible:
    trees.size(stack)
    trees.check_finite(stack, "stack", stacked=True)

    def leaf(path: str, x: jax.Array) -> Reversible:
      x = jnp.asarray(x)
      if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"rmm: {path!r} is {x.dtype}, expected real numbers")
      x = x.astype(trees.accumulator(x.dtype))
      shape = x.shape[1:]
      axes = tuple(range(len(shape)))
      if scope == "position" and shape:
        axes = (axis(path, shape) % len(shape),)
      return _compress(x, axes, int(basis))

    found = trees.map_named(leaf, stack)
    return jax.tree.transpose(
      jax.tree.structure(stack), jax.tree.structure(Reversible(0, 0, 0)), found
    )

  return compress


def _compress(x: jax.Array, axes: tuple[int, ...], count: int) -> Reversible:
  """Compress [M, ...] along `axes` (of one model), each other index apart."""
  shape = x.shape[1:]
  others = [i for i in range(len(shape)) if i not in axes]
  inside = math.prod(shape[i] for i in axes)
  order = [i + 1 for i in (*others, *axes)]
  vectors = x.transpose(*order, 0).reshape(-1, inside, len(x))
  u, s, vt = jnp.linalg.svd(vectors, full_matrices=False)
  count = min(count, s.shape[-1])
  back = np.argsort([*others, *axes])

  def restore(y: jax.Array, sizes: list[int], tail: int) -> jax.Array:
    y = y.reshape([shape[i] for i in others] + sizes + list(y.shape[-tail:]))
    return y.transpose(*back, *range(len(shape), len(shape) + tail))

  basis = restore(u[:, :, :count], [shape[i] for i in axes], 1)
  coefficients = s[:, :count, None] * vt[:, :count]
  return Reversible(
    basis,
    restore(coefficients, [1] * len(axes), 2),
    jnp.sum(s[:, count:] ** 2),
  )


def reconstruct(kept: Reversible, model: int | None = None) -> Stack:
  """Return the models of a Reversible: a Stack, or one model's tree.

  Args:
    kept: what `rmm` returned.
    model: the index of one model; None for all, [M, ...].

  Raises:
    ValueError: for a model that is not there.

  >>> kept = rmm(2)({"a": jnp.eye(2)[:, None]})
  >>> reconstruct(kept, 1)["a"].round(4).tolist()
  [[0.0, 1.0]]
  """
  count = jax.tree.leaves(kept.coefficients)[0].shape[-1]
  if model is not None and not 0 <= model < count:
    raise ValueError(f"reconstruct: model {model}, expected 0 to {count - 1}")
  highest = jax.lax.Precision.HIGHEST

  def leaf(basis: jax.Array, coefficients: jax.Array) -> jax.Array:
    if model is not None:
      return jnp.sum(basis * coefficients[..., model], axis=-1)
    return jnp.einsum(
      "...p,...pm->m...", basis, coefficients, precision=highest
    )

  return jax.tree.map(leaf, kept.basis, kept.coefficients)


def stored_share(kept: Reversible) -> float:
  """Return the numbers that are kept over those of all models.

  p (r + M) / (r M) where every position has its own coefficients.

  >>> stored_share(rmm(1)({"a": jnp.ones((4, 3, 2))}))  # M = 4, r = 2
  0.75
  """
  count = jax.tree.leaves(kept.coefficients)[0].shape[-1]
  basis = sum(x.size for x in jax.tree.leaves(kept.basis))
  models = sum(
    count * math.prod(x.shape[:-1]) for x in jax.tree.leaves(kept.basis)
  )
  coefficients = sum(x.size for x in jax.tree.leaves(kept.coefficients))
  return (basis + coefficients) / models
