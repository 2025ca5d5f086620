"""Task vectors: what fine-tuning changed, added up.

A task vector is tau_m = theta_m - theta_0.  Each method here is a few steps on
the Stack of task vectors put back on the base.

>>> models, start = {"w": jnp.array([1.0, 3.0])}, {"w": jnp.array(0.0)}
>>> task_arithmetic(0.5)(models, base=start)["w"].item()
2.0
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.merge.core import checks
from weightspace.merge.core.recipe import Recipe, chain, on_deltas
from weightspace.merge.core.steps import At, Step, minus_base, reduction
from weightspace.types import Fold

Scalar = float | jax.Array


def scaled(scale: Scalar) -> Step:
  """Return the step x -> scale x."""
  return Step("scale", lambda x, at: scale * x, entrywise=True)


def total(weights: Sequence[float] | jax.Array | None = None) -> Step:
  """Return the step sum_m w_m x_m (w_m = 1 by default), model by model."""
  weigh = weigher("weights", weights)

  def fold(at: At) -> Fold:
    return Fold(
      init=jnp.zeros_like,
      update=lambda state, item: state + weigh(*item),
      value=lambda state: state,
      merge=lambda a, b: a + b,
    )

  return reduction("total", fold, entrywise=True)


def weigher(what: str, weights: Any) -> Callable[[Any, Any], Any]:
  """Return (m, x) -> w_m x, and x itself without weights."""
  if weights is None:
    return lambda m, x: x
  weights = jnp.asarray(weights, jnp.float32)
  if weights.ndim != 1:
    raise ValueError(f"{what} have shape {weights.shape}, expected [M]")
  trees.check_finite(weights, what)
  return lambda m, x: weights[m] * x


def counted(weights: Any) -> tuple[Step, ...]:
  """Return the step that refuses another number of models than of weights."""
  if weights is None:
    return ()
  step = Step(
    "weights",
    lambda x, at: x,
    models=len(weights),
    entrywise=True,
    kind="neutral",
  )
  return (step,)


def task_arithmetic(
  scale: Scalar, weights: Sequence[float] | jax.Array | None = None
) -> Recipe:
  """Return task arithmetic, theta_0 + scale sum_m w_m tau_m.

  Addition has scale > 0, negation scale < 0; an analogy "a is to b as c is to"
  is weights [-1, 1, 1] on a, b, c.  scale = 1/M is the mean of the models.

  Args:
    scale: one number for all task vectors, to be found on validation data.
    weights: [M]; all one by default, as in the paper.

  Raises:
    ValueError: for a scale or weights that are not finite, or weights that are
      not one per model.

  >>> models = {"w": jnp.array([1.0, 4.0, 6.0])}
  >>> analogy = task_arithmetic(1.0, weights=[-1.0, 1.0, 1.0])
  >>> analogy(models, base={"w": jnp.array(1.0)})["w"].item()
  9.0

  Ilharco et al. 2023, "Editing models with task arithmetic",
  https://arxiv.org/abs/2212.04089.
  """
  checks.number("task_arithmetic: scale", scale)
  return on_deltas(chain(*counted(weights), total(weights), scaled(scale)))


def transfer(scale: Scalar = 1.0) -> Recipe:
  """Return fine-tuning transfer, target + scale sum_m (theta_m - base).

  What fine-tuning changed in one version of a model, added to another version
  of it: called `recipe(stack, base=source_base, target=target_base)`.

  Args:
    scale: 1 in the paper.

  >>> models, old, new = ({"w": jnp.array(v)} for v in ([3.0], 1.0, 10.0))
  >>> transfer(1.0)(models, base=old, target=new)["w"].item()
  12.0

  Lin et al. 2025, "Efficient model development through fine-tuning transfer",
  https://arxiv.org/abs/2503.20110.  Several models add up (ours).
  """
  checks.number("transfer: scale", scale)

  def edit(x: jax.Array, at: At) -> jax.Array:
    return x + jnp.asarray(at.given["target"]).astype(x.dtype)

  onto = Step("plus_target", edit, ("target",), entrywise=True)
  return chain(minus_base, total(), scaled(scale), onto)


def magmax(scale: Scalar = 1.0) -> Recipe:
  """Return MagMax: of each entry, the task vector that moved it furthest.

  theta_0 + scale tau_{m*}, m* = argmax_m |tau_m|; equal magnitudes go to the
  earlier model (the paper does not say; FusionBench takes the later one).

  >>> models = {"w": jnp.array([[1.0, -2.0], [-3.0, 1.0]])}
  >>> magmax(1.0)(models, base={"w": jnp.zeros(2)})["w"].tolist()
  [-3.0, -2.0]

  Marczak et al. 2024, "MagMax: leveraging model merging for seamless continual
  learning", https://arxiv.org/abs/2407.06322.
  """
  checks.number("magmax: scale", scale)

  def fold(at: At) -> Fold:
    def further(state: jax.Array, x: jax.Array) -> jax.Array:
      return jnp.where(jnp.abs(x) > jnp.abs(state), x, state)

    return Fold(
      init=jnp.zeros_like,
      update=lambda state, item: further(state, item[1]),
      value=lambda state: state,
      merge=further,
    )

  return on_deltas(
    chain(reduction("furthest", fold, entrywise=True), scaled(scale))
  )
