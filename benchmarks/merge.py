"""Merges: CPU seconds against mergekit, in one run, as ratios.

Three fine-tunes and a base in bfloat16, the same bits for all: `ws.merge.run`
over the list of models, the recipe under `jit` over a Stack, mergekit's
`merge_state_dicts` in memory (left out with a message when it is not installed)
and the floor: read every input once, write one output.

  python -m benchmarks.merge [--mergekit_python=...] [--params=300e6] [--sweep]
"""

import argparse
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from benchmarks import contenders, report

WIDTH = 1000  # of every leaf but the last
LARGEST = 50_000_000  # entries of one leaf
TRIMMED = {"weight": 1.0, "density": 0.2}
# name: (factory and method, our hyper-parameters, mergekit's, ratio aimed at)
ROWS: dict[str, tuple[str, dict[str, Any], dict[str, float], int]] = {
  "linear": ("linear", {}, {"weight": 1.0}, 9),
  "task_arithmetic": ("task_arithmetic", {"scale": 0.3}, {"weight": 0.3}, 9),
  "ties_tensor": ("ties", {"density": 0.2, "scope": "tensor"}, TRIMMED, 15),
  "ties_global": ("ties", {"density": 0.2}, TRIMMED, 15),
  "dare_ties": ("dare_ties", {"rate": 0.5}, TRIMMED | {"density": 0.5}, 6),
}


def write_models(folder: str, params: int, models: int) -> None:
  """Write the base and the fine-tunes, bfloat16 as uint16, leaf by leaf."""
  sizes = [LARGEST] * (params // LARGEST) + [params % LARGEST]
  for index, size in enumerate(s for s in sizes if s):
    shape = (-1, WIDTH) if size % WIDTH == 0 else (-1,)
    base: Any = 0.0
    for number, name in enumerate(("base", *map(str, range(models)))):
      noise = np.random.default_rng([index, number])
      x = noise.standard_normal(size, np.float32) * np.float32(0.02)
      x = base + x * np.float32(1 if name == "base" else 0.1)
      base = x if name == "base" else base
      bits = x.astype(ml_dtypes.bfloat16).view(np.uint16).reshape(shape)
      np.save(pathlib.Path(folder, f"{name}-{index}.npy"), bits)


def read_models(folder: str) -> dict[str, dict[str, np.ndarray]]:
  """Return {model: {leaf: bits}}, in memory."""
  found: dict[str, dict[str, np.ndarray]] = {}
  for path in sorted(pathlib.Path(folder).glob("*.npy")):
    name, index = path.stem.split("-")
    found.setdefault(name, {})[f"layer_{index}"] = np.load(path)
  return found


def trees(folder: str) -> tuple[Any, list[Any]]:
  """Return the base and the models as trees of bfloat16 arrays."""
  import jax.numpy as jnp

  half: Any = ml_dtypes.bfloat16
  found = {
    name: {p: jnp.asarray(x.view(half)) for p, x in tree.items()}
    for name, tree in read_models(folder).items()
  }
  return found.pop("base"), list(found.values())


def recipe_of(row: str, models: int) -> Any:
  """Return the recipe of a row, for M models."""
  import weightspace as ws

  factory, hyper = ROWS[row][:2]
  hyper = {"weights": [1.0] * models} if factory == "linear" else hyper
  make: Callable[..., Any] = getattr(ws.merge, factory)
  return make(**hyper)


def weightspace(folder: str, row: str) -> None:
  """Merge a list of models leaf by leaf."""
  import jax

  import weightspace as ws

  base, models = trees(folder)
  recipe = recipe_of(row, len(models))
  given = {"key": jax.random.key(0)} if "key" in recipe.needs else {}

  def run() -> None:
    jax.block_until_ready(ws.merge.run(recipe, models, base, **given))

  run()
  contenders.serve(run)


def compiled(folder: str, row: str) -> None:
  """Merge a Stack as one compiled program."""
  import jax

  import weightspace as ws

  base, models = trees(folder)
  stack, recipe = ws.stack(models), recipe_of(row, len(models))
  del models
  given = {"key": jax.random.key(0)} if "key" in recipe.needs else {}
  merge = jax.jit(lambda stack, base: recipe(stack, base=base, **given))

  def run() -> None:
    jax.block_until_ready(merge(stack, base))

  run()
  contenders.serve(run)


def mergekit(folder: str, row: str) -> None:
  """Merge by mergekit, tensor by tensor in memory."""
  try:
    import torch
    from mergekit import merge_methods
  except ImportError:
    print("mergekit is not installed: left out", file=sys.stderr)
    return
  models = {
    name: {
      path: torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
      for path, x in tree.items()
    }
    for name, tree in read_models(folder).items()
  }
  method, _, options, _ = ROWS[row]
  base = None if method == "linear" else "base"
  if base is None:
    del models["base"]
  merge: Callable[..., Any] = merge_methods.merge_state_dicts

  def run() -> None:
    merge(models, method, parameters=options, base=base)

  contenders.serve(run)


def floor(folder: str, row: str) -> None:
  """Read every input once and write one output."""
  models = read_models(folder)

  def run() -> None:
    for path, bits in models["base"].items():
      np.copy(bits)
      for name in models:
        np.bitwise_or.reduce(models[name][path].reshape(-1).view(np.uint64))

  contenders.serve(run)


def sweep(folder: str, row: str) -> None:
  """Merge with 32 scales in one call; the threshold is shared."""
  import jax
  import jax.numpy as jnp

  import weightspace as ws

  base, models = trees(folder)
  stack, scales = ws.stack(models), jnp.linspace(0.1, 2.0, 32)

  def merged(scale: jax.Array, stack: Any, base: Any) -> Any:
    return ws.merge.ties(0.2, scale)(stack, base=base)

  many = jax.jit(jax.vmap(merged, (0, None, None)))

  def run() -> None:
    jax.block_until_ready(many(scales, stack, base))

  run()
  contenders.serve(run)


CONTENDERS: dict[str, Callable[[str, str], None]] = {
  "weightspace": weightspace,
  "weightspace_jit": compiled,
  "mergekit": mergekit,
  "sweep_of_32": sweep,
  "floor": floor,
}


def race(
  options: argparse.Namespace, names: list[str], rows: list[str], params: int
) -> list[list[object]]:
  """Return a line for each row and contender."""
  lines: list[list[object]] = []
  with tempfile.TemporaryDirectory() as folder:
    write_models(folder, params, options.models)
    for row in rows:
      commands = {}
      for name in names:
        python = options.mergekit_python if name == "mergekit" else ""
        command = [python or sys.executable, "-m", "benchmarks.merge"]
        commands[name] = [*command, "--contender", name, folder, row]
      turns = contenders.alternate(commands, options.repeats)
      medians = {n: contenders.median(t) for n, t in turns.items()}
      peer = medians.get("mergekit")
      for name, turn in medians.items():
        ratio = f"{peer.cpu / turn.cpu:.1f}" if peer else "-"
        numbers = (f"{x:.2f}" for x in (turn.cpu, turn.wall))
        line = [f"{params / 1e6:g}M", options.models, row, name, *numbers]
        lines.append([*line, f"{turn.peak:.0f}", ratio, ROWS[row][3]])
        print(*lines[-1], flush=True)
  return lines


def main() -> None:
  """Be a contender, or run the benchmark and write its section."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--mergekit_python", default=sys.executable)
  parser.add_argument("--params", type=float, default=30e6)
  parser.add_argument("--models", type=int, default=3)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--rows", nargs="*", default=list(ROWS))
  parser.add_argument("--sweep", action="store_true", help="32 scales of TIES")
  parser.add_argument("--out", default="BENCHMARKS.md")
  parser.add_argument("--contender", nargs=3, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.contender:
    name, folder, row = options.contender
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return CONTENDERS[name](folder, row)
  names = ["weightspace", "weightspace_jit", "mergekit", "floor"]
  lines = race(options, names, options.rows, int(options.params))
  if options.sweep:
    lines += race(
      options, ["weightspace_jit", "sweep_of_32"], ["ties_global"], 10**7
    )
  head = ["parameters", "models", "method", "who", "CPU s", "wall s"]
  head += ["peak MiB", "mergekit's CPU / this", "aimed at"]
  text = (
    "## Merging\n\nFine-tunes and a base in bfloat16, in memory; medians of"
    f" {options.repeats} alternated turns of warm processes, imports excluded."
    " The aim is for `weightspace`; under jit it is 4 for TIES."
    f"\n\n{report.table(head, lines)}\n\n{report.conditions('jax', 'jaxlib')}"
  )
  report.write_section(options.out, "merging", text)


if __name__ == "__main__":
  main()
