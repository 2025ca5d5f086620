"""Averages: what folds cost in training, what replicas cost and send.

Folds: EMA, SWA and LAWA of five together, within the training of an MLP
784-256-256-10 and over a tree of 100 million parameters, against training
without them and against the copy of as many bytes.  Replicas: one DiLoCo round
of eight on eight simulated devices, against a plain Python loop; the bytes of
collectives are read off the compiled programs.

  python -m benchmarks.average
"""

import argparse
import itertools
import sys

from benchmarks import average_bytes, contenders, report
from weightspace.types import Fold

WIDTHS = (784, 256, 256, 10)
BATCH, EXAMPLES = 500, 20_000
LEAVES, SIZE = 10, 10_000_000  # of the large tree
REPLICAS, STEPS, SMALL = 8, 50, 64  # and the batch of a replica


def _folds(period: int) -> dict[str, Fold]:
  """Return EMA of every step, SWA and LAWA of every `period`-th."""
  from weightspace import average

  swa, lawa = average.running_mean(), average.window(5)
  if period > 1:  # else seen at every step: no condition around them
    swa, lawa = (average.every(period, fold) for fold in (swa, lawa))
  return {"ema": average.ema(0.999), "swa": swa, "lawa": lawa}


def training(period: int) -> None:
  """Train with folds every `period` steps; 0 for none of them."""
  import jax
  import optax

  import weightspace as ws

  loss, params, data = average_bytes.problem(WIDTHS, EXAMPLES)
  tx = optax.sgd(0.05, momentum=0.9)
  folds = _folds(period) if period else {}

  def run(epochs: int = 5) -> None:
    ws.train.fit(
      loss, params, tx, data, key=jax.random.key(0), epochs=epochs,
      batch_size=BATCH, folds=folds,
    )  # fmt: skip

  run(1)
  contenders.serve(run)


def large(_: int) -> None:
  """Update the three averages of a tree of 100 million parameters."""
  import jax
  import jax.numpy as jnp

  from weightspace import average

  params = {str(n): jnp.full(SIZE, float(n)) for n in range(LEAVES)}
  fold = average.together(
    ema=average.ema(0.999), swa=average.running_mean(), lawa=average.window(5)
  )
  update = jax.jit(fold.update, donate_argnums=0)
  state = [jax.tree.map(jnp.copy, fold.init(params))]

  def run() -> None:
    for _ in range(5):
      state[0] = jax.block_until_ready(update(state[0], params))

  run()
  contenders.serve(run)


def copy(_: int) -> None:
  """Copy as many bytes as the three averages must touch: 6 models' worth.

  They read the model once, read and write two averages, and write one row.
  """
  import numpy as np

  source = [np.full(SIZE, float(n), np.float32) for n in range(LEAVES)]
  target = [np.empty_like(x) for x in source]
  for a, b in zip(target, source):
    np.copyto(a, b)

  def run() -> None:
    for _, (a, b) in itertools.product(range(15), zip(target, source)):
      np.copyto(a, b)  # 15 copies of 2 are 5 updates of 6

  contenders.serve(run)


def mesh_round(devices: int) -> None:
  """Run a DiLoCo round of eight replicas, sharded over devices."""
  import jax

  jax.config.update("jax_num_cpu_devices", max(devices, 1))
  import optax

  from weightspace import average

  loss, params, data = average_bytes.problem(WIDTHS, EXAMPLES)
  mesh = jax.make_mesh((devices,), ("population",)) if devices > 1 else None
  stack = jax.tree.map(lambda x: jax.numpy.repeat(x[None], REPLICAS, 0), params)
  method, tx = average.diloco(), optax.sgd(0.05)

  def run(rounds: int = 2) -> None:
    average.replicate(
      loss, stack, tx, data, method, key=jax.random.key(0), rounds=rounds,
      steps=STEPS, batch_size=SMALL, shared_data=True, mesh=mesh,
    )  # fmt: skip

  run(1)
  contenders.serve(run)


def loop_round(_: int) -> None:
  """Run the same round by a Python loop over replicas and compiled steps."""
  import jax
  import jax.numpy as jnp
  import optax

  loss, params, data = average_bytes.problem(WIDTHS, EXAMPLES)
  tx, outer = optax.sgd(0.05), optax.sgd(0.7, momentum=0.9, nesterov=True)

  @jax.jit
  def step(params, state, data, key):  # type: ignore[no-untyped-def]
    index = jax.random.randint(key, (SMALL,), 0, EXAMPLES)
    batch = jax.tree.map(lambda x: x[index], data)
    gradient = jax.grad(lambda p: jnp.mean(loss(p, batch)))(params)
    updates, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  @jax.jit
  def meet(anchor, replicas, state):  # type: ignore[no-untyped-def]
    gradient = jax.tree.map(
      lambda a, *xs: a - sum(xs) / len(xs), anchor, *replicas
    )
    updates, state = outer.update(gradient, state, anchor)
    return optax.apply_updates(anchor, updates), state

  def run(rounds: int = 2) -> None:
    anchor, velocity = params, outer.init(params)
    for turn in range(rounds):
      replicas = []
      for replica in range(REPLICAS):
        own, state = anchor, tx.init(anchor)
        words = jax.random.fold_in(jax.random.key(turn), replica)
        for key in jax.random.split(words, STEPS):
          own, state = step(own, state, data, key)
        replicas.append(own)
      anchor, velocity = meet(anchor, replicas, velocity)
    jax.block_until_ready(anchor)

  run(1)
  contenders.serve(run)


RUNS = {
  "no averages": (training, 0),
  "at every step": (training, 1),
  "SWA, LAWA each 10th": (training, 10),
  "three averages": (large, 0),
  "copy of the bytes": (copy, 0),
  "8 devices": (mesh_round, 8),
  "one device (vmap)": (mesh_round, 1),
  "Python loop": (loop_round, 0),
}
GROUPS = {
  "no averages": (
    "training: 200 steps of the MLP, batch 500; at most 1.05 is aimed at",
    ["no averages", "at every step", "SWA, LAWA each 10th"],
  ),
  "copy of the bytes": (
    "five updates over 100 million parameters; at most 2 is aimed at",
    ["copy of the bytes", "three averages"],
  ),
  "Python loop": (
    "two DiLoCo rounds of 8 replicas, 50 steps each, batch 64",
    ["Python loop", "8 devices", "one device (vmap)"],
  ),
}


def _table(base: str, names: list[str], repeats: int) -> str:
  """Race one group; return its table, as ratios to `base`."""
  start = [sys.executable, "-m", "benchmarks.average", "--contender"]
  turns = contenders.alternate({n: [*start, n] for n in names}, repeats)
  medians = {name: contenders.median(all_) for name, all_ in turns.items()}
  own = medians[base]
  rows = [
    (
      name,
      f"{t.cpu:.2f}",
      f"{t.wall:.2f}",
      f"{t.peak:.0f}",
      f"{t.cpu / own.cpu:.2f}",
      f"{t.wall / own.wall:.2f}",
    )
    for name, t in medians.items()
  ]
  head = ["", "CPU s", "wall s", "peak MiB", "CPU ratio", "wall ratio"]
  return report.table(head, rows)


def main() -> None:
  """Be a contender, or run the benchmark and write its section."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--out", default="BENCHMARKS.md")
  parser.add_argument("--contender", help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.contender:
    run, number = RUNS[options.contender]
    return run(number)
  parts = ["## Averages over time and over replicas"]
  for base, (title, names) in GROUPS.items():
    parts.append(f"{title[0].upper()}{title[1:]}.")
    parts.append(_table(base, names, options.repeats))
  parts.append(average_bytes.section(WIDTHS, REPLICAS, STEPS))
  parts.append(
    f"Medians of {options.repeats} alternated turns of warm processes; ratios"
    f" to the first row. {report.conditions('jax', 'jaxlib', 'optax')}"
  )
  text = "\n\n".join(parts)
  print(text)
  report.write_section(options.out, "average", text)


if __name__ == "__main__":
  main()
