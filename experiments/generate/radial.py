"""AdamP against Adam, on a network whose hidden kernels have no length.

Each hidden layer is normalised over the batch, so that the function does not
change with the length of a unit's weights.  What is measured is how much those
lengths grow, and accuracy.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.generate import bed
from experiments.run import runs
from experiments.run.study import Lines
from weightspace.types import Params, Stack

METHODS = {
  "Adam": optax.adam,
  "AdamP": ws.train.adamp,
  "SGD": lambda learning_rate: optax.sgd(learning_rate, 0.9),
  "SGDP": lambda learning_rate: ws.train.sgdp(learning_rate, 0.9),
}


def apply(params: Params, x: jax.Array) -> jax.Array:
  """Return the logits [B, classes] of an MLP normalised over its batch."""
  h = jnp.asarray(x, jnp.float32).reshape(len(x), -1)
  layers = [params[f"Dense_{i}"] for i in range(len(params))]
  for layer in layers[:-1]:
    h = h @ layer["kernel"]
    h = (h - h.mean(0)[None]) * jax.lax.rsqrt(h.var(0) + 1e-5)[None]
    h = jax.nn.relu(h + layer["bias"][None])
  return h @ layers[-1]["kernel"] + layers[-1]["bias"][None]


def lengths(stack: Stack) -> np.ndarray:
  """Return the norm [M] of all hidden kernels of each model together."""
  names = [f"Dense_{i}" for i in range(len(stack) - 1)]
  hidden = {name: stack[name]["kernel"] for name in names}
  rows, _ = ws.generate.flatten(hidden)
  return np.asarray(jnp.linalg.norm(rows, axis=1))


def study(run: runs.Run) -> Lines:
  """Train all seeds with each method; log growth of norms and accuracy."""
  config, splits, model = run.config, run.data(), run.model()
  seeds = bed.keys(run)
  train = ws.stack(
    [bed.subset(key, splits.train, config.examples) for key in seeds]
  )
  begin = bed.starts(model, splits.train["x"], seeds)
  first = lengths(begin)
  loss = ws.losses.of(apply, ws.losses.cross_entropy)
  for method in config.methods:
    curve: list[np.ndarray] = []

    def note(epoch: int, fitted: Any, curve: list[np.ndarray] = curve) -> None:
      curve.append(np.log(lengths(fitted.params) / first))

    steps = config.epochs * (len(train["y"][0]) // config.batch_size)
    rate = optax.cosine_decay_schedule(config.rates[method], steps)
    fitted = ws.train.fit_population(
      loss,
      begin,
      METHODS[method](rate),
      train,
      key=run.key,
      epochs=config.epochs,
      batch_size=config.batch_size,
      shared_data=False,
      on_epoch=note,
    )
    right = bed.accuracies(apply, fitted.params, splits.test)
    for seed in range(config.seeds):
      for epoch, value in enumerate(curve, 1):
        yield _line(seed, method, at=str(epoch), growth=value[seed])
      numbers = {"log growth": curve[-1][seed], "test (%)": right[seed]}
      yield {"seed": seed, "method": method} | _plain(numbers)


def _line(seed: int, method: str, at: str, growth: Any) -> dict[str, Any]:
  line = {"seed": seed, "method": method, "at": at}
  return line | {"log growth of norms": float(growth)}


def _plain(numbers: dict[str, Any]) -> dict[str, float]:
  return {name: float(value) for name, value in numbers.items()}
