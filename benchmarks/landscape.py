"""Landscapes: planes and curvature against loss-landscapes and PyHessian.

An MLP 784-512-512-10 on 5,000 inputs; the same weights and data for all, each
contender a process of its own, turns alternated.  Every number stands next to
its floor: the matrix products of the work and nothing else.

  python -m benchmarks.landscape [--data_dir=...] [--torch_python=...]
"""

import argparse
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from benchmarks import contenders, landscape_peers, report

WIDTHS = (784, 512, 512, 10)
EXAMPLES = 5_000
STEPS = 12  # Lanczos steps, of which the top eigenvalue is right to 1e-4
PROBES = 10
GRID = 21
TARGETS = {"plane": 2.4, "lanczos": 1.35, "hutchinson": 1.4, "top": 3.0}
UNITS = {
  "plane": f"plane {GRID}x{GRID}",
  "lanczos": f"{STEPS} Lanczos steps",
  "hutchinson": f"{PROBES} Hutchinson probes",
  "top": "top eigenvalue to 1e-4",
}
AMOUNTS = {"plane": GRID, "lanczos": STEPS, "hutchinson": PROBES, "top": STEPS}


def _problem(path: str) -> tuple[Any, Any, Any]:
  """Return parameters, loss and data."""
  import jax

  import weightspace as ws
  from weightspace import losses

  arrays = np.load(path)
  model = ws.models.build("mlp", hidden=WIDTHS[1:-1], classes=WIDTHS[-1])
  params = {
    f"Dense_{n}": {
      "kernel": jax.numpy.asarray(arrays[f"kernel{n}"]),
      "bias": jax.numpy.asarray(arrays[f"bias{n}"]),
    }
    for n in range(len(WIDTHS) - 1)
  }
  data = {k: jax.numpy.asarray(arrays[k]) for k in "xy"}
  return params, losses.of(model.apply, losses.cross_entropy), data


def plane(path: str, amount: int, reference: float) -> None:
  """Evaluate a grid of a random plane."""
  import jax

  from weightspace import probe

  params, loss, data = _problem(path)
  keys = jax.random.split(jax.random.key(0))
  u, v = (probe.random_direction(params, key) for key in keys)
  places = np.linspace(-1, 1, amount)

  def run() -> None:
    grid = probe.surface(loss, data, params, u, v, places, places)
    grid.block_until_ready()

  run()
  contenders.serve(run)


def curvature(path: str, amount: int, reference: float, kind: str) -> None:
  """Run one of the probes of the Hessian, linearisation included."""
  import jax

  from weightspace import probe

  params, loss, data = _problem(path)
  operator, key = probe.hessian(loss, params, data), jax.random.key(0)

  def run() -> float:
    if kind == "hutchinson":
      return float(probe.trace(operator, key, amount)[0])
    return float(probe.top_eigenpairs(operator, 1, amount, key)[0][0])

  value = run()
  if kind == "top":
    gap = abs(value / reference - 1)
    print(f"lanczos: {value}, relative error {gap:.1e}", file=sys.stderr)
  contenders.serve(run)


def _lanczos(path: str, amount: int, reference: float) -> None:
  curvature(path, amount, reference, "lanczos")


def _hutchinson(path: str, amount: int, reference: float) -> None:
  curvature(path, amount, reference, "hutchinson")


def _top(path: str, amount: int, reference: float) -> None:
  curvature(path, amount, reference, "top")


def _plane_floor(path: str, amount: int, reference: float) -> None:
  """Do the products after the first layer at each point."""
  import jax

  keys = jax.random.split(jax.random.key(0), 4)
  h = jax.random.normal(keys[0], (EXAMPLES, WIDTHS[1]))
  a = jax.random.normal(keys[1], WIDTHS[1:3])
  b = jax.random.normal(keys[2], WIDTHS[2:])

  @jax.jit
  def point(h: Any, a: Any, b: Any) -> Any:
    return (h @ a @ b)[0, 0]

  def run() -> None:
    jax.block_until_ready([point(h, a, b) for _ in range(amount**2)])

  run()
  contenders.serve(run)


def _product_floor(path: str, amount: int, reference: float) -> None:
  """Do the products of as many Hessian-vector products, primal at hand.

  Each layer has, of its kernel and of its input, a product forwards, one in the
  gradient of its kernel and one in that of its input: six; the first layer,
  whose input has no tangent and no gradient, two.
  """
  import jax

  keys = iter(jax.random.split(jax.random.key(0), 20))
  pairs = list(itertools.pairwise(WIDTHS))

  def two(*shape: int) -> list[Any]:
    return [jax.random.normal(next(keys), shape) for _ in range(2)]

  given = [(two(EXAMPLES, a), two(a, b), two(EXAMPLES, b)) for a, b in pairs]

  @jax.jit
  def products(given: Any) -> Any:
    out = []
    for n, (xs, ws, ys) in enumerate(given):
      for x, w, y in list(zip(xs, ws, ys))[: 2 if n else 1]:
        out += [x @ w, x.T @ y] + ([y @ w.T] if n else [])
    return [z[0, 0] for z in jax.lax.optimization_barrier(out)]

  def run() -> None:
    for _ in range(amount):
      out = products(given)
    jax.block_until_ready(out)

  run()
  contenders.serve(run)


RUNS: dict[str, Any] = {
  "plane": plane,
  "lanczos": _lanczos,
  "hutchinson": _hutchinson,
  "top": _top,
}
FLOORS: dict[str, Any] = {name: _product_floor for name in RUNS}
FLOORS["plane"] = _plane_floor
KINDS = {"own": RUNS, "peer": landscape_peers.RUNS, "floor": FLOORS}


def reference(path: str) -> None:
  """Print the top eigenvalue in float64."""
  import jax

  jax.config.update("jax_enable_x64", True)
  from weightspace import probe

  wide = [tree for tree in _problem(path)]
  params, data = (
    jax.tree.map(
      lambda x: x.astype(float) if x.dtype == np.float32 else x, wide[n]
    )
    for n in (0, 2)
  )

  def loss(params: Any, data: Any) -> Any:
    x = data["x"]
    for n in range(len(WIDTHS) - 1):
      layer = params[f"Dense_{n}"]
      x = (jax.nn.relu(x) if n else x) @ layer["kernel"] + layer["bias"][None]
    logs = jax.nn.log_softmax(x)
    return -jax.numpy.take_along_axis(logs, data["y"][:, None], 1)[:, 0]

  operator = probe.hessian(loss, params, data)
  found = probe.top_eigenpairs(operator, 1, 20, jax.random.key(1))
  print(float(found[0][0]))


def write_problem(path: str, data_dir: str | None) -> str:
  """Write weights and data; return where the data come from."""
  random = np.random.default_rng(0)
  arrays: dict[str, np.ndarray] = {"widths": np.array(WIDTHS)}
  for n, (a, b) in enumerate(itertools.pairwise(WIDTHS)):
    scale = np.sqrt(2 / a)
    arrays[f"kernel{n}"] = (scale * random.normal(size=(a, b))).astype("f4")
    # loss-landscapes divides by the norm of each bias: none may be 0.
    arrays[f"bias{n}"] = (0.1 * random.normal(size=b)).astype("f4")
  source = "random inputs"
  x = random.normal(size=(EXAMPLES, WIDTHS[0])).astype(np.float32)
  y = random.integers(0, 10, EXAMPLES).astype(np.int32)
  if data_dir is not None:
    import weightspace as ws

    train, source = ws.data.load("mnist", data_dir=data_dir).train, "MNIST"
    x = np.asarray(train["x"][:EXAMPLES], np.float32).reshape(EXAMPLES, -1)
    y = np.asarray(train["y"][:EXAMPLES], np.int32)
  arrays |= {"x": np.ascontiguousarray(x), "y": y}
  np.savez(path, **arrays)  # type: ignore[arg-type]
  return source


def exact(path: str) -> str:
  """Return the top eigenvalue in float64, from a process of its own."""
  command = [sys.executable, "-m", "benchmarks.landscape", "--reference", path]
  done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
  return done.stdout.split()[-1]


def turns_of(
  options: argparse.Namespace, name: str, path: str
) -> dict[str, contenders.Turn]:
  """Return the median turn of each contender; kept ones are not run again."""
  kept = pathlib.Path(options.keep or os.devnull)
  text = kept.read_text() if options.keep and kept.exists() else ""
  before = json.loads(text or "{}")
  if name not in before:
    top = exact(path) if name == "top" else "nan"
    work = [name, path, str(AMOUNTS[name]), top]
    commands = {
      kind: [sys.executable, "-m", "benchmarks.landscape", "--contender", kind]
      for kind in KINDS
    }
    commands["peer"][0] = options.torch_python
    turns = contenders.alternate(
      {kind: [*c, *work] for kind, c in commands.items()}, options.repeats
    )
    medians = {kind: contenders.median(all_) for kind, all_ in turns.items()}
    before[name] = medians
    kept.write_text(json.dumps(before))
  return {k: contenders.Turn(*turn) for k, turn in before[name].items()}


def race(options: argparse.Namespace, path: str, source: str) -> str:
  """Race all contenders of each probe; return a section."""
  rows = []
  for name in options.only or UNITS:
    unit, found = UNITS[name], turns_of(options, name, path)
    own = found["own"]
    cells = [f"{own.cpu:.2f}", f"{own.wall:.2f}"]
    for kind in ("peer", "floor"):
      other = found.get(kind)
      cells += [f"{other.cpu:.2f}" if other else "-"]
      cells += [f"{other.cpu / own.cpu:.2f}" if other else "-"]
    rows.append((unit, *cells, f"{TARGETS[name]:.2f}"))
  head = ["", "CPU s", "wall s", "peer CPU s", "peer / own", "floor CPU s"]
  head += ["floor / own", "target of peer / own"]
  return (
    f"## Landscapes\n\nMLP {'-'.join(map(str, WIDTHS))}, {EXAMPLES} examples"
    f" ({source}), float32; medians of {options.repeats} alternated turns of"
    " warm processes; CPU seconds of all threads. Peers: loss-landscapes 3.0.6"
    " (plane), PyHessian 0.1 (the rest; its density with `torch.eig` put back,"
    " its trace kept from stopping early, its power iteration at the loosest"
    " tolerance that is right to 1e-4). Own numbers include the linearisation."
    " Floors: the matrix products alone; of the plane those after the first"
    " layer, of a Hessian product six for each layer and two for the first."
    f"\n\n{report.table(head, rows)}\n\n"
    f"{report.conditions('jax', 'jaxlib', 'flax')}"
  )


def main() -> None:
  """Be a contender, or run the benchmark and write its section."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data_dir", help="holds MNIST; else random inputs")
  parser.add_argument("--torch_python", default=sys.executable)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--only", nargs="+", choices=UNITS, help="some probes")
  parser.add_argument("--keep", help="file of turns, to go on from")
  parser.add_argument("--out", default="BENCHMARKS.md")
  parser.add_argument("--contender", nargs=5, help=argparse.SUPPRESS)
  parser.add_argument("--reference", help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.reference:
    return reference(options.reference)
  if options.contender:
    kind, name, path, amount, top = options.contender
    return KINDS[kind][name](path, int(amount), float(top))
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "problem.npz")
    source = write_problem(path, options.data_dir)
    section = race(options, path, source)
  print(section)
  report.write_section(options.out, "landscape", section)


if __name__ == "__main__":
  main()
