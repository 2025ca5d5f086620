"""The data of several tasks: checked, and drawn in batches.

>>> sets = tasks("demo", [{"x": jnp.ones((4, 2))}], labels=False)
>>> [batch["x"].shape for batch in draw(jax.random.key(0), sets, 1, 3)]
[(3, 2)]
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.types import Apply, Data, Key, Params


def tasks(what: str, sets: Sequence[Data], labels: bool) -> list[Data]:
  """Return the data of each task as {"x"} or {"x", "y"}."""
  if not sets:
    raise ValueError(f"{what}: no data, expected one set for each task")
  names = ("x", "y") if labels else ("x",)
  tasks = []
  for index, part in enumerate(sets):
    part = {"x": part} if hasattr(part, "shape") else part
    if not isinstance(part, Mapping):
      raise ValueError(
        f"{what}: data {index} are a {type(part).__name__}, expected"
        f" {dict.fromkeys(names, '[N, ...]')}"
      )
    for name in names:
      if part.get(name) is None or not len(part[name]):
        raise ValueError(
          f"{what}: data {index} have no {name!r}, expected some"
        )
    sizes = [len(part[name]) for name in names]
    if len(set(sizes)) > 1:
      raise ValueError(
        f"{what}: data {index} have {sizes[0]} inputs and {sizes[1]} labels,"
        " expected as many"
      )
    tasks.append({name: jnp.asarray(part[name]) for name in names})
  return tasks


def check_labels(
  what: str, applies: Sequence[Apply], params: Params, sets: Sequence[Data]
) -> None:
  """Refuse labels that are whole numbers but no classes of the logits."""
  for index, (apply, part) in enumerate(zip(applies, sets)):
    labels = np.asarray(part["y"])
    classes = jax.eval_shape(apply, params, part["x"]).shape[-1]
    bad = labels[(labels < 0) | (labels >= classes)]
    if bad.size and np.issubdtype(labels.dtype, np.integer):
      raise ValueError(
        f"{what}: label {bad[0]} in data {index}, expected 0 to {classes - 1}"
      )


def applies(what: str, apply: Any, count: int) -> tuple[Apply, ...]:
  """Return the function of each task, of one for all or one for each."""
  if callable(apply):
    return (apply,) * count
  if len(apply) != count:
    raise ValueError(
      f"{what}: {len(apply)} functions for {count} tasks, expected as many"
    )
  return tuple(apply)


def draw(key: Key, sets: Sequence[Data], batches: int, size: int) -> list[Data]:
  """Return some examples of each task, drawn without replacement."""
  chosen = []
  for index, part in enumerate(sets):
    count = len(part["x"])
    order = jax.random.permutation(jax.random.fold_in(key, index), count)
    chosen.append(jax.tree.map(lambda x, o=order[: batches * size]: x[o], part))
  return chosen
