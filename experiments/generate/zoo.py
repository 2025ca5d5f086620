"""A zoo of networks on subsets of the digits, and new ones sampled from it.

Members differ by the classes that they were trained on, which are the condition
of the model of weights.  Zoos with one start, with independent starts, and with
independent starts whose units were put in one order.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.generate import bed
from experiments.run import runs
from experiments.run.study import Lines
from weightspace import generate, match, symmetry
from weightspace.types import Key, Stack

CLASSES = 10
SHARED, APART, MATCHED = "one start", "starts apart", "apart, units matched"


class Bed(NamedTuple):
  """What the zoos of a seed have in common."""

  model: Any
  train: Any  # [N]
  validation: Any
  test: Any
  seen: np.ndarray  # [M, CLASSES], 1 for the classes of each member
  unseen: np.ndarray  # [K, CLASSES]


def study(run: runs.Run) -> Lines:
  """Train the zoos of each seed, sample from each, and measure."""
  for seed, key in enumerate(bed.keys(run)):
    shared = prepare(run, key)
    apart = train(run, shared, key, one_start=False)
    zoos = {
      SHARED: train(run, shared, key, one_start=True),
      APART: apart,
      MATCHED: ordered(shared, apart),
    }
    for method, stack in zoos.items():
      numbers = measure(run, shared, stack, key)
      yield {"seed": seed, "method": method} | numbers


def prepare(run: runs.Run, key: Key) -> Bed:
  """Draw the images and the subsets of classes of a seed."""
  config, splits = run.config, run.data()
  images, classes = jax.random.split(key)
  subsets = np.array(
    [
      np.isin(np.arange(CLASSES), chosen)
      for size in config.sizes
      for chosen in itertools.combinations(range(CLASSES), size)
    ],
    np.float32,
  )
  rows = np.asarray(jax.random.permutation(classes, len(subsets)))
  count = config.members
  return Bed(
    run.model(),
    bed.subset(images, splits.train, 0),
    jax.tree.map(jnp.asarray, splits.validation),
    jax.tree.map(jnp.asarray, splits.test),
    subsets[rows[:count]],
    subsets[rows[count : count + config.unseen]],
  )


def train(run: runs.Run, shared: Bed, key: Key, one_start: bool) -> Stack:
  """Train a member on each subset of classes."""
  config, count = run.config, len(shared.seen)
  begin, draw = jax.random.split(jax.random.fold_in(key, one_start))
  keys = jax.random.split(begin, count)
  first = [keys[0] if one_start else k for k in keys]
  images = _images(shared, draw, config.examples)
  steps = config.epochs * (config.examples // config.batch_size)
  rate = optax.cosine_decay_schedule(config.learning_rate, steps)
  fitted = ws.train.fit_population(
    ws.losses.of(shared.model.apply, ws.losses.cross_entropy),
    bed.starts(shared.model, shared.train["x"], first),
    optax.sgd(rate, 0.9),
    images,
    key=draw,
    epochs=config.epochs,
    batch_size=config.batch_size,
    shared_data=False,
  )
  return fitted.params


def _images(shared: Bed, key: Key, count: int) -> Any:
  """Return images of each member's classes, [M, count, ...]."""
  y = np.asarray(shared.train["y"])
  random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
  rows = np.stack(
    [
      random.choice(np.flatnonzero(classes[y]), count)
      for classes in shared.seen
    ]
  )
  return jax.tree.map(lambda x: x[rows], shared.train)


def ordered(shared: Bed, stack: Stack) -> Stack:
  """Return the members with their units in one order."""
  models = [jax.tree.map(np.asarray, model) for model in ws.unstack(stack)]
  axes = symmetry.trace_axes(
    shared.model.apply, models[0], shared.train["x"][:1]
  )
  perms = match.match_many(axes, models, method="merge_many", rounds=5)
  return ws.stack(
    [match.permute(axes, p, model) for p, model in zip(perms, models)]
  )


def measure(
  run: runs.Run, shared: Bed, stack: Stack, key: Key
) -> dict[str, float]:
  """Return accuracies of a zoo, of its basis and of what is sampled from it."""
  config = run.config
  basis = generate.basis(stack, config.directions)
  z = basis.encode(stack)
  zoo = right(shared, stack, shared.seen)
  trip = right(shared, basis.decode(z), shared.seen) - zoo
  part, classes = z[:, : config.modelled], jnp.asarray(shared.seen)
  model = generate.ddpm(part, classes, key, **config.diffusion.to_dict())
  gaussian = generate.conditional_gaussian(part, classes)
  few = shared.seen[: len(shared.unseen)]
  known, new = (np.repeat(c, config.samples, 0) for c in (few, shared.unseen))
  noise = jax.random.split(jax.random.fold_in(key, 2), 3)

  def weights(source: Any, key: Key, classes: np.ndarray) -> Stack:
    """Decode samples; what was not modelled is at its mean, 0."""
    rest = (0, config.directions - config.modelled)
    made = source.sample(key, jnp.asarray(classes))
    return basis.decode(jnp.pad(made, ((0, 0), rest)))

  sampled = weights(model, noise[0], new)
  drawn = weights(gaussian, noise[1], new)
  again = weights(model, noise[2], known)
  fresh = bed.starts(
    shared.model, shared.train["x"], list(jax.random.split(key, len(few)))
  )
  return {
    "sampled (%)": right(shared, sampled, new).mean(),
    "sampled, seen (%)": right(shared, again, known).mean(),
    "Gaussian (%)": right(shared, drawn, new).mean(),
    "untrained (%)": right(shared, fresh, shared.unseen).mean(),
    "zoo (%)": zoo.mean(),
    "round trip": trip.mean(),
    "best (%)": best(run, shared, sampled),
    "variance": float(basis.explained.sum()),
  }


def best(run: runs.Run, shared: Bed, sampled: Stack) -> float:
  """Return the mean accuracy of the best sample of each unseen condition.

  Samples are chosen on validation images and measured on test images.
  """
  count, found = run.config.samples, []

  def score(params: Any, data: Any) -> jax.Array:
    hit = shared.model.apply(params, data["x"]).argmax(-1) == data["y"]
    return hit * data["share"]

  for i, classes in enumerate(shared.unseen):
    samples = jax.tree.map(
      lambda x, i=i: x[i * count : (i + 1) * count], sampled
    )
    share = jnp.asarray(classes)[shared.validation["y"]]
    data = shared.validation | {"share": share / share.mean()}
    chosen = generate.best_of(samples, score, data).params
    one = jax.tree.map(lambda x: x[None], chosen)
    found.append(right(shared, one, classes[None])[0])
  return float(np.mean(found))


def right(shared: Bed, stack: Stack, classes: np.ndarray) -> np.ndarray:
  """Return each model's test accuracy [M] on its own classes, in percent."""
  apply = shared.model.apply

  @jax.jit
  def of(stack: Stack, classes: jax.Array, test: Any) -> jax.Array:
    def one(item: Any) -> jax.Array:
      params, own = item
      share = own[test["y"]]
      hit = apply(params, test["x"]).argmax(-1) == test["y"]
      return jnp.sum(hit * share) / share.sum()

    return jax.lax.map(one, (stack, classes))

  return 100 * np.asarray(of(stack, jnp.asarray(classes), shared.test))
