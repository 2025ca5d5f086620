"""A study of forgetting: a few principal weights tuned, or all, or LoRA (LIFT).

>>> list(METHODS)[:2]
['LIFT', 'smallest']
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import text
from experiments.run import runs
from experiments.sparse import bed
from weightspace import parametrize, sparse, trees
from weightspace.types import Data, Params, Stack

HIDDEN = ("Dense_0/kernel", "Dense_1/kernel")
HEAD = "Dense_2"


def principal(run: runs.Run) -> text.Lines:
  """Tune a network of digits on letters, in ways that train few weights.

  The head of the digits is kept aside; what is forgotten is measured with it.
  """
  problem, part = bed.begin(run), run.config.base
  tx = optax.adam(part.learning_rate)
  begun = bed.starts(run, problem)
  source = bed.fit(run, problem.loss, begun, tx, problem.train, part, 0)[-1]
  kept = bed.percent(problem.score, source, problem.test)
  yield from text.lines("before", {"source accuracy (%)": kept})
  letters = _letters(run)
  start = {**source, HEAD: begun[HEAD]}
  curves = {
    name: np.stack([_measured(problem, source, letters, x) for x in tune()])
    for name, tune in _ways(run, problem, start, letters["train"]).items()
  }  # [epochs, 3, S]
  goal = curves["LIFT"][-1, 0]
  for name, curve in curves.items():
    epoch = reached(curve[:, 0], goal)
    equal = np.take_along_axis(curve, epoch[None, None], 0)[0]
    values = {
      "source at equal target (%)": equal[2],
      "target there (%)": equal[1],
      "source accuracy (%)": curve[-1, 2],
      "target accuracy (%)": curve[-1, 1],
    }
    yield from text.lines(name, values)


def reached(values: np.ndarray, goal: np.ndarray) -> np.ndarray:
  """Return the first epoch at which each seed is as good, or else its best.

  >>> reached(np.array([[1.0, 2.0], [3.0, 1.0]]), np.array([3.0, 9.0])).tolist()
  [1, 0]
  """
  good = values >= goal
  return np.where(good.any(0), good.argmax(0), values.argmax(0))


def _letters(run: runs.Run) -> dict[str, Data]:
  """Return each seed's letters: to train on, to choose by, and to test on.

  Where there are none, digits upside down stand for them.
  """
  config = run.config.target
  splits = ws.data.load(config.data, run.data_dir, download=run.download)
  keys = jax.random.split(jax.random.fold_in(run.key, 3), 3)
  parts = {}
  for name, key in zip(("train", "validation", "test"), keys):
    data = bed.images(run, getattr(splits, name), key, config[name])
    turned = data["x"][:, :, ::-1] if config.turned else data["x"]
    parts[name] = {**data, "x": turned}
  return parts


def _measured(
  problem: bed.Bed, source: Stack, letters: dict[str, Data], stack: Stack
) -> np.ndarray:
  """Return accuracies on letters (validation, test) and digits, [3, S]."""
  old = {**stack, HEAD: source[HEAD]}
  pairs = [(stack, letters["validation"]), (stack, letters["test"])]
  pairs.append((old, problem.test))
  return np.stack([bed.percent(problem.score, *pair) for pair in pairs])


METHODS: dict[str, Callable[[Params, Any], Params]] = {
  "LIFT": lambda p, c: sparse.principal(p, c.rank, c.density, only=HIDDEN),
  "smallest": lambda p, c: sparse.principal(
    p, c.rank, c.density, only=HIDDEN, largest=False
  ),
  "magnitude": lambda p, c: sparse.top(jax.tree.map(jnp.abs, p), c.density),
  "random": lambda p, c: sparse.random(
    jax.random.key(c.seed), p, c.density, only=HIDDEN
  ),
}


def _ways(
  run: runs.Run, problem: bed.Bed, start: Stack, data: Data
) -> dict[str, Callable[[], list[Stack]]]:
  """Return what tunes the networks, by name; each returns all epochs."""
  config, part = run.config, run.config.fine

  def masked(name: str) -> list[Stack]:
    def rule(params: Params) -> Params:
      chosen = METHODS[name](params, config)
      return trees.map_named(
        lambda path, keep: keep & (path in HIDDEN) | path.startswith(HEAD),
        chosen,
      )

    tx = sparse.train_only(optax.adam(part.rates[name]), rule)
    return bed.fit(run, problem.loss, start, tx, data, part, 1)

  def full() -> list[Stack]:
    tx = optax.adam(part.rates["full"])
    return bed.fit(run, problem.loss, start, tx, data, part, 1)

  ways = {name: lambda n=name: masked(n) for name in METHODS}
  return ways | {"full": full, "LoRA": lambda: _lora(run, problem, start, data)}


def _lora(
  run: runs.Run, problem: bed.Bed, start: Stack, data: Data
) -> list[Stack]:
  part = run.config.fine
  keys = jax.random.split(jax.random.fold_in(run.key, 4), run.config.seeds)

  def begin(params: Params, key: Any) -> Params:
    tree = parametrize.attach(
      params, HIDDEN, parametrize.lora(run.config.adapter), key
    )
    biases = [path.replace("kernel", "bias") for path in HIDDEN]
    return parametrize.attach(tree, biases, parametrize.freeze)

  def loss(tree: Params, batch: Data) -> jax.Array:
    return problem.loss(parametrize.value(tree), batch)

  begun = jax.vmap(begin)(start, keys)
  tx = parametrize.only_trainable(optax.adam(part.rates["LoRA"]))
  steps = bed.fit(run, loss, begun, tx, data, part, 1)
  return [jax.vmap(parametrize.value)(tree) for tree in steps]


STUDIES = {"principal": principal}
