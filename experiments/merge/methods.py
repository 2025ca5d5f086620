"""Methods of a config: recipes, each tried in its settings and coefficients.

A merge is a direction from the base, and its coefficient says how far to go:
base + scale (merged - base).  So each method has the same grid of coefficients,
and the same budget of evaluations: one with S settings tries budget / S
coefficients in each.  Untuned is the first setting with the method's own scale.

>>> settings({"density": (0.2, 0.1), "scope": "global"})[1]
{'density': 0.1, 'scope': 'global'}
>>> scales({"least": 0.1, "most": 10.0}, 3, untuned=2.0).round(2).tolist()
[0.1, 1.0, 2.0, 10.0]
"""

import inspect
import itertools
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import weightspace as ws
from weightspace.types import Key, Params, Stack

# Options of ours: the seed of the order that models come in, and whether each
# is merged with what was merged before it.
ORDER, CONTINUAL = "order", "continual"


def settings(options: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Return every choice of options; a tuple is tried in full."""
  values = [
    x if isinstance(x, tuple | list) else (x,) for x in options.values()
  ]
  return [dict(zip(options, row)) for row in itertools.product(*values)]


def scales(grid: Mapping[str, float], count: int, untuned: float) -> np.ndarray:
  """Return the coefficients to try: `count` on a log scale, and the untuned.

  Raises:
    ValueError: for a grid that does not ascend from above zero, or no count.
  """
  least, most = grid["least"], grid["most"]
  if not 0 < least < most or count < 1:
    raise ValueError(
      f"scales: {count} from {least} to {most}, expected at least one between"
      " numbers above zero"
    )
  found = np.geomspace(least, most, count)
  return np.unique(np.append(found, untuned))


def merge(
  recipe: str, setting: Mapping[str, Any], stack: Stack, base: Params, key: Key
) -> tuple[Params, float]:
  """Return what a recipe makes of a Stack, and the seconds it took.

  Raises:
    ValueError: for an unknown recipe or option.
  """
  if recipe not in ws.merge.RECIPES:
    names = ", ".join(ws.merge.RECIPES)
    raise ValueError(f"recipe: {recipe!r}, expected one of {names}")
  factory: Any = ws.merge.RECIPES[recipe]
  options = {
    name: x for name, x in setting.items() if name not in (ORDER, CONTINUAL)
  }
  known = list(inspect.signature(factory).parameters)
  for name in options:
    if name not in known:
      raise ValueError(
        f"{recipe}: unknown option {name!r}, expected one of {known}"
      )
  if "scale" in known:
    options["scale"] = 1.0  # the bed's coefficient is the scale
  if ORDER in setting:
    count = ws.trees.size(stack)
    order = np.random.Philox(setting[ORDER]).random_raw(count).argsort()
    stack = jax.tree.map(lambda x: x[order], stack)
  made = factory(**options)
  turns = one_by_one if setting.get(CONTINUAL) else at_once
  began = time.perf_counter()
  merged = jax.block_until_ready(turns(made, stack, base, key))
  return merged, time.perf_counter() - began


def at_once(made: Any, stack: Stack, base: Params, key: Key) -> Params:
  """Merge all models of a Stack in one step."""
  return made(stack, base=base, key=key)


def one_by_one(made: Any, stack: Stack, base: Params, key: Key) -> Params:
  """Merge each model with what was merged of those before it."""
  merged, *rest = ws.unstack(stack)
  for model in rest:
    merged = made(ws.stack([merged, model]), base=base, key=key)
  return merged
