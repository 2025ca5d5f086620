"""Hyper-parameters of a population: arrays [M], given to who names them.

An optimiser, an augmentation or a loss that is a function of hyper-parameters
says so by its argument names; each member then has values of its own.

>>> def prepare(key, batch, noise):
...   return batch + noise
>>> given(prepare, {"noise": 0.1, "learning_rate": 1.0}, skip=2)
{'noise': 0.1}
"""

import inspect
from typing import Any

import optax


def accepted(function: Any, skip: int = 0) -> set[str] | None:
  """Return the argument names of a function, None when it takes any name."""
  if function is None or hasattr(function, "update"):
    return set()
  parameters = list(inspect.signature(function).parameters.values())[skip:]
  if any(p.kind is p.VAR_KEYWORD for p in parameters):
    return None
  return {p.name for p in parameters if p.kind is not p.VAR_POSITIONAL}


def given(
  function: Any, hyper: dict[str, Any], skip: int = 0
) -> dict[str, Any]:
  """Return the hyper-parameters that a function names."""
  names = accepted(function, skip)
  return {k: v for k, v in hyper.items() if names is None or k in names}


def optimizer(tx: Any, hyper: dict[str, Any]) -> Any:
  """Return the optimiser of one member."""
  made = tx if hasattr(tx, "update") else tx(**given(tx, hyper))
  return optax.with_extra_args_support(made)


def check(
  count: int, hyper: dict[str, Any], seeds: list[int], functions: Any
) -> None:
  """Check that hyper-parameters are [M, ...] and that someone takes them."""
  tx, prepare, loss = functions
  takers = [accepted(f, s) for f, s in ((tx, 0), (prepare, 2), (loss, 2))]
  known = set().union(*(names for names in takers if names))
  for name, values in hyper.items():
    if values.ndim == 0 or len(values) != count:
      raise ValueError(
        f"hyper: {name!r} has shape {values.shape}, expected one value for each"
        f" of {count} models"
      )
    if name not in known and None not in takers:
      raise ValueError(
        f"hyper: {name!r} is no argument of tx, prepare or loss, which take"
        f" {sorted(known)}"
      )
  if len(seeds) != count:
    raise ValueError(f"seeds: {len(seeds)}, expected one for each of {count}")
  for seed in seeds:
    if not 0 <= seed < 2**32:
      raise ValueError(f"seeds: {seed}, expected 0 to 2**32 - 1")
