"""Studies of whole blocks: left out of a ResNet, pooled at other places.

>>> sorted(STUDIES)
['layer_tickets', 'supernets']
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats

import weightspace as ws
from experiments.bench import text
from experiments.grow import bed
from experiments.run import runs
from weightspace import grow
from weightspace.types import Data, Key, Params, Stack

ACCURACY = "accuracy (%)"
RANK = "rank correlation"


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """Return the convolution of images, as large as they are over the stride."""
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )  # fmt: skip


def normal(layer: Params, x: jax.Array) -> jax.Array:
  """Return x with each channel normalised over its batch."""
  mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  x = (x - mean[None, None, None]) * jax.lax.rsqrt(var + 1e-5)[None, None, None]
  return x * layer["scale"][None, None, None] + layer["bias"][None, None, None]


def apply_resnet(params: Params, x: jax.Array) -> jax.Array:
  """Map images to logits by the blocks of a `models.build("resnet")`.

  A block with a projection halves the image; norms are of the batch.
  """
  x = jax.nn.relu(normal(params["norm"], conv(x, params["stem"]["kernel"])))
  for k in range(sum(name.startswith("block_") for name in params)):
    block = params[f"block_{k}"]
    stride = 2 if "shortcut" in block else 1
    y = conv(x, block["conv_0"]["kernel"], stride)
    y = jax.nn.relu(normal(block["norm_0"], y))
    y = normal(block["norm_1"], conv(y, block["conv_1"]["kernel"]))
    if stride == 2:
      x = conv(x, block["shortcut"]["kernel"], stride)
      x = normal(block["norm_shortcut"], x)
    x = jax.nn.relu(x + y)
  return bed.linear(params["head"], x.mean((1, 2)))


def layer_tickets(run: runs.Run) -> text.Lines:
  """Remove blocks of lowest score at the start, or as many parameters of width.

  What is left begins where it began in the dense network, and trains alone.
  """
  config = run.config
  train, test = bed.pictures(run, flat=False)
  model = ws.models.build(
    "resnet", depth=config.depth, width=config.width, norm="batch"
  )
  start = text.starts(model, train["x"][0], run.key, config.seeds)
  axes = bed.axes_of(apply_resnet, start, train["x"])
  yield from _trained(run, "dense", list(ws.unstack(start)), train, test)
  for removed in config.removed:
    layers = [
      _ticket(run, params, bed.model(train, seed), removed)
      for seed, params in enumerate(ws.unstack(start))
    ]
    narrow = [
      _as_small(axes, params, ws.models.count(ticket))
      for params, ticket in zip(ws.unstack(start), layers)
    ]
    yield from _trained(run, f"{removed} blocks", layers, train, test)
    yield from _trained(run, f"width like {removed}", narrow, train, test)


def _ticket(run: runs.Run, params: Params, train: Data, removed: int) -> Params:
  """Leave out the blocks of lowest score."""
  batch = jax.tree.map(lambda x: x[: run.config.scored], train)
  scores = grow.block_scores(
    apply_resnet, params, batch, bed.PATTERN, run.config.kind
  )
  order = np.argsort(-np.asarray(scores), kind="stable")
  kept = sorted(order[: len(order) - removed].tolist())
  return grow.restack(params, bed.PATTERN, kept, check=False)


def _as_small(axes: Any, params: Params, count: int) -> Params:
  """Cut the inner channels of all blocks to so many parameters, or fewer."""
  inner = [name for name in axes.sizes if name.endswith("norm_0")]
  for share in np.linspace(1.0, 0.0, 65):
    sizes = {n: max(1, int(share * axes.sizes[n])) for n in inner}
    small = grow.take(axes, sizes, params)
    if ws.models.count(small) <= count:
      return small
  return small


def _trained(
  run: runs.Run, name: str, members: list[Params], train: Data, test: Data
) -> text.Lines:
  """Train networks that may differ in shape from seed to seed, one by one."""
  right, loss, part = [], bed.labelled(apply_resnet), run.config.fit
  steps = part.epochs * (run.config.examples // part.batch_size)
  tx = optax.sgd(optax.cosine_decay_schedule(part.learning_rate, steps), 0.9)
  for seed, params in enumerate(members):
    data, shown = (
      jax.tree.map(lambda x, s=seed: x[s : s + 1], split)
      for split in (train, test)
    )
    stack = jax.tree.map(lambda x: jnp.asarray(x)[None], params)
    fitted = bed.fit(run, loss, stack, data, part, 1, tx=tx, seeds=[seed])
    right.append(bed.accuracy(apply_resnet, fitted.params, shown)[0])
  yield from text.lines(name, {ACCURACY: np.array(right)})


def pooled_net(key: Key, channels: int, layers: int) -> Params:
  """Return a convolutional network whose images may be pooled anywhere."""
  keys = jax.random.split(key, layers + 1)
  params = {"head": bed.dense(keys[layers], channels, bed.CLASSES, 1.0)}
  for k in range(layers):
    inputs = channels if k else 1
    scale = np.sqrt(2.0 / (9 * inputs))
    kernel = jax.random.normal(keys[k], (3, 3, inputs, channels))
    params[f"conv_{k}"] = {"kernel": scale * kernel}
  return params


def apply_pooled(
  params: Params, x: jax.Array, places: Sequence[int]
) -> jax.Array:
  """Map images to logits, pooled after the layers at `places`."""
  layers = sum(name.startswith("conv_") for name in params)
  one = {"scale": jnp.ones(1), "bias": jnp.zeros(1)}
  for k in range(layers):
    x = jax.nn.relu(normal(one, conv(x, params[f"conv_{k}"]["kernel"])))
    if k in places:
      x = jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
      )
  return bed.linear(params["head"], x.mean((1, 2)))


def supernets(run: runs.Run) -> text.Lines:
  """Rank pooling configurations by M shared supernets, and by those alone."""
  config = run.config
  train, test = bed.pictures(run, flat=False)
  paths = grow.pooling(config.layers, config.pools)

  def make(key: Key) -> Params:
    return pooled_net(key, config.channels, config.layers)

  alone = np.stack([_alone(run, make, path, train, test) for path in paths], 1)
  for count in config.models:
    found = np.stack(
      [
        _mixture(run, make, paths, (count, seed), _of(seed, train, test))
        for seed in range(config.seeds)
      ]
    )
    ranks = [correlation(a, b) for a, b in zip(found, alone)]
    best = [100 * alone[s, int(f.argmax())] for s, f in enumerate(found)]
    yield from text.lines(
      f"M = {count}", {RANK: np.array(ranks), "chosen (%)": np.array(best)}
    )


def correlation(a: np.ndarray, b: np.ndarray) -> float:
  """Return the rank correlation; 0 where one of the two ranks nothing.

  >>> correlation(np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, 4.0]))
  -0.5
  >>> correlation(np.ones(3), np.arange(3.0))
  0.0
  """
  if np.ptp(a) == 0 or np.ptp(b) == 0:
    return 0.0
  return float(scipy.stats.spearmanr(a, b).statistic)


def _alone(
  run: runs.Run, make: Any, path: tuple[int, ...], train: Data, test: Data
) -> np.ndarray:
  """Return the accuracy of one configuration trained by itself, [S]."""

  def apply(params: Params, x: jax.Array) -> jax.Array:
    return apply_pooled(params, x, path)

  start = bed.starts(run, make, 5)
  fitted = bed.fit(run, bed.labelled(apply), start, train, run.config.fit, 5)
  return bed.accuracy(apply, fitted.params, test) / 100


def _of(seed: int, *splits: Data) -> tuple[Data, ...]:
  """Return the images of one seed."""
  return tuple(bed.model(split, seed) for split in splits)


def _mixture(
  run: runs.Run,
  make: Any,
  paths: list[tuple[int, ...]],
  place: tuple[int, int],
  data: tuple[Data, ...],
) -> np.ndarray:
  """Train M supernets, routed by the table; return the score of each path."""
  config, (count, seed), (train, test) = run.config, place, data
  key = jax.random.fold_in(jax.random.fold_in(run.key, 4000 + count), seed)
  stack = jax.vmap(make)(jax.random.split(key, count))
  tx = optax.adam(config.fit.learning_rate)
  half, size = config.examples // 2, config.fit.batch_size
  branches = [
    lambda p, x, path=path: apply_pooled(p, x, path) for path in paths
  ]

  def logits(params: Params, x: jax.Array, path: Any) -> jax.Array:
    return jax.lax.switch(path, branches, params, x)

  def step(state: Any, number: Any) -> tuple[Any, None]:
    stack, moments, table = state
    keys = jax.random.split(jax.random.fold_in(key, number), 4)
    path = jax.random.randint(keys[0], (), 0, len(paths))
    heat = 1.0 + (config.hottest - 1.0) * number / (config.steps * count)
    chances = grow.balance(table, heat, 1e-4)
    chosen = grow.route(chances, path, keys[1])
    rows = jax.random.randint(keys[2], (size,), 0, half)
    held = half + jax.random.randint(keys[3], (size,), 0, half)

    def loss(params: Params) -> jax.Array:
      outputs = logits(params, train["x"][rows], path)
      return ws.losses.cross_entropy(outputs, train["y"][rows]).mean()

    params, old = (
      jax.tree.map(lambda x: x[chosen], tree) for tree in (stack, moments)
    )
    updates, new = tx.update(jax.grad(loss)(params), old, params)
    params = optax.apply_updates(params, updates)
    right = logits(params, train["x"][held], path).argmax(-1)
    score = (right == train["y"][held]).mean()
    table = grow.rewarded(table, path, chosen, score)
    put = lambda x, y: x.at[chosen].set(y)  # noqa: E731
    stack = jax.tree.map(put, stack, params)
    return (stack, jax.tree.map(put, moments, new), table), None

  table = jnp.ones((len(paths), count))
  begin = stack, jax.vmap(tx.init)(stack), table
  numbers = jnp.arange(config.steps * count)
  train_all = jax.jit(lambda begin: jax.lax.scan(step, begin, numbers)[0])
  stack, _, table = train_all(begin)
  return _routed(branches, stack, table, test)


def _routed(
  branches: Sequence[Any], stack: Stack, table: Any, test: Data
) -> np.ndarray:
  """Return the accuracy of each path in the supernet that suits it best."""
  routed = np.asarray(table).argmax(1)
  scores = []
  for path, model in enumerate(routed):
    shown = branches[path](bed.model(stack, int(model)), test["x"])
    scores.append(float((shown.argmax(-1) == test["y"]).mean()))
  return np.array(scores)


STUDIES = {"layer_tickets": layer_tickets, "supernets": supernets}
