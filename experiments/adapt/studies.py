"""Studies of averages in training and at test time.

>>> sorted(STUDIES)
['bandit', 'experts', 'policy', 'stream']
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.adapt import patches, policies
from experiments.bench import images, text
from experiments.run import progress, runs
from weightspace import average, losses
from weightspace.data import corruptions
from weightspace.types import Data, Key, Params, Stack


def stream(run: runs.Run) -> text.Lines:
  """Adapt to a stream of corruptions, without labels and without a reset.

  A network with BatchNorm is adapted with the statistics of each batch, as in
  the papers: TENT then moves scales and biases of its norms alone, and taking
  those statistics is a method of its own.  Its source keeps its own.
  """
  splits, model, loss, _ = images.problem(run)
  config = run.config
  start = text.starts(model, splits.train["x"], run.key, config.seeds)
  source = text.trajectory(
    run,
    loss,
    start,
    images.sgd(0.1),
    splits.train,
    key=run.key,
    part=config.base,
  )[0][-1]
  held = jnp.asarray(splits.validation["x"])
  own, known = _with_statistics(model, source, splits.train, config)
  sure = jax.lax.map(lambda p: _confidence(own(p, held)), known)
  # The paper's threshold is of each source model; one for all compiles once.
  bound = float(jnp.quantile(sure, 0.05, axis=1).mean()) - 0.05
  tx = optax.adam(config.rate)
  settings = dict(copies=config.copies, decay=config.decay, threshold=bound)
  cotta = functools.partial(average.cotta, model.apply, tx, _augment)
  still = optax.sgd(0.0)
  adapters = {
    "source": average.tent(own, still),
    "TENT": average.tent(model.apply, _of_norms(tx, config)),
    "CoTTA": cotta(**settings),
    "CoTTA, no restoring": cotta(restore=0.0, **settings),
  }
  if _normed(config):
    adapters["batch statistics"] = average.tent(model.apply, still)
  with progress.bar("streams", config.seeds) as advance:
    for seed, pair in enumerate(zip(ws.unstack(source), ws.unstack(known))):
      key = jax.random.fold_in(run.key, 10 + seed)
      batches = _stream(key, splits.test, config)
      for name, adapter in adapters.items():
        begun = pair[name == "source"]
        shown = _adapted(adapter, begun, key, batches["x"])
        yield from _errors(name, seed, shown, batches["y"], config)
      advance(seed + 1)


def _normed(config: Any) -> bool:
  return config.model.get("norm") == "batch"


def _with_statistics(
  model: Any, stack: Stack, train: Data, config: Any
) -> tuple[Any, Stack]:
  """Return how source models are applied, and they with what that needs."""
  if not _normed(config):
    return model.apply, stack
  x = jnp.asarray(train["x"][: config.statistics])
  trees_ = [
    {"params": p, "stats": ws.models.population(model, p, [x], passes=1)}
    for p in ws.unstack(stack)
  ]

  def apply(tree: Params, x: jax.Array) -> jax.Array:
    return model.apply(tree["params"], x, tree["stats"])

  return apply, ws.stack(trees_)


def _of_norms(tx: Any, config: Any) -> Any:
  """Return an optimiser that moves norms alone, where there are any."""
  if not _normed(config):
    return tx

  def others(params: Params) -> Any:
    named = {p: "norm" not in p for p in ws.trees.named(params)}
    return jax.tree.unflatten(jax.tree.structure(params), named.values())

  return optax.chain(tx, optax.masked(optax.set_to_zero(), others))


def _confidence(logits: jax.Array) -> jax.Array:
  return jax.nn.softmax(logits).max(-1)


def _stream(key: Key, data: Data, config: Any) -> Data:
  """Return batches [T, B, ...]: each corruption in turn, again and again."""
  size, per = config.batch_size, config.batches
  parts = []
  for turn in range(config.turns * len(config.corruptions)):
    name = config.corruptions[turn % len(config.corruptions)]
    own = jax.random.fold_in(key, turn)
    index = np.asarray(jax.random.permutation(own, len(data["y"])))
    index = index[: size * per]
    x = corruptions.corrupt(own, data["x"][index], name, config.severity)
    parts.append({"x": x, "y": data["y"][index]})
  joined = jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)
  return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), joined)


def _augment(key: Key, x: jax.Array) -> jax.Array:
  noise = 0.1 * jax.random.normal(key, x.shape)
  light = jax.random.uniform(key, (len(x), 1, 1, 1), minval=0.8, maxval=1.2)
  return jnp.clip(light * x + noise, 0.0, 1.0)


@functools.partial(jax.jit, static_argnums=0)
def _adapted(
  adapter: average.Adapter, source: Params, key: Key, x: jax.Array
) -> jax.Array:
  """Return the logits along a stream, [T, B, C]."""

  def body(state: Any, item: Any) -> Any:
    return adapter.step(state, *item)

  items = jax.random.split(key, len(x)), x
  return jax.lax.scan(body, adapter.init(source), items)[1]


def _errors(
  name: str, seed: int, logits: jax.Array, labels: jax.Array, config: Any
) -> text.Lines:
  """Yield errors over all, over the last turn, and turn by turn."""
  wrong = 100 * (1 - np.asarray((logits.argmax(-1) == labels).mean(-1)))
  turns = wrong.reshape(config.turns, -1).mean(1)
  yield {
    "seed": seed,
    "method": name,
    "error (%)": float(wrong.mean()),
    "error of the last turn (%)": float(turns[-1]),
    "error of the first turn (%)": float(turns[0]),
  }
  for turn, value in enumerate(turns):
    at = {"at": str(turn + 1), "error by turn (%)": float(value)}
    yield {"seed": seed, "method": name, **at}


def experts(run: runs.Run) -> text.Lines:
  """Train a small vision transformer plainly, and as experts that share."""
  splits, config = run.data(), run.config
  train = jax.tree.map(lambda x: x[: config.examples], splits.train)
  test = jax.tree.map(lambda x: x[: config.test], splits.test)
  shape = patches.Shape(*config.shape)
  x = train["x"]
  steps = config.fine.epochs * (len(x) // config.fine.batch_size)
  tx = optax.adam(optax.cosine_decay_schedule(config.rate, steps))
  shared = average.sharing_experts(
    tx, patches.EXPERTS, lambda n: config.share * n / steps
  )
  keys = jax.random.split(run.key, config.seeds)
  kinds = {"dense": (1, tx), "experts, averaged": (config.experts, shared)}
  score = losses.of(patches.apply, losses.accuracy)
  cost = losses.of(patches.apply, losses.cross_entropy)
  for name, (count, optimiser) in kinds.items():
    start = ws.stack(
      [patches.init(k, x, shape, count, config.apart) for k in keys]
    )
    grown = text.trajectory(
      run, patches.loss, start, optimiser, train, key=run.key, part=config.fine,
      prepare=patches.keyed,
    )[0][-1]  # fmt: skip
    merged = ws.stack(
      [average.merge_experts(p, patches.EXPERTS) for p in ws.unstack(grown)]
    )
    yield from text.lines(
      name,
      {
        "accuracy (%)": 100 * text.scores(score, merged, test),
        "test loss": text.scores(cost, merged, test),
        "train loss": text.scores(cost, merged, train),
      },
    )


STUDIES = {
  "stream": stream,
  "experts": experts,
  "bandit": policies.bandit,
  "policy": policies.policy,
}
