"""Reading ahead and writing behind: two threads beside the one that computes.

Files are read and written outside Python's lock, so a merge costs as long as
the slowest of reading, computing and writing.

>>> list(ahead([1, 2], lambda n: (np.ones(n),)))[1][0]
2
"""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

Item = TypeVar("Item")


class Counter:
  """Bytes read so far, told to whoever watches."""

  def __init__(
    self, total: int, progress: Callable[[int, int], None] | None = None
  ):
    self.total, self.read, self.progress = total, 0, progress

  def add(self, arrays: Any) -> None:
    """Count the arrays of a tree as read."""
    self.read += sum(np.asarray(x).nbytes for x in jax.tree.leaves(arrays))
    if self.progress:
      self.progress(self.read, self.total)


def ahead(
  items: Iterable[Item],
  load: Callable[[Item], Any],
  counter: Counter | None = None,
) -> Iterator[tuple[Item, Any]]:
  """Yield `(item, load(item))` in order, with the next one being loaded."""
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    coming: tuple[Item, Any] | None = None
    for item in items:
      loading = item, pool.submit(load, item)
      if coming:
        yield _arrived(coming, counter)
      coming = loading
    if coming:
      yield _arrived(coming, counter)


def _arrived(
  coming: tuple[Item, Any], counter: Counter | None
) -> tuple[Item, Any]:
  item, future = coming
  loaded = future.result()
  if counter:
    counter.add(loaded)
  return item, loaded


@contextlib.contextmanager
def behind() -> Iterator[Callable[..., None]]:
  """Give `write(function, *args)`, which runs while the caller goes on.

  One call is under way at a time; what it raises is raised by the next call, or
  at the end.
  """
  pending: list[concurrent.futures.Future[Any]] = []

  def write(function: Callable[..., Any], *args: Any) -> None:
    if pending:
      pending.pop().result()
    pending.append(pool.submit(function, *args))

  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    yield write
    if pending:
      pending.pop().result()
