"""Batch normalisation whose statistics are a second tree, found by a Fold.

The parameters hold only the scale and the bias.  Without `stats` a model is
normalised by the batch that it is given; with them by the statistics of a
population.  Weights that were averaged, merged or permuted have no statistics
yet: fold the training inputs to get them.

>>> import jax.numpy as jnp
>>> layer = BatchNorm()
>>> x = jnp.array([[1.0], [3.0]])
>>> params = {"scale": jnp.ones(1), "bias": jnp.zeros(1)}
>>> stats = {"mean": jnp.array([2.0]), "var": jnp.array([4.0])}
>>> layer.apply({"params": params, "stats": stats}, x).round(2).tolist()
[[-0.5], [0.5]]
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from weightspace.models import foreign_norms
from weightspace.types import Fold, Params

MOMENTS = "moments"  # the collection that a forward pass leaves its moments in
STATS = "stats"  # the collection of population statistics


class BatchNorm(nn.Module):
  """scale (x - mean) / sqrt(var + epsilon) + bias, for each channel.

  mean and var are those in the collection "stats" where it holds them, else
  those of x over all axes but the last, var with 1/n.  Where the collection
  "moments" is mutable, the count, mean and var of x are left in it.

  Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167; no running average
  is kept: the paper too recomputes the statistics after training (algorithm 2).
  """

  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Map x [..., C] to [..., C] in its dtype."""
    channels = x.shape[-1:]
    scale = self.param("scale", nn.initializers.ones, channels)
    bias = self.param("bias", nn.initializers.zeros, channels)
    y = x.astype(jnp.float32).reshape(-1, *channels)
    measured = self.is_mutable_collection(MOMENTS)
    known = self.has_variable(STATS, "mean") and self.has_variable(STATS, "var")
    if not known and not measured:
      path = "/".join(self.path)
      raise ValueError(f"stats: {path!r} has no mean and var, expected both")
    mean, var = y.mean(0), y.var(0)
    if measured:
      for name, value in (("count", len(y)), ("mean", mean), ("var", var)):
        self.put_variable(MOMENTS, name, jnp.asarray(value, jnp.float32))
    if known:
      mean = self.get_variable(STATS, "mean")
      var = self.get_variable(STATS, "var")
    y = (y - mean[None]) * (jax.lax.rsqrt(var + self.epsilon) * scale)[None]
    return (y + bias[None]).reshape(x.shape).astype(x.dtype)


class Measured(NamedTuple):
  """What the fold carries: arrays it reads, and the moments so far.

  The parameters ride along so that a jitted update takes them as an argument.
  """

  params: Params
  stats: Any
  moments: Any


def _is_layer(node: Any) -> bool:
  return isinstance(node, dict) and "count" in node


def join(a: dict[str, jax.Array], b: dict[str, jax.Array]) -> dict[str, Any]:
  """Return moments of two sets together (Chan et al. 1983), exactly.

  >>> one = {"count": jnp.ones(()), "mean": jnp.ones(1), "var": jnp.zeros(1)}
  >>> join(one, one)["count"].item()
  2.0
  """
  count = a["count"] + b["count"]
  share = b["count"] / jnp.maximum(count, 1.0)
  gap = b["mean"] - a["mean"]
  var = a["var"] + share * (b["var"] - a["var"])
  return {
    "count": count,
    "mean": a["mean"] + share * gap,
    "var": var + share * (1.0 - share) * gap**2,
  }


def _joined(a: Any, b: Any) -> Any:
  return jax.tree.map(join, a, b, is_leaf=_is_layer)


def moments(
  module: nn.Module, params: Params, stats: Any, x: Any, **call: Any
) -> Any:
  """Return count, mean and var of the input of each BatchNorm of `module`."""
  variables = {"params": params, STATS: stats}
  with foreign_norms.watched(stats) as seen:
    left = module.apply(variables, x, mutable=[MOMENTS], **call)[1]
  return _beside(left.get(MOMENTS, {}), foreign_norms.nested(seen))


def _beside(a: Any, b: Any) -> Any:
  """Return two nested dicts as one."""
  shared = a.keys() & b.keys()
  return {**a, **b} | {key: _beside(a[key], b[key]) for key in shared}


def batch_norm(model: Any, params: Params, stats: Any = None) -> Fold:
  """Return the fold over inputs whose value is the BatchNorm statistics.

  Policy: each layer's value is the mean and the 1/n variance of all its inputs
  (images and pixels together), by pooled moments, not a mean of batch
  variances.  While measuring, each layer normalises by `stats` where given,
  else by the batch at hand.  So without `stats` the first layer is exact and
  the deeper ones are those of training mode, which depend on the batches; a
  fold whose `stats` are exact up to layer l is exact up to layer l + 1,
  whatever the batches: `population` runs as many as there are layers.

  Args:
    model: from `build` or `from_linen`.
    params: of one model.
    stats: statistics to normalise by meanwhile, such as an earlier value.

  Returns:
    Fold over x [B, ...], with a merge.  The value has for each BatchNorm layer,
    under its path in the parameters, {"mean": [C], "var": [C]} in float32; it
    is {} for a model that has none.

  >>> from weightspace import models
  >>> model, x = models.from_linen(BatchNorm()), jnp.array([[1.0], [3.0]])
  >>> fold = batch_norm(model, model.init(jax.random.key(0), x))
  >>> state = fold.update(fold.update(fold.init(x), x), x + 4.0)
  >>> [v.item() for v in fold.value(state).values()]  # of 1, 3, 5, 7
  [4.0, 5.0]

  Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167 (algorithm 2);
  recomputing after averaging: Izmailov et al. 2018,
  https://arxiv.org/abs/1803.05407.  The pooled variance is ours.
  """

  def init(x: Any) -> Measured:
    held = stats or {}
    shapes = jax.eval_shape(model.moments, params, held, x)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return Measured(params, held, zeros)

  def update(state: Measured, x: Any) -> Measured:
    new = model.moments(state.params, state.stats, x)
    return state._replace(moments=_joined(state.moments, new))

  def value(state: Measured) -> Any:
    return jax.tree.map(
      lambda layer: {"mean": layer["mean"], "var": layer["var"]},
      state.moments,
      is_leaf=_is_layer,
    )

  def merge(a: Measured, b: Measured) -> Measured:
    return a._replace(moments=_joined(a.moments, b.moments))

  return Fold(init, update, value, merge)


@functools.partial(jax.jit, static_argnums=0)
def _step(measure: Callable[..., Any], state: Measured, x: Any) -> Any:
  return _joined(state.moments, measure(state.params, state.stats, x))


def population(
  model: Any,
  params: Params,
  batches: Sequence[jax.Array],
  passes: int | None = None,
) -> Any:
  """Return the population statistics of every BatchNorm layer.

  Pass k folds the batches with the statistics of pass k - 1, which makes layer
  k exact.  By default there are as many passes as layers, and the result does
  not depend on how the inputs are split into batches or ordered.

  Args:
    model: from `build` or `from_linen`.
    params: of one model.
    batches: inputs, each [B, ...]; B may differ, each size compiles once.
    passes: fewer for an approximation; 1 is the usual practice, in which deeper
      layers follow each batch's own statistics.

  Returns:
    The statistics, as the value of `batch_norm`.

  Raises:
    ValueError: when there is no batch or `passes` is below 1.

  >>> from weightspace import models
  >>> model = models.from_linen(nn.Sequential([BatchNorm(), BatchNorm()]))
  >>> x = jnp.array([[1.0], [2.0], [6.0]])
  >>> params = model.init(jax.random.key(0), x)
  >>> parts = population(model, params, [x[:1], x[1:]])
  >>> parts["layers_1"]["var"].round(4).tolist()  # of the normalised x
  [1.0]
  """
  if not len(batches):
    raise ValueError("batches: none, expected at least one [B, ...]")
  if passes is not None and passes < 1:
    raise ValueError(f"passes: {passes}, expected at least 1")
  stats, done = None, 0
  while passes is None or done < passes:
    fold = batch_norm(model, params, stats)
    state = fold.init(batches[0])
    for x in batches:
      state = state._replace(moments=_step(model.moments, state, x))
    stats, done = fold.value(state), done + 1
    if passes is None:
      layers = jax.tree.leaves(state.moments, is_leaf=_is_layer)
      passes = max(len(layers), 1)
  return stats
