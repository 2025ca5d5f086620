"""The first call of every recipe under jit: tracing, lowering, compiling.

What a user waits for once, in seconds of CPU without a persistent cache, on the
tree of a Llama: under `jit`, under `vmap` over a hyper-parameter, and on a mesh
of eight devices.  Nothing runs: the inputs are shapes.

  python -m benchmarks.first_call --recipes ties dare_ties --layers 12 24
"""

import argparse
import inspect
import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

WIDTH, HEADS, HIDDEN, VOCABULARY = 1024, 16, 2816, 32000
WAYS = ("jit", "vmap", "mesh")
DEVICES = 8
# What a recipe is called with, where its numbers cannot all be one half.
HYPER: dict[str, dict[str, Any]] = {
  "linear": {"weights": [1.0, 3.0]},
  "weight_aligned": {"path": "head", "old": 16000},
}
# The hyper-parameter that `vmap` goes over, where it is not the first needed.
SWEPT = {
  "fisher": "floor",
  "iso_c": "scale",
  "iso_cts": "scale",
  "magmax": "scale",
  "multislerp": "weights",
  "nuslerp": "weights",
  "opcm": "alpha",
  "optmerge": "scale",
  "ram": "rescale",
  "regmean": "offdiag",
  "tall": "threshold",
  "transfer": "scale",
  "tsv": "scale",
  "weight_aligned": None,
  "wudi": "scale",
}


def shapes(layers: int, *lead: int, place: Any = None) -> dict[str, Any]:
  """Return the shapes of a Llama's leaves, 9 a layer and 3 outside of them.

  Args:
    layers: how many.
    *lead: leading axes of each leaf.
    place: from the shape of one model's leaf to its sharding.
  """
  import jax
  import jax.numpy as jnp

  square = (WIDTH, HEADS, WIDTH // HEADS)
  layer = {
    "attention_norm": (WIDTH,),
    "query": square,
    "key": (WIDTH, HEADS // 4, WIDTH // HEADS),
    "value": (WIDTH, HEADS // 4, WIDTH // HEADS),
    "out": (HEADS, WIDTH // HEADS, WIDTH),
    "mlp_norm": (WIDTH,),
    "gate": (WIDTH, HIDDEN),
    "up": (WIDTH, HIDDEN),
    "down": (HIDDEN, WIDTH),
  }
  outside = {"embedding": (VOCABULARY, WIDTH), "norm": (WIDTH,)}
  tree: dict[str, Any] = outside | {"head": (WIDTH, VOCABULARY)}
  tree |= {f"layer_{index}": layer for index in range(layers)}

  def struct(shape: tuple[int, ...]) -> Any:
    sharding = place(shape, len(lead)) if place else None
    return jax.ShapeDtypeStruct((*lead, *shape), jnp.float32, sharding=sharding)

  return jax.tree.map(struct, tree, is_leaf=lambda x: isinstance(x, tuple))


def hyper_of(name: str, factory: Callable[..., Any]) -> dict[str, Any]:
  """Return hyper-parameters: one half each, where HYPER says nothing else."""
  needed = [
    parameter.name
    for parameter in inspect.signature(factory).parameters.values()
    if parameter.default is inspect.Parameter.empty
  ]
  return dict.fromkeys(needed, 0.5) | HYPER.get(name, {})


def inputs(name: str, needs: Any, layers: int, place: Any = None) -> Any:
  """Return the shapes of the Stack, and of what else the recipe is given."""
  import jax
  import jax.numpy as jnp

  models = 1 if name == "nearswap" else 2
  stack = shapes(layers, models, place=place)
  given: dict[str, Any] = {}
  for need in needs:
    if need == "key":
      given[need] = jax.random.key(0)
    elif need == "fisher":
      given[need] = stack
    elif need == "gram":
      none = jax.ShapeDtypeStruct((models, 0), jnp.float32)
      given[need] = jax.tree.map(lambda _, none=none: none, stack)
      width = jax.ShapeDtypeStruct((models, WIDTH, WIDTH), jnp.float32)
      for index in range(layers):
        given[need][f"layer_{index}"] = dict(
          given[need][f"layer_{index}"], gate=width, up=width
        )
    else:
      given[need] = shapes(layers, place=place)
  return stack, given


def on_mesh() -> Callable[[tuple[int, ...], int], Any]:
  """Return the layout of a leaf: its first axis over eight devices."""
  import jax

  axes = (jax.sharding.AxisType.Auto,)
  mesh = jax.make_mesh((DEVICES,), ("model",), axis_types=axes)
  return lambda shape, lead: jax.NamedSharding(
    mesh, jax.P(*[None] * lead, "model")
  )


def program(name: str, way: str) -> tuple[Callable[..., Any], tuple[str, ...]]:
  """Return the recipe as a function of the Stack and its inputs, and its needs.

  Under `vmap` it is called with two values of a hyper-parameter.
  """
  import jax
  import jax.numpy as jnp

  from weightspace import merge

  factory: Any = merge.RECIPES[name]
  hyper = hyper_of(name, factory)
  needs = factory(**hyper).needs
  if way != "vmap":
    recipe = factory(**hyper)
    return lambda stack, given: recipe(stack, **given), needs
  swept = SWEPT.get(name, next(iter(hyper), None))
  if swept is None:
    raise ValueError(f"{name}: has no hyper-parameter to sweep")
  value = hyper.get(swept, [1.0, 3.0] if swept == "weights" else 0.5)
  both = jnp.stack([jnp.asarray(value), 0.9 * jnp.asarray(value)])

  def swept_over(stack: Any, given: Any) -> Any:
    return jax.vmap(lambda x: factory(**hyper | {swept: x})(stack, **given))(
      both
    )

  return swept_over, needs


def measured(name: str, way: str, layers: int) -> dict[str, Any]:
  """Return the seconds of CPU of tracing, lowering and compiling."""
  import jax

  call, needs = program(name, way)
  stack, given = inputs(
    name, needs, layers, on_mesh() if way == "mesh" else None
  )
  marks = [time.process_time()]
  traced = jax.jit(call).trace(stack, given)
  marks.append(time.process_time())
  lowered = traced.lower()
  marks.append(time.process_time())
  lowered.compile()
  marks.append(time.process_time())
  seconds = [round(b - a, 2) for a, b in itertools.pairwise(marks)]
  return {
    "recipe": name,
    "way": way,
    "layers": layers,
    "trace": seconds[0],
    "lower": seconds[1],
    "compile": seconds[2],
    "sum": round(sum(seconds), 2),
  }


def rows(names: list[str], ways: list[str], layers: list[int]) -> Iterator[Any]:
  """Yield one row for each recipe, way and number of layers."""
  for name in names:
    for way in ways:
      for count in layers:
        try:
          yield measured(name, way, count)
        except ValueError as error:
          yield {"recipe": name, "way": way, "layers": count, "sum": str(error)}


def main() -> None:
  """Print a table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--recipes", nargs="*", default=[])
  parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
  parser.add_argument("--layers", nargs="*", type=int, default=[12, 24])
  options = parser.parse_args()
  os.environ.setdefault("JAX_PLATFORMS", "cpu")
  import jax

  from weightspace import merge

  jax.config.update("jax_num_cpu_devices", DEVICES)
  jax.config.update("jax_enable_compilation_cache", False)
  names = options.recipes or sorted(merge.RECIPES)
  columns = ("recipe", "way", "layers", "trace", "lower", "compile", "sum")
  print("| " + " | ".join(columns) + " |")
  print("|" + "---|" * len(columns))
  for row in rows(names, options.ways, options.layers):
    cells = [str(row.get(column, "")) for column in columns]
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
  main()
