"""Which numbers of a tree are trained, and optimisers that move only those.

A computed leaf names the fields that stay as they are in `frozen`; whatever
else is floating is trained, plain arrays too.  `frozen(x)` keeps one still.

>>> from weightspace.parametrize.low_rank import Adapter
>>> count({"w": Adapter(np.ones((4, 2)), np.ones((2, 3))), "b": np.ones(3)})
17
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import numpy as np
import optax

from weightspace import trees
from weightspace.parametrize import leaf
from weightspace.types import Key, Params


@flax.struct.dataclass
class Frozen:
  """An array that is not trained."""

  x: Any
  frozen = ("x",)

  def value(self) -> jax.Array:
    """Return the array, which no gradient passes."""
    return jax.lax.stop_gradient(leaf.array(self.x))


def freeze(key: Key | None, x: Any) -> Frozen:
  """Return a `Frozen` leaf: what `attach` puts where arrays shall not train.

  >>> count({"w": freeze(None, np.ones(3)), "b": np.ones(2)})
  2
  """
  return Frozen(x)


def trainable(tree: Params) -> Params:
  """Return which arrays are trained: a bool for each, shaped as the tree.

  False are the fields that a leaf lists in its `frozen` (the base of a change,
  the scale of an adapter), and integers, booleans and keys.

  >>> from weightspace.parametrize.low_rank import Adapter
  >>> trainable(Adapter(np.ones((4, 2)), np.ones((2, 3)))).scale
  False
  """
  return jax.tree.map(_trainable, tree, is_leaf=_is_struct)


def _is_struct(x: Any) -> bool:
  return leaf.is_leaf(x) or leaf.is_change(x)


def _trainable(x: Any) -> Any:
  if not _is_struct(x):
    return trees.inexact(x)
  if not dataclasses.is_dataclass(x) or isinstance(x, type):
    return jax.tree.map(trees.inexact, x)
  frozen, labels = getattr(x, "frozen", ()), {}
  for field in dataclasses.fields(x):
    if field.metadata.get("pytree_node", True):
      part = getattr(x, field.name)
      still = field.name in frozen
      labels[field.name] = (
        jax.tree.map(lambda _: False, part) if still else trainable(part)
      )
  return dataclasses.replace(x, **labels)


def count(tree: Params) -> int:
  """Return how many numbers are trained.

  >>> from weightspace.parametrize.blocks import Bone
  >>> count(Bone(np.zeros((3, 4, 4))))  # r times out
  48
  """
  pairs = zip(jax.tree.leaves(trainable(tree)), jax.tree.leaves(tree))
  return sum(int(np.size(x)) for trains, x in pairs if trains)


def split(tree: Params) -> tuple[Params, Params]:
  """Return the arrays that are trained and the others, each with None between.

  A gradient needs a tree of floating arrays: take it with regard to the first,
  inside of which `join(trained, rest)` is the whole.

  >>> trained, rest = split({"a": np.ones(1), "b": freeze(None, np.ones(1))})
  >>> trained["b"].x is None, rest["a"] is None
  (True, True)
  """
  labels = trainable(tree)
  trained = jax.tree.map(lambda x, trains: x if trains else None, tree, labels)
  rest = jax.tree.map(lambda x, trains: None if trains else x, tree, labels)
  return trained, rest


def join(trained: Params, rest: Params) -> Params:
  """Undo `split`.

  Raises:
    ValueError: naming a path that both have.

  >>> join(*split({"a": np.ones(1), "n": np.array(3)}))["n"].item()
  3
  """

  def one(path: Any, a: Any, b: Any) -> Any:
    if a is not None and b is not None:
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      raise ValueError(f"join: {name!r} is in both parts, expected it in one")
    return b if a is None else a

  return jax.tree_util.tree_map_with_path(
    one, trained, rest, is_leaf=lambda x: x is None
  )


def only_trainable(tx: Any) -> Any:
  """Wrap an optax transformation so that frozen arrays get updates of zero.

  Frozen arrays have no state either: weight decay and momentum leave them
  bit-identical.

  Args:
    tx: the transformation of what is trained.

  Returns:
    An optax transformation for floating trees.

  >>> tree = {"a": np.ones(1), "b": freeze(None, np.ones(1))}
  >>> tx = only_trainable(optax.adamw(0.1))
  >>> updates, _ = tx.update(tree, tx.init(tree), tree)
  >>> bool(updates["a"] != 0), updates["b"].x.tolist()
  (True, [0.0])
  """

  def labels(tree: Params) -> Params:
    return jax.tree.map(
      lambda trains: "trained" if trains else "still", trainable(tree)
    )

  parts = {"trained": tx, "still": optax.set_to_zero()}
  return optax.partition(parts, labels)
