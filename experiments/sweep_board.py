"""What a sweep shows while it runs: done, running, failed, and the time to go.

A live line on a terminal, one line for each unit elsewhere.
"""

import sys
import time

from experiments.jobs import Outcome

CLEAR = "\r\x1b[K"  # what the last line left on a terminal


class Board:
  """The counts of a sweep."""

  def __init__(self, total: int, left: int, workers: int):
    self.total, self.left, self.workers = total, left, workers
    self.done = total - left
    self.failed: list[Outcome] = []
    self.seconds: list[float] = []
    self.began = time.monotonic()
    print(f"{total} units, {self.done} of them done", flush=True)

  def tell(self, outcome: Outcome) -> None:
    """Count the outcome of a unit, and show it."""
    self.left -= 1
    if outcome.state == "done":
      self.done += 1
      self.seconds.append(outcome.seconds)
    else:
      self.failed.append(outcome)
    line = f"{outcome.id} {outcome.state}; {self.line()}"
    if sys.stdout.isatty():
      print(CLEAR + line, end="", flush=True)
    else:
      print(line, flush=True)

  def line(self) -> str:
    """Return the counts in one line."""
    line = f"{self.done} of {self.total} done"
    line += f", {len(self.failed)} failed" if self.failed else ""
    running = min(self.left, self.workers)
    line += f", {running} running" if running else ""
    line += f", {self.left - running} waiting" if self.left > running else ""
    if self.left and self.seconds:
      each = sum(self.seconds) / len(self.seconds)
      to_go = each * self.left / max(self.workers, 1)
      line += f", about {to_go:.0f} s left"
    return line

  def summary(self) -> int:
    """Print how the sweep ended; return the exit code."""
    took = time.monotonic() - self.began
    start = CLEAR if sys.stdout.isatty() else ""
    print(f"{start}{self.line()} in {took:.0f} s", flush=True)
    for outcome in self.failed:
      said = "\n  ".join(outcome.said.splitlines())
      print(f"{outcome.id} failed:\n  {said}", flush=True)
    return 1 if self.failed else 0
