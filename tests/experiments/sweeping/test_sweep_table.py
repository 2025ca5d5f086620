"""The table of a sweep: pure text from what a launcher told, and when."""

import pytest

from experiments.sweeping import jobs, sweep_board, sweep_table
from experiments.sweeping.jobs import Outcome

QUEUE = [
  jobs.Job(name, [], "", {"seed": seed, "model.rate": 0.1 * seed})
  for seed, name in enumerate("abcdef")
]


def told(*events, total=8, workers=2):
  """Return how a sweep stands after (second, unit, state, more...) events."""
  at = sweep_table.stand(total, QUEUE, workers)
  for now, unit, state, *more in events:
    sweep_table.note(at, Outcome(unit, state, *(more or [0.0])), now)
  return at


def test_counts_are_of_what_was_told():
  at = told()
  assert sweep_table.line(at, 0.0) == "2 of 8 done, 6 waiting"
  at = told((0, "a", "running"), (0, "b", "running"), (3, "c", "busy"))
  said = "2 of 8 done, 2 running, 1 elsewhere, 3 waiting"
  assert sweep_table.line(at, 5.0) == said
  more = [(4, "a", "failed", 4.0, "no"), (4, "b", "again", 4.0, "no")]
  at = told((0, "a", "running"), (0, "b", "running"), *more)
  assert sweep_table.line(at, 5.0) == "2 of 8 done, 1 failed, 5 waiting"


def test_the_time_to_go_is_from_units_that_are_done():
  done = [(0, "a", "running"), (10, "a", "done", 10.0), (10, "b", "running")]
  # b ends 6 s from now, its worker and the other share four more.
  assert sweep_table.line(told(*done), 14.0).endswith("about 26 s left")
  # A unit that another launcher had done says nothing of how long one takes.
  assert "left" not in sweep_table.line(told((0, "a", "done", 0.0)), 1.0)
  # With a worker for each, the last to begin is waited for.
  assert sweep_table.to_go([10.0, 20.0], [1.0, 9.0], 0, 8) == 14.0
  assert sweep_table.to_go([10.0], [99.0], 0, 8) == 1.0  # one that is late
  assert sweep_table.to_go([10.0], [], 10_000, 100) == 1000.0


def test_the_table_has_what_runs_and_what_failed_last():
  at = told(
    (0, "a", "running"),
    (1, "b", "running"),
    (9, "b", "again", 8.0, "Traceback\n  \x1b[31mValueError: no\x1b[0m\n"),
    (70, "d", "running"),
  )
  assert sweep_table.table(at, 75.0, 80, 24) == [
    "2 of 8 done, 2 running, 4 waiting",
    "running 1 min 15 s  a  seed=0 model.rate=0",
    "running 5 s         d  seed=3 model.rate=0.3",
    "failed, waits       b  seed=1 model.rate=0.1",
    "  ValueError: no",
  ]
  sweep_table.note(at, Outcome("b", "running", 0.0), 80.0)
  lines = sweep_table.table(at, 80.0, 80, 24)
  assert lines[4].startswith("failed, again       b")
  sweep_table.note(at, Outcome("b", "failed", 3.0, "x"), 83.0)
  assert sweep_table.table(at, 83.0, 80, 24)[3].startswith("failed      ")
  sweep_table.note(at, Outcome("b", "done", 3.0), 90.0)  # another launcher
  assert len(sweep_table.table(at, 90.0, 80, 24)) == 3


@pytest.mark.parametrize("width", [1, 20, 60, 120])
@pytest.mark.parametrize("height", [1, 4, 8, 24])
def test_the_table_fits_any_terminal(width, height):
  events = [(0, name, "running") for name in "abcd"]
  events += [(1, name, "failed", 1.0, "long " * 99) for name in "ef"]
  lines = sweep_table.table(told(*events), 9.0, width, height)
  assert 1 <= len(lines) <= max(height - 1, 1)
  assert all(len(line) <= max(width - 1, 3) for line in lines)
  if height == 8 and width == 60:
    assert lines[2] == "... and 3 more running" and len(lines) == 7


def test_a_log_has_a_line_for_each_attempt_that_ends(capsys):
  with sweep_board.Board(8, QUEUE, 2) as board:
    for outcome in (
      Outcome("b", "running", 0.0),
      Outcome("b", "again", 8.0, "why\nso\n"),
      Outcome("c", "busy", 0.0),
      Outcome("c", "done", 10.0),
      Outcome("b", "failed", 8.0, "why\nso"),
    ):
      board.tell(outcome)
  assert board.summary() == 1
  lines = capsys.readouterr().out.splitlines()
  assert lines[:4] == [
    "8 units, 2 of them done",
    "b (seed=1 model.rate=0.1) failed, to be tried again: so; 2 of 8 done, 6"
    " waiting",
    "c (seed=2 model.rate=0.2) done in 10 s; 3 of 8 done, 5 waiting, about 30 s"
    " left",
    "b (seed=1 model.rate=0.1) failed: so; 3 of 8 done, 1 failed, 4 waiting,"
    " about 20 s left",
  ]
  assert lines[5:] == ["seed=1 model.rate=0.1: b failed:", "  why", "  so"]


@pytest.mark.parametrize(
  "seconds, text",
  [
    (0.2, "0 s"),
    (59.6, "1 min 00 s"),
    (3599, "59 min 59 s"),
    (86399.9, "1 d 00 h"),
    (200_000, "2 d 07 h"),
  ],
)
def test_times_are_for_people(seconds, text):
  assert sweep_table.span(seconds) == text
