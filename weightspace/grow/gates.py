"""Automatic inheritance: which units a student keeps is learned with its loss.

Every unit has a hard-concrete gate.  A pull towards a size, with multipliers
that rise as long as it is missed, closes gates while the model is trained; what
stays open is cut out by `inherit`.

>>> from weightspace.symmetry import trace_axes
>>> def apply(p, x): return jnp.tanh(x @ p["w"]) @ p["v"]
>>> params = {"v": jnp.ones((4, 1)), "w": jnp.ones((1, 4))}
>>> axes = trace_axes(apply, params, jnp.ones((1, 1)))
>>> tree = gate_units(axes, params)
>>> float(kept_share(axes, tree["log_alpha"])) > 0.99
True
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import sparse, trees
from weightspace.grow import indices
from weightspace.grow.wider import scale_inputs
from weightspace.jaxpr import linear_maps
from weightspace.symmetry import Axes, checks, terms
from weightspace.symmetry.axes import parse
from weightspace.types import Apply, Data, Key, Loss, Params

OPEN = 10.0  # log alpha at the start: all gates open
EDGES = math.log(0.01), math.log(100.0)  # what log alpha is held between
PULL = 10.0  # both multipliers at the start


def gate_units(axes: Axes, params: Params) -> dict[str, Any]:
  """Return a tree to train: parameters, gates of units, and two multipliers.

  Args:
    axes: from `trace_axes`; the names that lie in no block get gates: heads,
      not what they hold.
    params: the teacher, where the student begins.

  Returns:
    {"params", "log_alpha": {name: [n]}, "pull": [2]}.

  >>> from weightspace.symmetry import Axes
  >>> axes = Axes({"w": "a"}, {"a": 2}, {})
  >>> gate_units(axes, {"w": jnp.ones(2)})["log_alpha"]["a"].tolist()
  [10.0, 10.0]

  Wu et al. 2023, "TinyCLIP", https://arxiv.org/abs/2309.12314, with the starts
  of its code.
  """
  axes = checks.fitted(axes, params, "gate_units")
  log_alpha = {
    name: jnp.full(axes.sizes[name], OPEN) for name in indices.outer(axes)
  }
  return {
    "params": params,
    "log_alpha": log_alpha,
    "pull": jnp.full(2, PULL),
  }


def gated_loss(
  axes: Axes, apply: Apply, x: Any, loss: Loss, target: float
) -> Loss:
  """Return the loss of a gated model, with a pull towards a share of its size.

  loss(params, gates) + pull_0 d + pull_1 d^2, d = max(0, share - target): a
  unit's gate scales what its readers read.  The multipliers are to rise: give
  them a negative learning rate (`gate_optimiser`).

  Args:
    axes: of the model, from `trace_axes`.
    apply: apply(params, x), to tell which axes read.
    x: a batch of inputs, or its shape.
    loss: of parameters and a batch.
    target: the share of the parameters to keep, in (0, 1].

  Returns:
    Loss over the tree of `gate_units` and batches with a "key".

  Raises:
    ValueError: for a target out of range.

  Wu et al. 2023, https://arxiv.org/abs/2309.12314: the pull of its code, from
  one side, so that a pull that has risen far ends below the target.  Gates on
  what is read, rather than on activations, are ours, and a norm sees all units
  until they are cut.
  """
  if not 0 < target <= 1:
    raise ValueError(f"gated_loss: target is {target}, expected one in (0, 1]")
  reads: dict[str, tuple[int, ...]] = {}

  def gated(tree: Any, batch: Data) -> jax.Array:
    if not reads:
      found = linear_maps.find(apply, tree["params"], x)
      reads.update({at.path: at.inputs for at in found})
    alpha = held(tree["log_alpha"])
    names = list(alpha)
    keys = jax.random.split(batch["key"], len(names))
    uniform = {
      name: jax.random.uniform(key, alpha[name].shape)
      for name, key in zip(names, keys)
    }
    gates = sparse.hard_concrete(alpha, uniform)
    params = scale_inputs(axes, reads, tree["params"], gates)
    rest = {name: value for name, value in batch.items() if name != "key"}
    missed = jnp.maximum(kept_share(axes, alpha) - target, 0.0)
    pull = tree["pull"]
    fit = jnp.mean(loss(params, rest))
    return fit + pull[0] * missed + pull[1] * jnp.square(missed)

  return gated


def held(log_alpha: Mapping[str, Any]) -> dict[str, jax.Array]:
  """Return log alpha within the edges; the gradient passes."""
  return {
    name: alpha + jax.lax.stop_gradient(jnp.clip(alpha, *EDGES) - alpha)
    for name, alpha in log_alpha.items()
  }


def kept_share(axes: Axes, log_alpha: Mapping[str, Any]) -> jax.Array:
  """Return the share of parameters that open gates are expected to keep.

  Args:
    axes: from `trace_axes`.
    log_alpha: {name: [n]}; names without gates are whole.

  >>> from weightspace.symmetry import Axes
  >>> axes = Axes({"w": "a 2"}, {"a": 2}, {})
  >>> log_alpha = {"a": jnp.array([9.0, -9.0])}
  >>> kept_share(axes, log_alpha).round(2).item()
  0.5
  """
  chances = sparse.open_chance(dict(log_alpha))
  units = {name: chance.sum() for name, chance in chances.items()}

  def size(term: Any, count: Mapping[str, Any]) -> Any:
    if isinstance(term, terms.Product):
      return math.prod((size(f, count) for f in term.factors), start=1)
    if isinstance(term, terms.Sum):
      return sum(size(part, count) for part in term.parts)
    return count[term] if isinstance(term, str) else term

  def total(count: Mapping[str, Any]) -> Any:
    return sum(
      math.prod((size(t, count) for t in parse(text)), start=1)
      for text in trees.named(axes.tree).values()
    )

  return total({**axes.sizes, **units}) / total(axes.sizes)


def gate_optimiser(
  tx: optax.GradientTransformation, learning_rate: float = 0.02
) -> optax.GradientTransformation:
  """Return an optimiser of the tree of `gate_units`.

  Args:
    tx: of the parameters.
    learning_rate: of Adam on the gates; the multipliers rise as fast.

  Wu et al. 2023, https://arxiv.org/abs/2309.12314, with the rates of its code.
  """
  ways = {
    "params": tx,
    "log_alpha": optax.adam(learning_rate),
    "pull": optax.adam(-learning_rate),
  }
  return optax.partition(ways, {name: name for name in ways})


def draw_gates(key: Key, batch: Data) -> Data:
  """Prepare a batch for `gated_loss`: put the key of its gates in it."""
  return batch | {"key": key}


def open_units(log_alpha: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Return the index of the units whose gates stay open.

  Of each name as many as are expected to be open, those of largest log alpha,
  at least one.

  Args:
    log_alpha: {name: [n]}, trained.

  >>> open_units({"a": jnp.array([5.0, -5.0, 4.0])})["a"].tolist()
  [0, 2]

  Wu et al. 2023, https://arxiv.org/abs/2309.12314, as its code rounds.
  """
  index = {}
  for name, chance in sparse.open_chance(held(log_alpha)).items():
    row = np.asarray(chance, np.float64)
    count = max(1, round(float(row.sum())))
    index[name] = np.sort(np.argsort(-row, kind="stable")[:count])
  return index
