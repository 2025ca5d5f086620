"""How a sweep stands, from what its launcher tells, and the text that says so.

Only the time to go is a guess: units that are left take as long as those that
are done took.

>>> span(75), span(7260)
('1 min 15 s', '2 h 01 min')
"""

import collections
import heapq
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.sweeping.jobs import Job, Outcome

SHOWN = 3  # failures in the table
COUNTED = "failed", "running", "elsewhere", "waiting"
WAITING = {"again": "waiting", "busy": "elsewhere"}  # what is told: what it is
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x20-\x7e\xa0-\uffff]")


class Standing(NamedTuple):
  """How a sweep stands; its dicts change with what is told."""

  total: int
  workers: int
  labels: dict[str, str]  # {unit that was left: what is its own}
  states: dict[str, str]
  since: dict[str, float]  # {unit that runs: when it began}
  took: list[float]  # seconds of those that are done
  failures: dict[str, Outcome]  # the latest last; without those done since


def stand(total: int, left: Sequence[Job], workers: int) -> Standing:
  """Return how a sweep stands before it begins."""
  labels = {job.id: label(job.overrides or {}) for job in left}
  states = dict.fromkeys(labels, "waiting")
  return Standing(total, workers, labels, states, {}, [], {})


def label(overrides: Mapping[str, Any]) -> str:
  """Return what is a unit's own, for people.

  >>> label({"seed": 3, "members.rate": 0.1 * 3})
  'seed=3 members.rate=0.3'
  """
  return " ".join(
    f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
    for name, value in overrides.items()
  )


def note(at: Standing, outcome: Outcome, now: float) -> None:
  """Note what a launcher tells of a unit."""
  unit, state = outcome.id, outcome.state
  at.since.pop(unit, None)
  at.states[unit] = WAITING.get(state, state)
  if state == "running":
    at.since[unit] = now
  elif state in ("done", "failed", "again"):
    at.failures.pop(unit, None)
    if state != "done":
      at.failures[unit] = outcome
    elif outcome.seconds:  # else it was done before
      at.took.append(outcome.seconds)


def line(at: Standing, now: float) -> str:
  """Return the counts, and the time to go."""
  counts = collections.Counter(at.states.values())
  done = at.total - len(at.states) + counts["done"]
  said = f"{done} of {at.total} done"
  said += "".join(f", {counts[s]} {s}" for s in COUNTED if counts[s])
  ages = [now - since for since in at.since.values()]
  waiting = counts["waiting"] + counts["elsewhere"]
  if at.took and (ages or waiting):
    left = to_go(at.took, ages, waiting, at.workers)
    said += f", about {span(max(left, 1))} left"
  return said


def to_go(
  took: Sequence[float], ages: Sequence[float], waiting: int, workers: int
) -> float:
  """Return the seconds until all units are done, each free worker at the next.

  Args:
    took: seconds of units that are done.
    ages: of units that run; one that is late lasts a tenth of the mean more.
    waiting: how many do not run yet.
    workers: how many run at a time.

  >>> to_go([10.0], [4.0], 2, 2)  # the first is done in 6, the last in 16
  16.0
  """
  each = sum(took) / len(took)
  ends = [max(each - age, each / 10) for age in ages]
  ends += [0.0] * (workers - len(ends))
  heapq.heapify(ends)
  for _ in range(waiting):
    heapq.heapreplace(ends, ends[0] + each)
  return max(ends)


def table(at: Standing, now: float, width: int, height: int) -> list[str]:
  """Return the lines that a terminal of this size has room for.

  The counts, the units that run with their age, and the latest failures.
  """
  failed = list(at.failures.items())[-SHOWN:]
  last: list[str] = []
  for unit, outcome in failed:
    again = {"running": ", again", "waiting": ", waits"}
    word = f"failed{again.get(at.states[unit], '')}"
    last.append(f"{word:<20}{unit}  {at.labels.get(unit, '')}")
    last.append(f"  {last_line(outcome.said)}")
  rows = [
    f"running {span(now - since):<12}{unit}  {at.labels.get(unit, '')}"
    for unit, since in at.since.items()
  ]
  room = max(height - 2 - len(last), 1)
  if len(rows) > room:
    rows[room - 1 :] = [f"... and {len(rows) - room + 1} more running"]
  lines = [line(at, now), *rows, *last][: max(height - 1, 1)]
  return [fit(text, width - 1) for text in lines]


def ended(at: Standing, outcome: Outcome, now: float) -> str:
  """Return the line of an attempt that ended, for logs."""
  own = f" ({at.labels[outcome.id]})" if at.labels.get(outcome.id) else ""
  said = f"{outcome.id}{own} {outcome.state}"
  if outcome.state == "again":
    said = f"{outcome.id}{own} failed, to be tried again"
  if outcome.state == "done":
    said += f" in {span(outcome.seconds)}"
  else:
    said += f": {last_line(outcome.said)}"
  return f"{said}; {line(at, now)}"


def last_line(text: str) -> str:
  """Return the last line of what a program printed, as plain text.

  >>> last_line("step 1\\rstep 2\\n\\x1b[31mno\\x1b[0m room\\n\\n")
  'no room'
  """
  lines = [CONTROL.sub("", part) for part in re.split(r"[\r\n]", text)]
  return next((x.strip() for x in reversed(lines) if x.strip()), "")


def fit(text: str, width: int) -> str:
  """Return a text that is no wider.

  >>> fit("a long line", 8), fit("short", 8)
  ('a lon...', 'short')
  """
  return text if len(text) <= width else f"{text[: max(width - 3, 0)]}..."


def span(seconds: float) -> str:
  """Return a time for people, in its two largest units."""
  whole = round(seconds)
  for name, size, below, part in (
    ("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)
  ):  # fmt: skip
    if whole >= size:
      return f"{whole // size} {name} {whole % size // part:02d} {below}"
  return f"{whole} s"
