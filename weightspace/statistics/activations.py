"""Mean and variance of what goes into every linear map of a model.

>>> apply, w = lambda w, x: x @ w, jnp.ones((1, 3))
>>> found = moments(apply, w, jnp.array([[1.0], [3.0]]))
>>> found[""]["mean"].item(), found[""]["var"].item()
(2.0, 1.0)
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.jaxpr import closures
from weightspace.statistics import map_inputs, streams
from weightspace.types import Apply, Data, Fold, Params


def moments(apply: Apply, params: Params, data: Data) -> dict[str, Any]:
  """Return the mean and variance of the inputs of every linear map.

  Args:
    apply: `apply(params, x) -> outputs`.
    params: of one model.
    data: {"x": [N, ...]}, a pair (x, y), an array x, or an iterable of these.

  Returns:
    {path: {"mean", "var"}}, each [batch, in], over all tokens; var with 1/n.
    Scanned layers and experts are the batch axis.

  Raises:
    ValueError: when no linear map is found, for no examples, or NaN.

  >>> params = {"w": jnp.ones((2, 3))}
  >>> x = jnp.array([[0.0, 1.0], [2.0, 1.0]])
  >>> moments(lambda p, x: x @ p["w"], params, x)["w"]["var"].tolist()
  [[1.0, 0.0]]

  Chan et al. 1983, "Algorithms for computing the sample variance",
  https://doi.org/10.1080/00031305.1983.10483115, for joining two parts.
  """
  trees.check_finite(params, "moments: params")
  return streams.fold_all(moments_fold(apply, params), data, "moments")


def moments_fold(apply: Apply, params: Params) -> Fold:
  """Return the fold over batches {"x"} whose value is `moments`.

  Its state is a dict of arrays; `merge` joins two parts of the data.
  """

  def init(batch: Data) -> Any:
    shapes = jax.eval_shape(
      lambda p, x: _moments(apply, p, x), params, batch["x"]
    )
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return {"params": params, "maps": zeros}

  def update(state: Any, batch: Data) -> Any:
    now = closures.fixed(apply)
    for x in streams.chunks(
      batch["x"], map_inputs.most(now, params, batch["x"])
    ):
      state = dict(state, maps=_add(state, x, now))
    return state

  def value(state: Any) -> Any:
    return {
      path: {name: found[name] for name in ("mean", "var")}
      for path, found in state["maps"].items()
    }

  def merge(a: Any, b: Any) -> Any:
    return dict(a, maps=_joined(a["maps"], b["maps"]))

  return Fold(init, update, value, merge)


@functools.partial(jax.jit, static_argnames="apply")
def _add(state: Any, x: Any, apply: Apply) -> Any:
  return _joined(state["maps"], _moments(apply, state["params"], x))


def _moments(apply: Apply, params: Params, x: Any) -> dict[str, Any]:
  """Return count, mean and var of the inputs of each map, by path.

  Uses at several places of a leading axis are its batch axis, several uses at
  one place are more tokens.
  """
  maps = map_inputs.checked("moments", apply, params, x)
  uses: dict[str, dict[Any, list[jax.Array]]] = {}
  for at, rows in map_inputs.seen(apply, params, x, maps):
    uses.setdefault(at.path, {}).setdefault(at.taken, []).append(rows)
  found = {}
  for path, places in uses.items():
    batch = [jnp.concatenate(places[place], 1) for place in sorted(places)]
    whole = jnp.concatenate(batch)
    count = jnp.asarray(whole.shape[1], whole.dtype)
    found[path] = {"count": count, "mean": whole.mean(1), "var": whole.var(1)}
  return found


def _joined(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
  return {path: _join(found, b[path]) for path, found in a.items()}


def _join(a: dict[str, jax.Array], b: dict[str, jax.Array]) -> dict[str, Any]:
  count = a["count"] + b["count"]
  share, gap = b["count"] / jnp.maximum(count, 1.0), b["mean"] - a["mean"]
  between = share * (1.0 - share) * gap**2
  var = a["var"] + share * (b["var"] - a["var"]) + between
  return {"count": count, "mean": a["mean"] + share * gap, "var": var}
