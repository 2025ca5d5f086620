"""Populations: the speed of training many models, as ratios in one run.

Training: M MLPs 784-256-256-10 on MNIST by `fit_population`, the same work in
plain PyTorch (left out when it is not installed), and the arithmetic floor:
the same number of the step's eight matrix products and nothing else.  Then the
scores of many mixes of a population: see `benchmarks.mixes`.

  python -m benchmarks.population --data_dir=... [--torch_python=...]
"""

import argparse
import itertools
import os
import sys
import tempfile

import numpy as np

from benchmarks import contenders, mixes, report

WIDTHS = (784, 256, 256, 10)
BATCH, RATE, MOMENTUM = 500, 0.05, 0.9
SETS = 8  # of operands that the floor goes through, as fresh batches would


def weightspace(path: str, members: int, epochs: int) -> None:
  """Train by `fit_population`."""
  import jax
  import optax

  import weightspace as ws
  from weightspace import losses

  data = jax.tree.map(jax.numpy.asarray, dict(np.load(path)))
  model = ws.models.build("mlp", hidden=WIDTHS[1:-1], classes=WIDTHS[-1])
  keys = jax.random.split(jax.random.key(0), members)
  init = jax.jit(lambda key: model.init(key, data["x"][:1]))
  stack = ws.stack([init(key) for key in keys])
  loss = losses.of(model.apply, losses.cross_entropy)
  tx = optax.sgd(RATE, momentum=MOMENTUM)

  def run(epochs: int = epochs) -> None:
    ws.train.fit_population(
      loss, stack, tx, data, key=keys[0], epochs=epochs, batch_size=BATCH
    )

  run(1)
  contenders.serve(run)


def torch(path: str, members: int, epochs: int) -> None:
  """Train by the plain PyTorch loop."""
  try:
    import torch
  except ImportError:
    print("torch is not installed: left out", file=sys.stderr)
    return
  data = np.load(path)
  x = torch.from_numpy(data["x"]).reshape(-1, WIDTHS[0])
  y = torch.from_numpy(data["y"]).long()

  def train(epochs: int) -> None:
    layers: list[torch.nn.Module] = []
    for a, b in itertools.pairwise(WIDTHS):
      layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    sgd = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    for _ in range(epochs):
      order = torch.randperm(len(x))
      for index in order[: len(x) // BATCH * BATCH].split(BATCH):
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(model(x[index]), y[index]).backward()
        sgd.step()

  train(1)

  def run() -> None:
    for _ in range(members):
      train(epochs)

  contenders.serve(run)


def floor(path: str, members: int, epochs: int) -> None:
  """Do the matrix products of training: forward, weights', inputs' gradients.

  The first layer has no gradient of its inputs.
  """
  import jax

  examples = len(np.load(path)["y"])
  rounds = members * epochs * (examples // BATCH) // SETS
  keys = jax.random.split(jax.random.key(0), SETS)
  shapes = [(BATCH, n) for n in WIDTHS] + list(itertools.pairwise(WIDTHS))
  sets = [
    [
      jax.random.normal(jax.random.fold_in(k, i), s)
      for i, s in enumerate(shapes)
    ]
    for k in keys
  ]

  @jax.jit
  def products(sets: list[list[jax.Array]]) -> list[jax.Array]:
    out = []
    for arrays in sets:
      x, w = arrays[: len(WIDTHS)], arrays[len(WIDTHS) :]
      for i in range(len(w)):
        out += [x[i] @ w[i], x[i].T @ x[i + 1]]
        out += [x[i + 1] @ w[i].T] if i else []
    # A number of each is kept, and none is computed alone.
    return [y[0, 0] for y in jax.lax.optimization_barrier(out)]

  def run(rounds: int = rounds) -> None:
    for _ in range(rounds):
      out = products(sets)
    jax.block_until_ready(out)

  run(2)
  contenders.serve(run)


def operations(examples: int) -> float:
  """Return the floating-point operations of one model's epoch.

  >>> operations(60000) / 1e9
  72.68352
  """
  products = sum(a * b for a, b in itertools.pairwise(WIDTHS))
  used = examples // BATCH * BATCH
  return float(used) * (6 * products - 2 * WIDTHS[0] * WIDTHS[1])


def images(data_dir: str | None) -> tuple[dict[str, np.ndarray], str]:
  """Return MNIST's 60,000 training images, or noise of the same shape."""
  if data_dir is None:
    rng = np.random.default_rng(0)
    x = rng.random((60000, 28, 28, 1), np.float32)
    return {"x": x, "y": rng.integers(0, 10, 60000, np.int32)}, "random images"
  import weightspace as ws

  splits = ws.data.load("mnist", data_dir=data_dir)
  parts = splits.train, splits.validation
  return {k: np.concatenate([p[k] for p in parts]) for k in "xy"}, "MNIST"


RUNS = {"weightspace": weightspace, "torch": torch, "floor": floor}
START = ["-m", "benchmarks.population", "--contender"]


def training(
  options: argparse.Namespace, path: str, examples: int, source: str
) -> str:
  """Race the three on the images at `path`; return a section."""
  work = [path, str(options.members), str(options.epochs)]
  commands = {name: [sys.executable, *START, name, *work] for name in RUNS}
  commands["torch"][0] = options.torch_python
  turns = contenders.alternate(commands, options.repeats)
  medians = {name: contenders.median(all_) for name, all_ in turns.items()}
  own, gigaflop = medians["weightspace"], operations(examples) / 1e9
  gigaflop *= options.members * options.epochs

  def numbers(turn: contenders.Turn) -> list[tuple[float, int]]:
    shares = turn.cpu / own.cpu, turn.wall / own.wall
    plain = (turn.cpu, 1), (turn.wall, 1), (turn.peak, 0)
    return [*plain, (gigaflop / turn.cpu, 0), (shares[0], 2), (shares[1], 2)]

  rows = [
    (name, *(f"{number:.{digits}f}" for number, digits in numbers(t)))
    for name, t in medians.items()
  ]
  head = ["", "CPU s", "wall s", "peak MiB", "GFLOP per CPU s"]
  head += ["CPU / weightspace's", "wall / weightspace's"]
  return (
    f"## Training a population\n\n{options.members} MLPs"
    f" {'-'.join(map(str, WIDTHS))}, {source}, batch {BATCH}, {options.epochs}"
    f" epochs, SGD with momentum; medians of {options.repeats} alternated turns"
    " of warm processes. Floor: the eight matrix products of each step and"
    " nothing else; the target is 0.9 of it. Torch: a plain loop; the target is"
    f" at least 1.\n\n{report.table(head, rows)}\n\n"
    f"{report.conditions('jax', 'jaxlib', 'optax', 'flax')}"
  )


def main() -> None:
  """Be a contender, or run the benchmark and write its section."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data_dir", help="holds MNIST; else random images")
  parser.add_argument("--torch_python", default=sys.executable)
  parser.add_argument("--members", type=int, default=16)
  parser.add_argument("--epochs", type=int, default=5)
  parser.add_argument("--models", type=int, default=8, help="of the mixes")
  parser.add_argument("--mixes", type=int, default=256)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--out", default="BENCHMARKS.md")
  parser.add_argument("--contender", nargs=4, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.contender:
    name, path, *sizes = options.contender
    return (RUNS | mixes.RUNS)[name](path, *map(int, sizes))
  data, source = images(options.data_dir)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "data.npz")
    np.savez(path, x=data["x"], y=data["y"])
    start = [sys.executable, *START]
    sections = {"mixes": mixes.section(options, start, path)}
    sections["population"] = training(options, path, len(data["y"]), source)
  for name, section in sections.items():
    print(section)
    report.write_section(options.out, name, section)


if __name__ == "__main__":
  main()
