"""Studies of widths: supernets, and halves side by side.

>>> sorted(STUDIES)
['bignas', 'mixture_growth']
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.bench import text
from experiments.grow import bed
from experiments.run import runs
from weightspace import grow, losses, parametrize
from weightspace.types import Data, Params, Stack

ACCURACY = "accuracy (%)"
TEMPLATES = 2  # of each layer of a half


def bignas(run: runs.Run) -> text.Lines:
  """Slice supernets without training, beside networks of each width alone."""
  config, apply = run.config, bed.apply_perceptron
  train, test = bed.pictures(run)
  start = bed.perceptrons(run, train, config.widths)
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
    alone = bed.perceptrons(run, train, widths)
    loss = bed.labelled(apply)
    stack = bed.fit(run, loss, alone, train, config.fit, 1).params
    yield from _scored(f"alone, {share:.0%}", apply, stack, test)


def _scored(name: str, apply: Any, stack: Stack, test: Data) -> text.Lines:
  yield from text.lines(name, {ACCURACY: bed.accuracy(apply, stack, test)})


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
}
