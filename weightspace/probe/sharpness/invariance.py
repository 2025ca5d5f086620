"""A self-check: does a probe see a change that the function does not see?

The units of a ReLU layer may be scaled up and what reads them scaled down, or a
layer before a norm scaled at will: the network computes the same.  A sharpness
that moves by it compares parametrisations, not functions.

>>> def apply(p, x): return jax.nn.relu(x @ p["a"]) @ p["b"]
>>> params = {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 1))}
>>> other = rescale(params, {"a": 10.0, "b": 0.1})
>>> bool(jnp.allclose(apply(params, jnp.eye(2)), apply(other, jnp.eye(2))))
True
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.losses import objectives
from weightspace.types import Data, Loss, Params


def rescale(params: Params, factors: Mapping[str, float]) -> Params:
  """Return the model with chosen leaves multiplied.

  Args:
    params: one model.
    factors: {path: factor}; for a ReLU layer, f for its kernel and bias and
      1/f for the next kernel.

  Raises:
    ValueError: for a path that is not in the model.

  >>> rescale({"w": jnp.ones(1), "b": jnp.ones(1)}, {"w": 3.0})["w"].item()
  3.0

  Dinh et al. 2017, https://arxiv.org/abs/1703.04933.
  """
  unknown = [path for path in factors if path not in trees.named(params)]
  if unknown:
    raise ValueError(
      f"rescale: {unknown[0]!r} is no leaf, expected of {trees.names(params)}"
    )

  def scale(path: str, leaf: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    return (leaf * factors.get(path, 1.0)).astype(leaf.dtype)

  return trees.map_named(scale, params)


def moved_by(
  probes: Mapping[str, Callable[[Params], Any]],
  loss: Loss,
  data: Data,
  params: Params,
  other: Params,
  tolerance: float = 1e-3,
) -> dict[str, float]:
  """Return by what factor each probe changes between two equal functions.

  Args:
    probes: {name: params -> number}; of a pair (value, error) the value counts.
    loss: `loss(params, data)`, per example where it can be.
    data: where the functions are compared.
    params: one model.
    other: the same function in other parameters.
    tolerance: by which losses may differ, relative to 1 + loss.

  Returns:
    {name: probe(other) / probe(params)}: 1 for an invariant probe.

  Raises:
    ValueError: when the losses differ: they are not the same function.

  >>> def loss(p, x): return jax.nn.relu(x * p["a"]) * p["b"]
  >>> p = {"a": jnp.array(1.0), "b": jnp.array(2.0)}
  >>> norm = lambda p: p["a"] ** 2 + p["b"] ** 2
  >>> other = rescale(p, {"a": 2.0, "b": 0.5})
  >>> moved_by({"norm": norm}, loss, jnp.ones(3), p, other)
  {'norm': 1.0}

  Ours.
  """
  objectives.examples(loss, params, data, "moved_by")
  first, second = (np.asarray(loss(p, data), float) for p in (params, other))
  gap = np.max(np.abs(first - second) / (1.0 + np.abs(first)))
  if not gap <= tolerance:
    raise ValueError(
      f"moved_by: losses differ by {gap:.2g}, expected the same function"
    )
  ratios = {}
  for name, probe in probes.items():
    before, after = (_value(probe(p)) for p in (params, other))
    ratios[name] = after / before if before else float("nan")
  return ratios


def _value(found: Any) -> float:
  return float(found[0] if isinstance(found, tuple) else found)
