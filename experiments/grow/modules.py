"""Studies of modules: trained in one meta network, and put together.

>>> sorted(STUDIES)
['assembling']
"""

from collections.abc import Sequence
from typing import Any

import jax
import optax

from experiments.bench import text
from experiments.grow import bed
from experiments.run import runs
from weightspace import grow
from weightspace.types import Data, Stack

ACCURACY = "accuracy (%)"


def assembling(run: runs.Run) -> text.Lines:
  """Train modules in a shared meta network, and in one each; put together.

  Steps are counted in turn: those of the meta network, of one module (they
  train side by side) and of tuning; `end to end` has as many as tuning alone,
  `end to end, all steps` as all three.
  """
  config = run.config
  train, test = bed.pictures(run)
  features, count = train["x"].shape[-1], config.modules
  shape = {"width": config.width, "hidden": config.hidden}
  loss = bed.labelled(bed.apply_residual)

  def make(blocks: int) -> Any:
    return lambda key: bed.residual(key, features, blocks=blocks, **shape)

  def score(stack: Stack) -> Any:
    return bed.accuracy(bed.apply_residual, stack, test)

  metas = [
    bed.fit(
      run, loss, bed.starts(run, make(count), k), train, config.meta, k
    ).params
    for k in range(count)
  ]
  whole = bed.starts(run, make(count * config.each), count)
  yield from text.lines("meta network", {ACCURACY: score(metas[0])})
  for name, own in (("shared", metas[:1] * count), ("unrelated", metas)):
    modules = [_trained(run, own[k], whole, k, train) for k in range(count)]
    joined = jax.vmap(lambda *parts: grow.assemble(parts))(*modules)
    yield from text.lines(f"{name}, untuned", {ACCURACY: score(joined)})
    tuned = bed.fit(run, loss, joined, train, config.tuned, 100).params
    yield from text.lines(f"{name}, tuned", {ACCURACY: score(tuned)})
  for name, epochs in (
    ("end to end", config.tuned.epochs),
    (
      "end to end, all steps",
      config.tuned.epochs + config.meta.epochs + config.module.epochs,
    ),
  ):
    part = config.tuned.copy_and_resolve_references()
    part.epochs = epochs
    trained = bed.fit(run, loss, whole, train, part, 100).params
    yield from text.lines(name, {ACCURACY: score(trained)})


def _trained(
  run: runs.Run, meta: Stack, whole: Stack, place: int, train: Data
) -> Stack:
  """Train one module in its place in a meta network, all else as it is."""
  config, last = run.config, run.config.modules - 1
  owned: Sequence[str] = ["embed"] * (place == 0)
  owned = [*owned, *["norm", "head"] * (place == last)]
  blocks = range(place * config.each, (place + 1) * config.each)
  module = jax.vmap(lambda p: grow.part(p, list(blocks), owned))(whole)
  mixed = jax.vmap(lambda m, p: grow.hybrid(m, p, place))(meta, module)
  places = list(range(place, place + config.each))
  mask = grow.inside(bed.model(mixed), places, owned)
  ways = {
    "module": optax.adam(config.module.learning_rate),
    "rest": optax.set_to_zero(),
  }
  label = jax.tree.map(lambda m: "module" if m.all() else "rest", mask)
  loss = bed.labelled(bed.apply_residual)
  fitted = bed.fit(
    run, loss, mixed, train, config.module, 50 + place,
    tx=optax.partition(ways, label),
  )  # fmt: skip
  return jax.vmap(lambda p: grow.part(p, places, owned))(fitted.params)


STUDIES = {"assembling": assembling}
