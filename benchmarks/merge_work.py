"""What the contenders of the benchmark of merges do: one function each.

All have the same bits: a base and fine-tunes of it in bfloat16, with the leaf
shapes of a language model.

>>> [math.prod(s) for s in shapes(100_000)][:3]
[9984, 9984, 4096]
"""

import json
import math
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import contenders

WIDTHS = ((1024, 1e8), (512, 1e7), (256, 1e6), (64, 0))  # from so many on
TRIMMED = {"weight": 1.0, "density": 0.2}
# name: (factory and method, our hyper-parameters, mergekit's, ratio aimed at)
ROWS: dict[str, tuple[str, dict[str, Any], dict[str, float], int]] = {
  "linear": ("linear", {}, {"weight": 1.0}, 9),
  "task_arithmetic": ("task_arithmetic", {"scale": 0.3}, {"weight": 0.3}, 9),
  "ties_tensor": ("ties", {"density": 0.2, "scope": "tensor"}, TRIMMED, 15),
  "ties_global": ("ties", {"density": 0.2}, TRIMMED, 15),
  "dare_ties": ("dare_ties", {"rate": 0.5}, TRIMMED | {"density": 0.5}, 6),
}


def shapes(params: int) -> list[tuple[int, ...]]:
  """Return the leaf shapes of a language model of about so many parameters.

  Two vocabulary matrices of a tenth each, then layers of four attention and
  three MLP matrices and two norms; what is left over is one vector.
  """
  width = next(w for w, n in WIDTHS if params >= n)
  inner = 11 * width // 4
  square: tuple[int, ...] = (width, width)
  layer = (
    [square] * 4 + [(width, inner)] * 2 + [(inner, width), *[(width,)] * 2]
  )
  found: list[tuple[int, ...]] = [(params // 10 // width, width)] * 2
  left = params - sum(map(math.prod, found))
  count = left // sum(map(math.prod, layer))
  found += layer * count
  left = params - sum(map(math.prod, found))
  return found + [(left,)] * bool(left)


def write_models(folder: str, params: int, models: int) -> None:
  """Write the base and the fine-tunes, bfloat16 as uint16, leaf by leaf."""
  import ml_dtypes

  for index, shape in enumerate(shapes(params)):
    base: Any = 0.0
    for number, name in enumerate(("base", *map(str, range(models)))):
      noise = np.random.default_rng([index, number])
      x = noise.standard_normal(shape, np.float32) * np.float32(0.02)
      x = base + x * np.float32(1 if name == "base" else 0.1)
      base = x if name == "base" else base
      bits = x.astype(ml_dtypes.bfloat16).view(np.uint16)
      np.save(pathlib.Path(folder, f"{name}-{index:04d}.npy"), bits)


def read_models(
  folder: str, convert: Callable[[np.ndarray], Any] = lambda bits: bits
) -> dict[str, dict[str, Any]]:
  """Return {model: {leaf: bits}} in memory, each leaf converted as it comes."""
  found: dict[str, dict[str, Any]] = {}
  for path in sorted(pathlib.Path(folder).glob("*.npy")):
    name, index = path.stem.split("-")
    found.setdefault(name, {})[f"layer_{index}"] = convert(np.load(path))
  return found


def trees(folder: str) -> tuple[Any, list[Any]]:
  """Return the base and the models as trees of bfloat16 arrays."""
  import jax.numpy as jnp
  import ml_dtypes

  half: Any = ml_dtypes.bfloat16
  found = read_models(folder, lambda bits: jnp.array(bits.view(half)))
  return found.pop("base"), list(found.values())


def recipe_of(row: str, models: int) -> Any:
  """Return the recipe of a row, for M models."""
  import weightspace as ws

  factory, hyper = ROWS[row][:2]
  hyper = {"weights": [1.0] * models} if factory == "linear" else hyper
  make: Callable[..., Any] = getattr(ws.merge, factory)
  return make(**hyper)


def given(recipe: Any, base: Any) -> dict[str, Any]:
  """Return what a recipe needs beside the models."""
  import jax

  inputs = {"base": base, "key": jax.random.key(0)}
  return {name: inputs[name] for name in recipe.needs}


def weightspace(folder: str, row: str) -> None:
  """Merge a list of models leaf by leaf."""
  import jax

  import weightspace as ws

  base, models = trees(folder)
  recipe = recipe_of(row, len(models))
  inputs = given(recipe, base)

  def run() -> None:
    jax.block_until_ready(ws.merge.run(recipe, models, **inputs))

  run()
  contenders.serve(run)


def compiled(folder: str, row: str) -> None:
  """Merge a Stack as one compiled program."""
  import jax

  import weightspace as ws

  base, models = trees(folder)
  stack, recipe = ws.stack(models), recipe_of(row, len(models))
  del models
  inputs = given(recipe, base)
  merge = jax.jit(lambda stack, inputs: recipe(stack, **inputs))

  def run() -> None:
    jax.block_until_ready(merge(stack, inputs))

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
  if row == "linear":
    del models["base"]

  def run() -> None:
    for path, bits in models["0"].items():
      np.copy(bits)
      for name in models:
        np.bitwise_or.reduce(models[name][path].reshape(-1))

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


def check(folder: str, row: str) -> None:
  """Print the share of entries within a bfloat16 ulp of the float32 answer."""
  import jax
  import jax.numpy as jnp

  import weightspace as ws

  base, models = trees(folder)
  recipe = recipe_of(row, len(models))
  got = ws.merge.run(recipe, models, **given(recipe, base))

  def widen(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)

  wide = [widen(model) for model in models]
  want = ws.merge.run(recipe, wide, **given(recipe, widen(base)))
  near = sum(int(within(got[path], want[path])) for path in got)
  print(json.dumps(near / sum(x.size for x in got.values())), flush=True)


def within(got: Any, want: Any) -> Any:
  """Count the entries of bfloat16 that are at most an ulp from float32's."""

  def place(x: Any) -> np.ndarray:
    bits = np.asarray(x).view(np.int16).astype(np.int32)
    return np.where(bits < 0, -(bits & 0x7FFF), bits)

  return (np.abs(place(got) - place(want.astype(got.dtype))) <= 1).sum()


CONTENDERS: dict[str, Callable[[str, str], None]] = {
  "weightspace": weightspace,
  "weightspace_jit": compiled,
  "mergekit": mergekit,
  "sweep_of_32": sweep,
  "floor": floor,
  "check": check,
}
