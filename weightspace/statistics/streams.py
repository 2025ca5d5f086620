"""Data as a stream of batches, whatever form they come in.

>>> [len(batch["x"]) for batch in batches(jnp.ones((4, 2)), "fisher")]
[4]
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.types import Data, Fold


def batches(data: Any, what: str) -> Iterator[dict[str, Any]]:
  """Yield batches {"x", "y"}; "y" is None where there is none.

  Args:
    data: a mapping with "x" (and "y"), a pair (x, y), an array x, or an
      iterable of any of these.
    what: is named in errors.

  Raises:
    ValueError: for a mapping without "x", no batch, no examples, or another
      number of labels.
  """
  found = False
  for batch in _parts(data, what):
    leaves = jax.tree.leaves(batch["x"])
    sizes = {np.shape(leaf)[:1] for leaf in leaves}
    if len(sizes) != 1 or () in sizes:
      raise ValueError(
        f"{what}: inputs have {sorted(sizes)}, expected [N, ...]"
      )
    count = sizes.pop()[0]
    labels = batch["y"]
    if labels is not None and np.shape(labels)[:1] != (count,):
      raise ValueError(
        f"{what}: labels {np.shape(labels)} for {count} inputs, expected one"
        " for each"
      )
    if count:
      found = True
      yield batch
  if not found:
    raise ValueError(f"{what}: data have no examples, expected at least one")


def _parts(data: Any, what: str) -> Iterator[dict[str, Any]]:
  if isinstance(data, Mapping):
    if "x" not in data:
      raise ValueError(f"{what}: a batch has {sorted(data)}, expected 'x'")
    yield {"x": data["x"], "y": data.get("y")}
  elif hasattr(data, "shape"):
    yield {"x": data, "y": None}
  elif isinstance(data, tuple) and len(data) == 2:
    yield {"x": data[0], "y": data[1]}
  elif isinstance(data, Iterable):
    for part in data:
      yield from _parts(part, what)
  else:
    raise ValueError(
      f"{what}: data are a {type(data).__name__}, expected batches"
    )


def chunks(batch: Data, most: int) -> Iterator[Data]:
  """Yield a batch in equal parts of at most `most` examples."""
  count = len(jax.tree.leaves(batch)[0])
  parts = -(-count // max(1, most))
  size = -(-count // parts)
  for start in range(0, count, size):
    part = slice(start, start + size)
    yield jax.tree.map(lambda x, part=part: x[part], batch)


def shapes(tree: Any) -> tuple[Any, tuple[Any, ...]]:
  """Return the structure and the shapes of a tree, to be a cache's key."""
  leaves, structure = jax.tree.flatten(tree)
  kinds = (
    jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)) for x in leaves
  )
  return structure, tuple(kinds)


def example(batch: Data) -> Data:
  """Return the shapes of a batch of one example."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((1, *np.shape(x)[1:]), jnp.result_type(x)),
    batch,
  )


def fold_all(fold: Fold, data: Any, what: str) -> Any:
  """Return the value of a fold over all batches of the data."""
  state = None
  for batch in batches(data, what):
    batch = jax.tree.map(jnp.asarray, batch)
    state = fold.init(batch) if state is None else state
    state = fold.update(state, batch)
  return fold.value(state)


def add(a: Any, b: Any) -> Any:
  """Return the sum of two trees."""
  return jax.tree.map(jnp.add, a, b)
