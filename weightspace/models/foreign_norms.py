"""flax's own BatchNorm, whose statistics are then a second tree as well.

flax keeps running averages in the model.  Here its layers are normalised by
the batch, or by statistics that are given, and leave the moments of what they
get: so statistics are measured for them as for `models.BatchNorm`, whether the
module says to use running averages or not.

>>> import jax
>>> layer, x = nn.BatchNorm(use_running_average=True), jnp.array([[1.0], [3.0]])
>>> params = layer.init(jax.random.key(0), x)["params"]
>>> with watched(None) as seen:
...   layer.apply({"params": params}, x).round(2).tolist()
[[-1.0], [1.0]]
>>> seen[()]["mean"].tolist()
[2.0]
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Seen = dict[tuple[str, ...], dict[str, jax.Array]]


@contextlib.contextmanager
def watched(stats: Any) -> Iterator[Seen]:
  """Normalise flax's BatchNorm layers by these statistics, or by the batch.

  Args:
    stats: {layer: {"mean", "var"}} nested as the parameters, or None.

  Yields:
    What fills with count, mean and var of the input of each, by its path.
  """
  seen: Seen = {}

  def call(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
    layer = context.module
    if context.method_name != "__call__" or not isinstance(layer, nn.BatchNorm):
      return next_fun(*args, **kwargs)
    if kwargs.get("mask") is not None:
      raise ValueError(f"BatchNorm {layer.name!r}: masks are not supported")
    x = args[0] if args else kwargs["x"]
    known = _at(stats, layer.path)
    y, seen[layer.path] = _normalised(layer, x, known)
    return y

  with nn.intercept_methods(call):
    yield seen


def nested(seen: Seen) -> dict[str, Any]:
  """Return what layers left, nested as their parameters are.

  >>> nested({("a", "b"): {"mean": 1.0}})
  {'a': {'b': {'mean': 1.0}}}
  """
  tree: dict[str, Any] = {}
  for path, layer in seen.items():
    node = tree
    for part in path:
      node = node.setdefault(part, {})
    node.update(layer)
  return tree


def moments(x: jax.Array, axis: Any) -> tuple[dict[str, jax.Array], list[int]]:
  """Return count, mean and var over all axes but those of features.

  >>> moments(jnp.array([[1.0], [3.0]]), -1)[0]["var"].tolist()
  [1.0]
  """
  kept = {a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)}
  over = [a for a in range(x.ndim) if a not in kept]
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  mean, var = wide.mean(over), wide.var(over)
  count = jnp.asarray(x.size / max(mean.size, 1), mean.dtype)
  return {"count": count, "mean": mean, "var": var}, over


def _at(stats: Any, path: tuple[str, ...]) -> Any:
  for part in path:
    stats = stats.get(part) if isinstance(stats, dict) else None
  return stats if isinstance(stats, dict) and "mean" in stats else None


def _normalised(
  layer: nn.BatchNorm, x: jax.Array, known: Any
) -> tuple[jax.Array, dict[str, jax.Array]]:
  x = jnp.asarray(x)
  own, over = moments(x, layer.axis)
  used = own if known is None else known
  mean, var = (jnp.expand_dims(used[name], over) for name in ("mean", "var"))
  y = (x - mean) * jax.lax.rsqrt(var + layer.epsilon)
  for name, wanted in (("scale", layer.use_scale), ("bias", layer.use_bias)):
    if wanted:
      value = jnp.expand_dims(layer.get_variable("params", name), over)
      y = y * value if name == "scale" else y + value
  return y.astype(layer.dtype or x.dtype), own
