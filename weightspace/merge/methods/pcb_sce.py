"""Merges by how much entries matter against each other: SCE, PCB.

>>> models = {"w": jnp.array([[2.0, 0.0], [0.0, 1.0]])}
>>> sce(1.0)(models, base={"w": jnp.zeros(2)})["w"].tolist()
[2.0, 1.0]
"""

from typing import Any

import jax
import jax.numpy as jnp

from weightspace import means, trees
from weightspace.merge.core import checks
from weightspace.merge.core.recipe import Recipe, chain, on_deltas
from weightspace.merge.core.steps import At, Measure, Step, of_leaf
from weightspace.merge.methods.task_arithmetic import scaled
from weightspace.merge.order_statistics import in_xla, quantiles
from weightspace.numerics import counts

Scalar = float | jax.Array
CLIP = 1e-4  # PCB ignores this share of magnitudes at either end


def variance(x: jax.Array) -> jax.Array:
  """Return the population variance over models, [M, ...] -> [...].

  Around model 0, so that entries that agree have exactly zero.
  """
  ones = jnp.full(len(x), 1 / len(x), x.dtype)
  x = x - x[:1]
  mean = means.contract(x, ones)
  return means.contract(jnp.square(x - mean[None]), ones)


def select(top: Scalar) -> Step:
  """Return the step that keeps, in each leaf, where models differ most.

  The share `top` of the entries that differ at all stays, by their variance
  over models, ties included; the others become zero in all models.
  """
  checks.number("top", top, 0, 1)
  if trees.concrete(top) and top >= 1:
    return Step("select", lambda x, at: x)

  def threshold(x: jax.Array, at: At) -> Any:
    moved = variance(x)
    differ: Any = (moved > 0).sum(dtype=jnp.uint32)
    differ = int(differ) if trees.concrete(differ) else differ
    folds = in_xla.measures(lambda _: counts.kept(top, differ))
    return in_xla.through(folds, moved[None])

  def edit(x: jax.Array, at: At) -> jax.Array:
    limit = jnp.asarray(at.local, x.dtype)[0]
    return jnp.where((variance(x) >= limit)[None], x, 0)

  return Step("select", edit, local=of_leaf(threshold))


def sce(top: Scalar, scale: Scalar = 1.0) -> Recipe:
  """Return SCE: select by variance, calculate by energy, erase by sign.

  In each leaf, with tau_m what `select` left: eta_m = |tau_m|^2 / sum |tau|^2;
  theta = theta_0 + scale sum eta_m m_m tau_m / sum eta_m m_m, where m_m says
  that tau_m has the sign of sum tau (+ where that is 0).

  Args:
    top: the share of entries to select, in [0, 1].
    scale: of the merged task vector; 1 in the paper.

  Wan et al. 2024, "FuseChat: knowledge fusion of chat models",
  https://arxiv.org/abs/2408.07990.  The weights are relative to the largest
  one, so that small task vectors do not underflow (ours).
  """
  checks.number("sce: top", top, 0, 1)
  checks.number("sce: scale", scale)

  def edit(x: jax.Array, at: At) -> jax.Array:
    largest = jnp.max(jnp.abs(x), initial=0)
    unit = x / jnp.where(largest > 0, largest, 1)
    energy = [jnp.mean(jnp.square(unit[m])) for m in range(len(x))]
    whole = sum(energy)
    sign = jnp.where(sum(x[m] for m in range(len(x))) >= 0, 1, -1)
    up, down = jnp.zeros_like(x[0]), jnp.zeros_like(x[0])
    for m in range(len(x)):
      weight = energy[m] / jnp.where(whole > 0, whole, 1)
      weight = jnp.where(sign * x[m] > 0, weight, 0)
      up, down = up + weight * x[m], down + weight
    return up / jnp.where(down > 0, down, 1)

  fuse = Step("erase", edit, reduces=True)
  return on_deltas(chain(select(top), fuse, scaled(scale)))


def pcb(keep: Scalar, scale: Scalar = 1.0) -> Recipe:
  """Return PCB-Merging: weigh entries by how they compete, inside and between.

  a = |tau_m| clipped to its 1e-4 and 1 - 1e-4 quantiles, u = a scaled to
  [0, 1] per model; beta = exp(M u^2) tanh(tau_m sum tau); s = beta above its
  1 - keep quantile, scaled to [0, 1];
  theta = theta_0 + scale sum s sgn(tau_m) a / max(sum s, 1e-12).

  Args:
    keep: the share of each task vector that keeps a weight; 0.05 to 0.2 in the
      paper's code.
    scale: the paper's code uses 1.2, or searches 0.8 to 1.3.

  Returns:
    A Recipe that passes over the leaves for the clips, then for beta.

  >>> models = {"w": jnp.array([[4.0, 1.0, -1.0], [3.0, -1.0, 0.0]])}
  >>> merged = pcb(0.5)(models, base={"w": jnp.zeros(3)})["w"]
  >>> [round(x, 3) for x in merged.tolist()]
  [3.5, 0.0, 0.0]

  Du et al. 2024, "Parameter competition balancing for model merging",
  https://arxiv.org/abs/2410.02396, by the formulas of its code.  Quantiles are
  linear between order statistics, and M in the exponent is the code's.
  """
  checks.number("pcb: keep", keep, 0, 1)
  checks.number("pcb: scale", scale)
  clips = quantiles.quantiles([1 - CLIP, CLIP])

  def rest(context: Any) -> tuple[Measure, ...]:
    def of(x: jax.Array, at: At) -> jax.Array:
      return _competition(x, context)[1]

    largest = [lambda n: counts.Count(0, 1)]
    return quantiles.quantiles([keep], of, True, ranks=largest)

  def edit(x: jax.Array, at: At) -> jax.Array:
    context, competing = at.measured
    clipped, beta = _competition(x, context)
    least = spread(quantiles.between(competing), x)
    room = spread(quantiles.ranked(competing), x) - least
    weight = jnp.maximum(beta - least, 0) / jnp.where(room > 0, room, 1)
    weight = jnp.where(room > 0, weight, beta >= least)
    ones = jnp.ones(len(x), x.dtype)
    whole = means.contract(weight, ones)
    merged = means.contract(weight * jnp.sign(x) * clipped, ones)
    return merged / jnp.maximum(whole, 1e-12)

  measures = quantiles.then(clips, rest, clips)
  fuse = Step("compete", edit, measures=measures, reduces=True)
  return on_deltas(chain(fuse, scaled(scale)))


def spread(values: Any, x: jax.Array) -> jax.Array:
  """Give numbers [M] the rank of a leaf [M, ...]."""
  return jnp.asarray(values, x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def _competition(x: jax.Array, context: Any) -> tuple[jax.Array, jax.Array]:
  """Return clipped magnitudes and beta, both [M, ...]."""
  low, high = (spread(quantiles.between(context, i), x) for i in (0, 1))
  clipped = jnp.clip(jnp.abs(x), low, high)
  unit = (clipped - low) / jnp.where(high > low, high - low, 1)
  whole = means.contract(x, jnp.ones(len(x), x.dtype))
  return clipped, jnp.exp(len(x) * unit**2) * jnp.tanh(x * whole[None])
