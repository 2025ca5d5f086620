"""Studies of widths: supernets, entangled options, halves side by side.

>>> sorted(STUDIES)
['bignas', 'mixture_growth', 'tanglenas']
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
from weightspace import grow, losses, parametrize
from weightspace.jaxpr import graph
from weightspace.types import Data, Params, Stack

ACCURACY = "accuracy (%)"
PERCENTILE, ERROR = "percentile", "error of the mixture"
WIDEST = "widest value"
TEMPLATES = 2  # of each layer of a half


def bignas(run: runs.Run) -> text.Lines:
  """Slice supernets without training, beside networks of each width alone."""
  config, apply = run.config, bed.apply_perceptron
  train, test = bed.pictures(run)
  start = _perceptrons(run, train, config.widths)
  axes = bed.axes_of(apply, start, train["x"])
  children = [grow.sizes(axes, share) for share in config.shares]
  ways = {
    "sandwich": grow.sandwich(apply, axes, children),
    "sandwich, hard labels": grow.sandwich(apply, axes, children, distil=False),
    "plain": bed.labelled(apply),
  }
  for name, loss in ways.items():
    stack = bed.fit(run, loss, start, train, config.fit, 1).params
    for share, child in zip(config.shares, children):
      sliced = jax.vmap(lambda p, c=child: grow.take(axes, c, p))(stack)
      yield from _scored(f"{name}, {share:.0%}", apply, sliced, test)
  for share in config.shares:
    widths = [int(share * width) for width in config.widths]
    alone = _perceptrons(run, train, widths)
    loss = bed.labelled(apply)
    stack = bed.fit(run, loss, alone, train, config.fit, 1).params
    yield from _scored(f"alone, {share:.0%}", apply, stack, test)


def _perceptrons(run: runs.Run, train: Data, widths: Any) -> Stack:
  features = train["x"].shape[-1]
  return bed.starts(run, lambda key: bed.perceptron(key, features, widths), 1)


def _scored(name: str, apply: Any, stack: Stack, test: Data) -> text.Lines:
  yield from text.lines(name, {ACCURACY: bed.accuracy(apply, stack, test)})


def tanglenas(run: runs.Run) -> text.Lines:
  """Search the widths of two layers in one weight; train all of them alone.

  The objective of search and oracle is one: the loss and a price on the share
  of the largest network's parameters.  Networks alone are padded with units of
  zeros, which get no gradient, so that all train as one program.
  """
  config, apply = run.config, bed.apply_perceptron
  train, test = bed.pictures(run)
  start = _perceptrons(run, train, [max(config.options)] * 2)
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
  widest value of the program, over that of the plain program.
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

  plain = graph.widest(graph.trace(apply, params, x))
  wide = graph.widest(graph.trace(program, params, weights, x))
  return float(error), wide / plain


def mixture_growth(run: runs.Run) -> text.Lines:
  """Train two halves of mixed templates; grow them with blocks between."""
  config, apply = run.config, bed.apply_perceptron
  train, test = bed.pictures(run)
  features = train["x"].shape[-1]

  def half(key: Any) -> Params:
    keys = jax.random.split(key, TEMPLATES + 1)
    drawn = ws.stack(
      [bed.perceptron(k, features, config.widths) for k in keys[1:]]
    )
    coefficients = jax.random.normal(keys[0], (TEMPLATES,))
    coefficients /= jnp.linalg.norm(coefficients)
    return jax.tree.map(lambda x: parametrize.Mixture(x, coefficients), drawn)

  def loss(params: Params, batch: Data) -> jax.Array:
    plain = parametrize.value(params)
    return losses.cross_entropy(apply(plain, batch["x"]), batch["y"])

  halves = [
    bed.fit(run, loss, bed.starts(run, half, k), train, config.half, k).params
    for k in range(2)
  ]
  plain = [jax.vmap(parametrize.value)(stack) for stack in halves]
  axes = bed.axes_of(apply, plain[0], train["x"])
  for name in ("recombined", "random", "zero"):
    fill = [_between(run, name, stack, k) for k, stack in enumerate(halves)]

    def grown(a: Params, b: Params, *between: Any) -> Params:
      whole = grow.side_by_side(axes, a, b)
      blocks = [[a["layer_1"]["kernel"], between[0]],
                [between[1], b["layer_1"]["kernel"]]]  # fmt: skip
      whole["layer_1"]["kernel"] = jnp.block(blocks)
      return whole

    start = jax.vmap(grown)(*plain, *fill)
    yield from _curve(run, name, start, train, test)


def _between(run: runs.Run, name: str, stack: Stack, place: int) -> jax.Array:
  """Return the block beside a half: its templates with other coefficients."""
  leaf = stack["layer_1"]["kernel"]
  if name == "recombined":
    own = jax.vmap(lambda c: grow.orthogonal(c[None]))(leaf.coefficients)
    return jax.vmap(lambda t, c: parametrize.Mixture(t, c).value())(
      leaf.templates, own
    )
  shape = leaf.templates.shape
  kernel = jnp.zeros((shape[0], *shape[2:]))
  if name == "zero":
    return kernel
  key = jax.random.fold_in(run.key, 3000 + place)
  # As wide as a layer of the grown network begins.
  return np.sqrt(1.0 / shape[-1]) * jax.random.normal(key, kernel.shape)


def _curve(
  run: runs.Run, name: str, start: Stack, train: Data, test: Data
) -> text.Lines:
  """Train grown networks, and log their accuracy epoch by epoch."""
  config, apply = run.config, bed.apply_perceptron
  points = [bed.accuracy(apply, start, test)]

  def on_epoch(_: int, fitted: Any) -> None:
    points.append(bed.accuracy(apply, fitted.params, test))

  loss = bed.labelled(apply)
  bed.fit(run, loss, start, train, config.grown, 30, on_epoch=on_epoch)
  steps = config.examples // config.grown.batch_size
  yield from text.lines(
    name,
    {
      "mean of the curve (%)": np.mean(points[1:], 0),
      "at growth (%)": points[0],
      "in the end (%)": points[-1],
    },
  )
  for epoch, right in enumerate(points):
    yield from text.lines(name, {ACCURACY: right}, at=epoch * steps)


STUDIES = {
  "bignas": bignas,
  "mixture_growth": mixture_growth,
  "tanglenas": tanglenas,
}
