"""AdaLoRA on planted ranks: does the budget go where the change is?

A teacher is a base of several layers with changes of known ranks; a student is
tuned from the base on the teacher's outputs, with one budget of ranks.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

import weightspace as ws
from experiments.parametrize import training
from experiments.run import runs
from experiments.run.study import Lines
from weightspace import parametrize as p
from weightspace.types import Data, Key, Params

PENALTY = 0.1  # of factors that are not orthonormal, as in AdaLoRA's scripts


def planted(run: runs.Run) -> Lines:
  """Yield test loss and recovered ranks of AdaLoRA and of equal ranks."""
  config = run.config
  bases = training.each(lambda seed: _base(run, seed), config.seeds)
  parts = {
    name: ws.stack([_data(run, seed, count) for seed in range(config.seeds)])
    for name, count in (("train", config.examples), ("test", config.test))
  }
  for name, make, tx in _methods(config):
    starts = [
      make(jax.random.fold_in(run.key, seed), base)
      for seed, base in enumerate(ws.unstack(bases))
    ]
    fitted = training.fit(
      run, name, _loss, ws.stack(starts), parts["train"], config.fine, tx
    )
    test = training.mean_scores(_error, fitted.params, parts["test"])
    for seed, tree in enumerate(ws.unstack(fitted.params)):
      line = {"seed": seed, "method": name, "test loss": test[seed]}
      if name == "AdaLoRA":
        ranks = list(p.kept_ranks(tree).values())
        found = scipy.stats.spearmanr(ranks, config.ranks).statistic
        line["rank correlation"] = float(found)
        line["ranks"] = float(sum(ranks))
      yield line


def _methods(config: Any) -> Any:
  """Yield name, `make(key, base)` and optimiser of each method."""
  budget, layers = sum(config.ranks), len(config.ranks)
  even = [(budget + n) // layers for n in range(layers)][::-1]

  def equal(key: Key, base: Params) -> Params:
    tree = base
    for name, rank in zip(base, even):
      tree = p.attach(tree, name, p.lora(rank), key)
    return tree

  def adaptive(key: Key, base: Params) -> Params:
    return p.attach(base, "*", p.svd_lora(config.most), key)

  steps = config.fine.epochs * (config.examples // config.fine.batch_size)
  adalora = p.adalora(
    training.adam(config.rates.adalora),
    bT=budget,
    ti=steps // 5,
    tf=2 * steps // 5,
    T=steps,
    every=max(1, steps // 100),
  )
  yield "AdaLoRA", adaptive, adalora
  yield "equal ranks", equal, training.adam(config.rates.lora)


def _base(run: runs.Run, seed: int) -> Params:
  """Return the layers of a base, {layer: [width, width]}."""
  width, layers = run.config.width, len(run.config.ranks)
  keys = jax.random.split(jax.random.fold_in(run.key, 1000 + seed), layers)
  deviation = (2 / width) ** 0.5
  return {
    f"layer_{n}": deviation * jax.random.normal(key, (width, width))
    for n, key in enumerate(keys)
  }


def _teacher(run: runs.Run, seed: int) -> Params:
  """Return the base with a change of its rank in each layer."""
  base, config = _base(run, seed), run.config
  rng = np.random.default_rng([run.config.seed, seed])
  teacher = {}
  for (name, kernel), rank in zip(base.items(), config.ranks):
    u, v = (
      np.linalg.qr(rng.normal(size=(config.width, max(rank, 1))))[0]
      for _ in range(2)
    )
    change = config.size * (u @ v.T) * (rank > 0)
    teacher[name] = kernel + jnp.asarray(change, jnp.float32)
  return teacher


def _data(run: runs.Run, seed: int, count: int) -> Data:
  key = jax.random.fold_in(run.key, 2000 + seed)
  x = jax.random.normal(
    jax.random.fold_in(key, count), (count, run.config.width)
  )
  return {"x": x, "y": _apply(_teacher(run, seed), x)}


def _apply(params: Params, x: jax.Array) -> jax.Array:
  for kernel in params.values():
    x = jax.nn.relu(x) @ kernel
  return x


def _error(tree: Params, batch: Data) -> jax.Array:
  """Return the squared error of each example, mean over outputs."""
  outputs = _apply(p.value(tree), batch["x"])
  return jnp.mean((outputs - batch["y"]) ** 2, -1)


def _loss(tree: Params, batch: Data) -> jax.Array:
  error = _error(tree, batch)
  nodes = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, p.SvdLora))
  if any(isinstance(x, p.SvdLora) for x in nodes):
    error = error + PENALTY * p.orthogonality(tree)
  return error
