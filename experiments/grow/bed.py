"""What the studies of sizes share: images by seed, and networks of any size.

The functions read the sizes off the parameters, so slices and restacked models
need no others.

>>> params = residual(jax.random.key(0), 6, width=4, hidden=8, blocks=2)
>>> apply_residual(params, jnp.ones((5, 6))).shape
(5, 10)
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.run import hosts, runs
from weightspace import losses
from weightspace.types import Apply, Data, Key, Loss, Params, Stack

CLASSES = 10
PATTERN = "block_*"
EPSILON = 1e-5  # of the norms


def pictures(run: runs.Run, flat: bool = True) -> tuple[Data, Data]:
  """Return training and test images of each seed, [S, N, ...].

  Seeds differ in which images they train on, and in which test images they see.
  With `config.pool` squares of pixels are averaged.
  """
  config, splits = run.config, run.data()
  pairs = []
  for part, (split, count) in enumerate(
    ((splits.train, config.examples), (splits.test, config.test))
  ):
    x = _pooled(np.asarray(split["x"], np.float32), config.pool)
    x = x.reshape(len(x), -1) if flat else x
    keys = [
      jax.random.fold_in(jax.random.fold_in(run.key, seed), part)
      for seed in range(config.seeds)
    ]
    rows = [np.asarray(jax.random.permutation(k, len(x)))[:count] for k in keys]
    labels = np.asarray(split["y"])
    pairs.append(
      {
        "x": jnp.asarray(np.stack([x[r] for r in rows])),
        "y": jnp.asarray(np.stack([labels[r] for r in rows])),
      }
    )
  return pairs[0], pairs[1]


def _pooled(x: np.ndarray, side: int) -> np.ndarray:
  """Return images [N, H, W, C] with squares of `side` pixels averaged."""
  count, height, width, channels = x.shape
  shape = count, height // side, side, width // side, side, channels
  return x.reshape(shape).mean((2, 4))


def dense(key: Key, rows: int, columns: int, gain: float = 2.0) -> Params:
  """Return a dense layer before a ReLU."""
  scale = np.sqrt(gain / rows)
  kernel = scale * jax.random.normal(key, (rows, columns))
  return {"kernel": kernel, "bias": jnp.zeros(columns)}


def linear(layer: Params, x: jax.Array) -> jax.Array:
  """Return x W + b."""
  return x @ layer["kernel"] + layer["bias"][None]


def residual(
  key: Key, features: int, width: int, hidden: int, blocks: int
) -> Params:
  """Return a residual network: x + down(relu(up(norm(x)))), block by block."""
  keys = jax.random.split(key, 2 * blocks + 2)
  params = {
    "embed": dense(keys[0], features, width, 1.0),
    "norm": {"scale": jnp.ones(width)},
    "head": dense(keys[1], width, CLASSES, 1.0),
  }
  for k in range(blocks):
    params[f"block_{k}"] = {
      "norm": {"scale": jnp.ones(width)},
      "up": dense(keys[2 * k + 2], width, hidden),
      "down": dense(keys[2 * k + 3], hidden, width, 1.0 / blocks),
    }
  return params


def _norm(layer: Params, x: jax.Array) -> jax.Array:
  x = x - x.mean(-1, keepdims=True)
  spread = jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + EPSILON)
  return x * spread * layer["scale"][None]


def apply_residual(params: Params, x: jax.Array) -> jax.Array:
  """Map [B, features] to logits, through the blocks that there are."""
  x = linear(params["embed"], x)
  for k in range(sum(name.startswith("block_") for name in params)):
    block = params[f"block_{k}"]
    y = jax.nn.relu(linear(block["up"], _norm(block["norm"], x)))
    x = x + linear(block["down"], y)
  return linear(params["head"], _norm(params["norm"], x))


def perceptron(key: Key, features: int, widths: Sequence[int]) -> Params:
  """Return dense layers of these widths, and one to the classes."""
  sizes = (features, *widths, CLASSES)
  keys = jax.random.split(key, len(sizes) - 1)
  return {
    f"layer_{k}": dense(keys[k], *sizes[k : k + 2])
    for k in range(len(sizes) - 1)
  }


def apply_perceptron(params: Params, x: jax.Array) -> jax.Array:
  """Map [B, features] to logits, with ReLUs between the layers."""
  for k in range(len(params) - 1):
    x = jax.nn.relu(linear(params[f"layer_{k}"], x))
  return linear(params[f"layer_{len(params) - 1}"], x)


def starts(
  run: runs.Run, make: Callable[[Key], Params], purpose: int, times: int = 1
) -> Stack:
  """Return networks [S * times], those of a seed next to each other."""
  key = jax.random.fold_in(run.key, 1000 + purpose)
  keys = jax.random.split(key, run.config.seeds * times)
  return jax.vmap(make)(keys)


def perceptrons(run: runs.Run, train: Data, widths: Sequence[int]) -> Stack:
  """Return the perceptrons of each seed, [S]."""
  features = train["x"].shape[-1]
  return starts(run, lambda key: perceptron(key, features, widths), 1)


def fit(
  run: runs.Run,
  loss: Loss,
  stack: Stack,
  data: Data,
  part: Any,
  purpose: int = 0,
  tx: Any = None,
  **more: Any,
) -> Any:
  """Train [M] networks, each on its own images; equal purposes share batches.

  Args:
    run: whose mesh shares the networks out.
    loss: of a batch.
    stack: [M, ...].
    data: [M, N, ...].
    part: settings: `epochs`, `batch_size` and `learning_rate`.
    purpose: of the training, for its batches.
    tx: Adam at the rate of `part` where there is none.
    **more: for `fit_population`.
  """
  mesh = hosts.fitting(run.mesh, ws.trees.size(stack))
  settings: dict[str, Any] = {"shared_data": False} | more
  fitted = ws.train.fit_population(
    loss,
    stack,
    tx or optax.adam(part.learning_rate),
    data,
    key=jax.random.fold_in(run.key, 2000 + purpose),
    epochs=part.epochs,
    batch_size=part.batch_size,
    mesh=mesh,
    **settings,
  )
  return fitted._replace(params=hosts.gathered(mesh, fitted.params))


def labelled(apply: Apply) -> Loss:
  """Return the loss on labels."""
  return losses.of(apply, losses.cross_entropy)


def distilled(apply: Apply) -> Loss:
  """Return the loss against a teacher's logits, "t" of a batch."""

  def loss(params: Params, batch: Data) -> jax.Array:
    return losses.soft_cross_entropy(batch["t"], apply(params, batch["x"]))

  return loss


def outputs(apply: Apply, stack: Stack, x: jax.Array) -> jax.Array:
  """Return the logits of each network on its own images, [M, N, classes]."""
  return jax.jit(lambda s, x: jax.lax.map(lambda pair: apply(*pair), (s, x)))(
    stack, x
  )


def accuracy(apply: Apply, stack: Stack, test: Data) -> np.ndarray:
  """Return the accuracy of each network on its own images, in percent [M]."""
  right = outputs(apply, stack, test["x"]).argmax(-1) == test["y"]
  return 100 * np.asarray(right.mean(1), np.float64)


def model(stack: Stack, place: int = 0) -> Params:
  """Return one network of a Stack."""
  return jax.tree.map(lambda x: x[place], stack)


def axes_of(apply: Apply, stack: Stack, x: jax.Array) -> Any:
  """Return the axes of the networks of a Stack."""
  return ws.symmetry.trace_axes(apply, model(stack), x[0, :1])
