"""Trees of Orbax, opened leaf by leaf or restored whole.

>>> import tempfile
>>> from weightspace.checkpoints import folders
>>> path = f"{tempfile.mkdtemp()}/tree"
>>> folders.save(path, {"a": {"w": np.ones(2)}})
>>> kinds, load = opened(path)
>>> kinds["a/w"][0], load("a/w", None).tolist()
((2,), [1.0, 1.0])
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from weightspace import trees
from weightspace.checkpoints import places, tensor_files

Load = Callable[[str, Any], np.ndarray]


def opened(path: str) -> tuple[dict[str, tensor_files.Kind], Load]:
  """Return the kinds of the leaves, and what reads one, a partial restore."""
  import orbax.checkpoint as ocp

  checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
  where = places.place(path)
  tree = checkpointer.metadata(where).item_metadata.tree
  flat = trees.named(tree)
  kinds = {
    name: (tuple(x.shape), np.dtype(x.dtype)) for name, x in flat.items()
  }
  paths = dict(zip(flat, jax.tree_util.tree_flatten_with_path(tree)[0]))

  def load(key: str, index: Any) -> np.ndarray:
    item: Any = 0
    for step in reversed(paths[key][0]):
      item = {getattr(step, "key", getattr(step, "idx", None)): item}
    numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    args = ocp.args.PyTreeRestore(
      item=item,
      restore_args=jax.tree.map(lambda _: numpy, item),
      partial_restore=True,
    )
    found = checkpointer.restore(where, args=args)
    leaf = np.asarray(jax.tree.leaves(found)[0])
    return leaf if index is None else leaf[index]

  return kinds, load


def restored(path: str) -> Any:
  """Return a whole tree, with NumPy's arrays."""
  import orbax.checkpoint as ocp

  where = places.place(path)
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    tree = checkpointer.metadata(where).item_metadata.tree
    numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    args = jax.tree.map(lambda _: numpy, tree)
    return checkpointer.restore(
      where, args=ocp.args.PyTreeRestore(item=tree, restore_args=args)
    )
