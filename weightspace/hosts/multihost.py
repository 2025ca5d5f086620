"""Several processes at one program: who writes, and where arrays lie.

Every process has the same arrays on its host and runs the same program; each
keeps the parts that its devices hold, and gets whole arrays back.  With one
process all of this is what it is without.

>>> share("ready"), gather("here"), first(lambda: 3)
('ready', ['here'], None)
"""

import base64
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def several() -> bool:
  """Tell whether this process has joined others; starts no device.

  >>> several()
  False
  """
  return jax.distributed.is_initialized() and jax.process_count() > 1


def writes() -> bool:
  """Tell whether this process is the one that writes files."""
  return not several() or jax.process_index() == 0


def gather(text: str) -> list[str]:
  """Return the texts of all processes, in their order, in each of them."""
  if not several():
    return [text]
  from jax.experimental import multihost_utils

  mine = np.frombuffer(text.encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(len(mine))).ravel()
  filled = np.zeros(_room(int(sizes.max())), np.uint8)
  filled[: len(mine)] = mine
  rows = np.asarray(multihost_utils.process_allgather(filled), np.uint8)
  return [bytes(row[:n]).decode() for row, n in zip(rows, sizes.tolist())]


def share(text: str) -> str:
  """Return the text of process 0 in every process."""
  if not several():
    return text
  from jax.experimental import multihost_utils

  mine = np.frombuffer(text.encode(), np.uint8)
  size = multihost_utils.broadcast_one_to_all(np.int32(len(mine)))
  if not int(size):
    return ""
  filled = np.zeros(_room(int(size)), np.uint8)
  if jax.process_index() == 0:
    filled[: len(mine)] = mine
  found = multihost_utils.broadcast_one_to_all(filled)
  return bytes(np.asarray(found, np.uint8)[: int(size)]).decode()


def each(work: Callable[[Sequence[int]], list[Any]], count: int) -> list[Any]:
  """Share numbered pieces of work out; return all results in every process.

  Args:
    work: `work(numbers)` returns a result for each of some numbers below
      `count`: trees of arrays and numbers.
    count: of the pieces.

  >>> each(lambda numbers: [n * n for n in numbers], 3)
  [0, 1, 4]
  """
  if not several():
    return work(range(count))
  mine, hosts = jax.process_index(), jax.process_count()
  found = pickle.dumps(work(range(mine, count, hosts)))
  parts = [
    pickle.loads(base64.b64decode(text))
    for text in gather(base64.b64encode(found).decode())
  ]
  return [parts[n % hosts][n // hosts] for n in range(count)]


def _room(size: int) -> int:
  """Return bytes for a text, of few sizes: each is a program of its own."""
  return max(1024, 1 << (size - 1).bit_length())


def first(work: Callable[[], Any]) -> None:
  """Do something in process 0 while the others wait.

  Raises:
    ValueError, OSError: in all processes, what the work raises in the first.
  """
  if not several():
    work()
    return
  failed: ValueError | OSError | None = None
  if jax.process_index() == 0:
    try:
      work()
    except (ValueError, OSError) as error:
      failed = error
  said = share(str(failed) if failed else "")
  if failed:
    raise failed
  if said:
    raise ValueError(f"process 0: {said}")


def place(mesh: Any, tree: Any, spec: Any) -> Any:
  """Lay arrays that every process has out on a mesh.

  >>> auto = (jax.sharding.AxisType.Auto,)
  >>> mesh = jax.make_mesh((1,), ("population",), axis_types=auto)
  >>> place(mesh, {"w": np.ones(4)}, jax.P("population"))["w"].sum().item()
  4.0
  """
  layout = jax.NamedSharding(mesh, spec)
  if not several():
    return jax.device_put(tree, layout)

  def leaf(x: Any) -> jax.Array:
    if jax.dtypes.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key):
      impl = jax.random.key_impl(x)
      return jax.random.wrap_key_data(leaf(jax.random.key_data(x)), impl=impl)
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, layout, lambda i: host[i])

  return jax.tree.map(leaf, tree)


def whole(mesh: Any, tree: Any) -> Any:
  """Return arrays that lie on a mesh as arrays of every process's own.

  Without a mesh they are that already.
  """
  if mesh is None or not several():
    return tree
  same = jax.NamedSharding(mesh, jax.P())
  found = jax.jit(lambda x: x, out_shardings=same)(tree)
  return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), found)
