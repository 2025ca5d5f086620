"""Studies of searches: widths found in one weight that all options share.

>>> sorted(STUDIES)
['tanglenas']
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import text
from experiments.grow import bed
from experiments.run import runs
from weightspace import grow, losses
from weightspace.jaxpr import graph
from weightspace.types import Data, Params, Stack

PERCENTILE, ERROR = "percentile", "error of the mixture"
WIDEST = "widest value"


def tanglenas(run: runs.Run) -> text.Lines:
  """Search the widths of two layers in one weight; train all of them alone.

  The objective of search and oracle is one: the loss and a price on the share
  of the largest network's parameters.  Networks alone are padded with units of
  zeros, which get no gradient, so that all train as one program.
  """
  config, apply = run.config, bed.apply_perceptron
  train, test = bed.pictures(run)
  start = bed.perceptrons(run, train, [max(config.options)] * 2)
  axes = bed.axes_of(apply, start, train["x"])
  options = {f"layer_{k}": tuple(config.options) for k in range(2)}
  shares = _shares(train["x"].shape[-1], config.options)
  prices = config.price * shares
  oracle = _oracle(run, axes, options, start, (train, test)) + prices
  for name, mixing in (("DrNAS", grow.drnas), ("DARTS", grow.darts)):
    found = _searched(run, axes, options, start, train, prices, mixing)
    places = [
      np.unravel_index(int(np.argmax(row)), prices.shape) for row in found
    ]
    better = [
      100 * float((oracle[s] > oracle[s][at]).mean())
      for s, at in enumerate(places)
    ]
    error, wide = _exact(apply, axes, options, bed.model(start), train)
    yield from text.lines(
      name,
      {
        PERCENTILE: np.array(better),
        ERROR: np.full(len(better), error),
        WIDEST: np.full(len(better), wide),
      },
    )


def _shares(features: int, widths: Any) -> np.ndarray:
  """Return the share of parameters of each pair of widths, [K, K]."""
  a, b = np.meshgrid(widths, widths, indexing="ij")
  count = (features + 1) * a + (a + 1) * b + (b + 1) * bed.CLASSES
  return count / count.max()


def _oracle(
  run: runs.Run, axes: Any, options: Any, start: Stack, data: tuple[Data, Data]
) -> np.ndarray:
  """Return the test loss of every architecture trained alone, [S, K, K]."""
  config, rows = run.config, []
  loss, pairs = bed.labelled(bed.apply_perceptron), list(options.items())
  for seed in range(config.seeds):
    train, test = (bed.model(part, seed) for part in data)
    alone = ws.stack(
      [
        grow.entangle(
          bed.model(start, seed), axes,
          {name: (k,) for (name, _), k in zip(pairs, sizes)}, [1.0],
        )
        for sizes in itertools.product(*(sizes for _, sizes in pairs))
      ]
    )  # fmt: skip
    fitted = bed.fit(
      run, loss, alone, train, config.alone, 10 + seed, shared_data=True,
      same_order=True,
    )  # fmt: skip
    found = text.scores(loss, fitted.params, test)
    rows.append(found.reshape(len(config.options), -1))
  return np.stack(rows)


def _searched(
  run: runs.Run,
  axes: Any,
  options: Any,
  start: Stack,
  train: Data,
  prices: np.ndarray,
  mixing: Any,
) -> np.ndarray:
  """Return how much each pair of widths is wanted in the end, [S, K, K]."""
  config, names = run.config, list(options)

  def loss(params: Params, weights: Any, batch: Data) -> jax.Array:
    mixed = grow.entangle(params, axes, options, weights)
    fit = losses.cross_entropy(
      bed.apply_perceptron(mixed, batch["x"]), batch["y"]
    )
    price = jnp.einsum(
      "i,ij,j->", weights[names[0]], jnp.asarray(prices), weights[names[1]]
    )
    return fit.mean() + price

  def prepare(key: Any, batch: Data) -> Data:
    half = len(batch["y"]) // 2
    return {
      "train": {name: x[:half] for name, x in batch.items()},
      "valid": {name: x[half:] for name, x in batch.items()},
      "key": key,
    }

  count = len(config.options)
  logits = {name: jnp.zeros((config.seeds, count)) for name in names}
  tx = optax.partition(
    {
      "params": optax.adam(config.search.learning_rate),
      "logits": optax.chain(
        optax.add_decayed_weights(1e-3),
        optax.adam(config.search.architecture_rate, b1=0.5, b2=0.999),
      ),
    },
    {"params": "params", "logits": "logits"},
  )
  fitted = bed.fit(
    run, grow.search(loss, mixing), {"params": start, "logits": logits}, train,
    config.search, 20, tx=tx, prepare=prepare,
  )  # fmt: skip
  first, second = (fitted.params["logits"][name] for name in names)
  return np.asarray(first)[:, :, None] + np.asarray(second)[:, None]


def _exact(
  apply: Any, axes: Any, options: Any, params: Params, train: Data
) -> tuple[float, float]:
  """Return how far a mixed map is from the mixture, and its widest value.

  The first layer of slices, mixed, against the layer of the mixed weight; the
  widest value of the program, over that of the plain program or its largest
  parameter: a mixed weight is computed, a plain one is there.
  """
  x, name = train["x"][0, :64], next(iter(options))
  sizes = {name: options[name]}
  weights = jnp.arange(1.0, 1.0 + len(options[name]))
  weights /= weights.sum()
  mixed = grow.entangle(params, axes, sizes, weights)
  maps = [
    bed.linear(grow.entangle(params, axes, {name: (k,)}, [1.0])["layer_0"], x)
    for k in options[name]
  ]
  expected = sum(w * y for w, y in zip(weights, maps))
  error = jnp.abs(bed.linear(mixed["layer_0"], x) - expected).max()

  def program(params: Params, weights: Any, x: Any) -> jax.Array:
    return apply(grow.entangle(params, axes, sizes, weights), x)

  stored = max(leaf.nbytes for leaf in jax.tree.leaves(params))
  plain = max(graph.widest(graph.trace(apply, params, x)), stored)
  wide = graph.widest(graph.trace(program, params, weights, x))
  return float(error), wide / plain


STUDIES = {"tanglenas": tanglenas}
