"""What a sweep shows while it runs, written as its launcher tells of it.

On a terminal a small table, drawn again in its place each second; elsewhere a
line for each attempt that ends.
"""

import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from experiments.sweeping import sweep_table
from experiments.sweeping.jobs import Job, Outcome

TICK = 1.0  # seconds between drawings


class Board:
  """The writer of one sweep: `with Board(...) as board: board.tell(...)`."""

  def __init__(self, total: int, left: Sequence[Job], workers: int):
    self.at = sweep_table.stand(total, left, workers)
    self.began, self.drawn = time.monotonic(), list[str]()
    self.live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    self.lock, self.over = threading.Lock(), threading.Event()
    print(f"{total} units, {total - len(left)} of them done", flush=True)

  def __enter__(self) -> "Board":
    if self.live:
      threading.Thread(target=self._tick, daemon=True).start()
    return self

  def __exit__(self, *_: Any) -> None:
    self.over.set()
    with self.lock:
      self._draw([])

  def tell(self, outcome: Outcome) -> None:
    """Note how a unit stands, and show it; from any thread."""
    with self.lock:
      now = time.monotonic()
      sweep_table.note(self.at, outcome, now)
      if self.live:
        self._draw_table(now)
      elif outcome.state in ("done", "failed", "again"):
        print(sweep_table.ended(self.at, outcome, now), flush=True)

  def summary(self) -> int:
    """Print how the sweep ended; return the exit code."""
    now = time.monotonic()
    took = sweep_table.span(now - self.began)
    print(f"{sweep_table.line(self.at, now)} in {took}", flush=True)
    for outcome in self.at.failures.values():
      own = self.at.labels[outcome.id]
      said = "\n  ".join(outcome.said.splitlines())
      name = f"{own}: {outcome.id}" if own else outcome.id
      print(f"{name} failed:\n  {said}", flush=True)
    return 1 if self.at.failures else 0

  def _tick(self) -> None:
    while not self.over.wait(TICK):
      with self.lock:
        if not self.over.is_set():
          self._draw_table(time.monotonic())

  def _draw_table(self, now: float) -> None:
    size = shutil.get_terminal_size()
    self._draw(sweep_table.table(self.at, now, *size))

  def _draw(self, lines: list[str]) -> None:
    """Put lines into the place of those that were drawn last."""
    if self.live:
      width = shutil.get_terminal_size().columns  # it may be narrower by now
      up = sum(1 + (len(line) - 1) // width for line in self.drawn)
      back = f"\x1b[{up}A\r\x1b[J" if up else ""
      sys.stdout.write(back + "".join(f"{line}\n" for line in lines))
      sys.stdout.flush()
    self.drawn = lines
