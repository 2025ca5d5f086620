"""A study of networks of equal cost: dense, or wide and sparse (Sparse-IFT).

>>> sorted(STUDIES)
['iso_flop']
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import text
from experiments.run import runs
from experiments.sparse import bed
from weightspace import losses, sparse
from weightspace.types import Params

METHODS = ("dense", "static", "SET", "RigL")


def iso_flop(run: runs.Run) -> text.Lines:
  """Train a dense network, and wider ones that keep as many weights a layer."""
  problem, config = bed.begin(run), run.config
  steps = config.base.epochs * (config.examples // config.base.batch_size)
  rate = optax.cosine_decay_schedule(config.base.learning_rate, steps)
  sgd = optax.sgd(rate, momentum=0.9)
  widths = [sparse.wide(w, config.sparsity) for w in config.model.widths]
  wide = ws.models.build(**{**config.model, "widths": tuple(widths)})
  for name in METHODS:
    model = problem.model if name == "dense" else wide
    shapes = model.init(run.key, problem.train["x"][0, :1])
    begin = _begin(run, config.sparsity, shapes)
    full = jax.tree.map(lambda x: jnp.ones(x.shape, bool), shapes)
    keep = full if name == "dense" else begin
    plan = config.drop, config.every, steps * 3 // 4
    tx = {
      "dense": sgd,
      "static": sparse.train_only(sgd, keep),
      "SET": sparse.set_(sgd, keep, *plan, key=run.key),
      "RigL": sparse.rigl(sgd, keep, *plan),
    }[name]
    begun = text.starts(model, problem.train["x"][0], run.key, config.seeds)
    begun = jax.vmap(lambda p, m=keep: sparse.apply(p, m))(begun)
    loss = losses.of(model.apply, losses.cross_entropy)
    score = losses.of(model.apply, losses.accuracy)
    part = config.base
    last = bed.fit(run, loss, begun, tx, problem.train, part, 0)[-1]
    cost = sparse.flops(model.apply, shapes, keep, problem.train["x"][0, :1])
    values = {
      "accuracy (%)": bed.percent(score, last, problem.test),
      "MFLOP an image": np.full(config.seeds, cost / 1e6),
    }
    yield from text.lines(name, values)


def _begin(run: runs.Run, sparsity: float, shapes: Params) -> Params:
  """Return the first mask: what is neither the first nor the last layer."""
  inner = [
    path
    for path, x in ws.trees.named(shapes).items()
    if path.endswith("kernel") and x.ndim == 4 and path != "conv_0/kernel"
  ]
  return sparse.random(run.key, shapes, 1 - sparsity, only=inner)


STUDIES = {"iso_flop": iso_flop}
