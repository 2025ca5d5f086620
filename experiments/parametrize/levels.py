"""Language models in few levels: by rows, by powers, around a merge."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.parametrize import transfer
from experiments.run import runs
from experiments.run.study import Lines
from weightspace import parametrize as p
from weightspace.types import Data, Params

ONLY = "block*kernel"  # the linear maps of blocks; not embeddings, norms, heads


def levels(run: runs.Run) -> Lines:
  """Yield the rise of the loss in percent for each way to round the weights.

  Exponents are chosen on validation text, all else is measured on test text.
  """
  config, bed = run.config, transfer.bed_of(run)
  parts = transfer.new_task(run, config.base.task, config.shown.validation)
  for seed, params in enumerate(ws.unstack(bed.bases)):
    held, test = (
      jax.tree.map(lambda x, s=seed: jnp.asarray(x[s]), parts[split])
      for split in ("validation", "test")
    )
    loss = functools.partial(_mean_loss, bed.loss)
    before = float(loss(params, test))
    for name, kept, more in _ways(config, params, loss, held):
      after = float(loss(p.value(kept), test))
      yield {
        "seed": seed,
        "method": name,
        "rise of the loss (%)": 100 * (after / before - 1),
        "weight error (%)": 100 * _error(params, p.value(kept)),
        **more,
      }
  yield from _merges(run, bed)


@functools.partial(jax.jit, static_argnums=0)
def _mean_loss(loss: Any, params: Params, data: Data) -> jax.Array:
  return jnp.mean(loss(params, data))


def _ways(config: Any, params: Params, loss: Any, held: Data) -> Any:
  """Yield a name, quantised parameters, and the exponent if there is one."""
  for bits in config.bits:
    yield f"INT{bits}", p.quantise(params, bits, only=ONLY), {}
  for bits in config.power_bits:
    by_weights = p.best_power(params, bits, only=ONLY)
    by_loss = p.best_power(
      params, bits, only=ONLY, loss=lambda x: loss(x, held)
    )
    learned, _ = p.learn_power(
      loss, params, held, bits, only=ONLY, start=by_weights, steps=config.steps
    )
    found = {"weights": by_weights, "loss": by_loss, "learned": learned}
    for name, power in found.items():
      kept = p.quantise(params, bits, curve="power", power=power, only=ONLY)
      mean = float(np.mean(_chosen(power, params)))
      yield f"INT{bits}, power by {name}", kept, {"power": mean}


def _chosen(power: Any, params: Params) -> list[float]:
  """Return the exponents of the leaves that are quantised."""
  every = ws.trees.named(p.quantise(params, 4, only=ONLY))
  paths = {path.rsplit("/", 1)[0] for path in every if path.endswith("codes")}
  named = ws.trees.named(ws.trees.spread(power, params, "powers"))
  return [float(named[path]) for path in paths]


def _error(params: Params, rounded: Params) -> float:
  """Return |w - w_rounded| / |w|, over all weights."""
  pairs = zip(jax.tree.leaves(params), jax.tree.leaves(rounded))
  lost = sum(float(jnp.sum((a - b) ** 2)) for a, b in pairs)
  whole = sum(float(jnp.sum(a**2)) for a in jax.tree.leaves(params))
  return (lost / whole) ** 0.5


def _merges(run: runs.Run, bed: transfer.Bed) -> Lines:
  """Yield losses of experts merged and rounded, in both orders.

  Each way is a rise over the merge that is not rounded, mean over tasks.
  """
  config = run.config
  if not config.merge_bits:
    return
  parts = {
    name: transfer.new_task(run, task, config.fine.examples)
    for name, task in config.tasks.items()
  }
  full = config.full
  experts = [
    transfer.tuned(run, name, bed, bed.bases, data, full).trees
    for name, data in parts.items()
  ]
  mean = ws.merge.uniform()
  for seed in range(config.seeds):
    models = [ws.unstack(stack)[seed] for stack in experts]
    whole = mean(ws.stack(models))
    before = _over_tasks(bed.loss, whole, parts, seed)
    for bits in config.merge_bits:
      keep = functools.partial(p.quantise, bits=bits, only=ONLY)
      after = p.value(keep(whole))
      first = mean(ws.stack([p.value(keep(model)) for model in models]))
      ways = {
        f"INT{bits}, merged then rounded": after,
        f"INT{bits}, rounded then merged": first,
        f"INT{bits}, rounded, merged, rounded": p.value(keep(first)),
      }
      for name, params in ways.items():
        loss = _over_tasks(bed.loss, params, parts, seed)
        rise = 100 * (loss / before - 1)
        yield {"seed": seed, "method": name, "rise of the loss (%)": rise}


def _over_tasks(loss: Any, params: Params, parts: Any, seed: int) -> float:
  return float(
    np.mean(
      [
        _mean_loss(
          loss, params, jax.tree.map(lambda x: jnp.asarray(x[seed]), d["test"])
        )
        for d in parts.values()
      ]
    )
  )
