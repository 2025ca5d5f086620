"""One cell of a phase grid: everything that is measured of its networks.

Of each network: training loss, test accuracy, trace and top eigenvalue of the
training Hessian.  Of each pair of independent networks: mode connectivity on
the training error of a trained curve, CKA of outputs, and what the average of
the two gains over its parts, plain and after matching.  Of the pair from one
start: barrier of the training error on the line, and the gain of the average.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp

import weightspace as ws
from experiments.bench import classifiers
from experiments.run import runs
from weightspace import losses, probe
from weightspace.types import Data, Key, Params, Stack


def measure(
  run: runs.Run,
  model: Any,
  stack: Stack,
  train: Data,
  test: Data,
  *,
  place: tuple[float, int],
  key: Key,
) -> None:
  """Log the measures of a cell's networks; the last is the twin of the first.

  Args:
    run: logs go there; its config has `curve`, `hessian` and `inputs`.
    model: what was trained.
    stack: [seeds + 1, ...].
    train: the training data.
    test: the test data.
    place: (width, batch).
    key: of everything random.
  """
  models = [jax.tree.map(jnp.asarray, m) for m in ws.unstack(stack)]
  # Fractional widths are words: a float does not tell lines apart.
  cell = {"width": f"{place[0]:g}", "batch": place[1]}
  right = 1.0 - _errors(run, model, models, test)
  for seed, params in enumerate(models[:-1]):
    own = jax.random.fold_in(key, seed)
    found = _alone(run, model, params, train, own)
    run.log(**cell, seed=seed, **found, accuracy=100 * float(right[seed]))
  pairs = list(itertools.combinations(range(len(models) - 1), 2))
  a, b = (ws.stack([models[p[k]] for p in pairs]) for k in (0, 1))
  loss = classifiers.risk(model)
  curves = probe.fit_curves(loss, train, a, b, key, **run.config.curve)
  axes = ws.match.trace_axes(model.apply, models[0], train["x"][:2])
  for pair, curve in zip(pairs, curves):
    one, two = (models[m] for m in pair)
    found = _pair(
      run, model, one, two, curve, axes=axes, train=train, test=test
    )
    run.log(**cell, pair=f"{pair[0]}-{pair[1]}", **found)
  error = classifiers.error(model)
  line = probe.barrier(error, train, models[0], models[-1], points=11)
  gain = _gain(run, model, models[0], models[-1], test)
  run.log(**cell, pair="twins", barrier=line.chord, gain=gain)


def _errors(run: runs.Run, model: Any, models: list[Params], data: Data) -> Any:
  """Return the error of each model, a share."""
  error = classifiers.error(model)
  stack, each = ws.stack(models), jnp.eye(len(models))
  return ws.merge.evaluate_mixes(stack, each, error, data, mesh=run.mesh)


def _alone(
  run: runs.Run, model: Any, params: Params, train: Data, key: Key
) -> dict[str, float]:
  config, loss = run.config.hessian, classifiers.risk(model)
  data = jax.tree.map(lambda x: x[: config.examples], train)
  operator = probe.hessian(loss, params, data)
  top = probe.top_eigenpairs(operator, 1, config.steps, key)[0][0]
  value, error = probe.trace(operator, key, config.probes)
  return {
    "loss": float(losses_of(loss, params, train)),
    "top_eigenvalue": float(top),
    "trace": float(value),
    "trace_stderr": float(error),
  }


def losses_of(loss: Any, params: Params, data: Data) -> jax.Array:
  """Return the mean loss of one model."""
  return jnp.mean(loss(params, data))


def _pair(
  run: runs.Run,
  model: Any,
  one: Params,
  two: Params,
  curve: Any,
  *,
  axes: Any,
  train: Data,
  test: Data,
) -> dict[str, float]:
  error = classifiers.error(model)
  found = probe.barrier_on(curve, error, train, points=5)
  inputs = test["x"][: run.config.inputs]
  logits = [model.apply(p, inputs) for p in (one, two)]
  matched = ws.match.match_weights(axes, one, two, jax.random.key(0))
  near = ws.match.permute(axes, matched.perm, two)
  near = jax.tree.map(jnp.asarray, near)
  return {
    "mode_connectivity": found.connectivity,
    "cka": float(probe.cka(*logits)),
    "disagreement": float(probe.disagreement(*logits)),
    "distance": float(probe.distance(one, two)),
    "gain": _gain(run, model, one, two, test),
    "matched_gain": _gain(run, model, one, near, test),
  }


def _gain(
  run: runs.Run, model: Any, one: Params, two: Params, test: Data
) -> float:
  """Return the accuracy of the average less that of its parts, in points."""
  rows = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
  right = losses.of(model.apply, losses.accuracy)
  stack = ws.stack([one, two])
  found = ws.merge.evaluate_mixes(stack, rows, right, test, mesh=run.mesh)
  return float(100 * (found[2] - (found[0] + found[1]) / 2))
