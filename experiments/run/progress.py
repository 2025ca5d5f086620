"""Progress of a long part: a bar on a terminal, plain lines elsewhere.

>>> with bar("training", 2) as advance:
...   advance(1)
...   advance(2)
training ... 2/2 in 0 s
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
  """Show how far a part of `total` steps is; yields `advance(done)`.

  A bar leaves no trace but one line when it is done, so that a log file and a
  terminal tell the same.

  Args:
    label: what is being done.
    total: its number of steps.
  """
  began, reached = time.monotonic(), 0

  def note(done: int) -> None:
    nonlocal reached
    reached = done

  if sys.stdout.isatty():
    import rich.progress

    columns = rich.progress.Progress.get_default_columns()
    with rich.progress.Progress(*columns, transient=True) as shown:
      task = shown.add_task(label, total=total)

      def advance(done: int) -> None:
        note(done)
        shown.update(task, completed=done)

      yield advance
  else:
    yield note
  seconds = time.monotonic() - began
  print(f"{label} ... {reached}/{total} in {seconds:.0f} s", flush=True)
