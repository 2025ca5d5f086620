"""The SLURM launcher on submitit's local executor: real tasks, real kills."""

import os
import signal

import pytest

from tests import peers
from tests.sweeping import (
  GANG,
  ON_ALL,
  PAIR,
  REAL,
  SQUARES,
  TROUBLE,
  attempts,
  found,
  gangs,
  left,
  parent,
  processes,
  settled,
  start,
  sweep,
  until,
)

peers.need("submitit")
pytestmark = pytest.mark.engines
LOCAL = "--launcher=slurm", "--set=cluster=local"
PYTHON = {"python": peers.PYTHON}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """What the local launcher leaves."""
  folder = tmp_path_factory.mktemp("whole")
  done = sweep(folder, **PYTHON)
  assert done.returncode == 0, done.stdout
  return left(folder)


def tasks(folder):
  """Count what was submitted."""
  return len([p for p in (folder / ".submitit").iterdir() if p.name.isdigit()])


def test_a_sweep_is_that_of_the_local_launcher(tmp_path, whole):
  said = settled(tmp_path, whole, *LOCAL, **PYTHON)
  assert "4 of 4 done" in said
  assert attempts(tmp_path) == [0, 0, 0, 0]
  assert tasks(tmp_path) == 4
  again = settled(tmp_path, whole, *LOCAL, **PYTHON)
  assert "4 units, 4 of them done" in again
  assert tasks(tmp_path) == 4


def test_units_that_always_fail_are_told_of(tmp_path):
  done = sweep(tmp_path, *LOCAL, config=TROUBLE, **PYTHON)
  assert done.returncode == 1 and "2 of 4 done, 2 failed" in done.stdout
  assert "FloatingPointError: loss is nan at step 0" in done.stdout
  assert attempts(tmp_path).count(1) == 4


def test_a_task_that_is_killed_is_submitted_again(tmp_path, whole):
  """As where a node is lost: the task dies, and its unit with it."""
  options = {"config": f"{SQUARES}:seconds=2", **PYTHON}
  launcher = start(tmp_path, *LOCAL, **options)
  os.kill(parent(until(lambda: processes(tmp_path))[0]), signal.SIGKILL)
  assert launcher.wait(300) == 0
  assert attempts(tmp_path) == [0, 0, 0, 0]
  assert tasks(tmp_path) == 5
  settled(tmp_path, whole, *LOCAL, **PYTHON)


@pytest.mark.parametrize("minutes", [1, 60])
def test_a_task_that_is_stopped_goes_on_where_it_was(tmp_path, whole, minutes):
  """At the end of its time, as it is after 0 of 1 minutes, or before."""
  options = {"config": f"{SQUARES}:seconds=3", **PYTHON}
  more = "--retries=0", f"--set=minutes={minutes}"
  launcher = start(tmp_path, *LOCAL, *more, **options)
  until(lambda: list(tmp_path.glob("*/steps/run/checkpoint.json")))
  os.kill(parent(processes(tmp_path)[0]), signal.SIGUSR2)
  assert launcher.wait(300) == 0
  assert attempts(tmp_path) == [0, 0, 0, 0]
  assert tasks(tmp_path) == 4
  settled(tmp_path, whole, *LOCAL, **PYTHON)


def test_a_killed_launcher_finds_its_tasks_at_work(tmp_path, whole):
  options = {"config": f"{SQUARES}:seconds=3", **PYTHON}
  launcher = start(tmp_path, *LOCAL, **options)
  until(lambda: len(processes(tmp_path)) == 2)
  launcher.kill()
  launcher.wait()
  settled(tmp_path, whole, *LOCAL, **PYTHON)
  assert attempts(tmp_path) == [0, 0, 0, 0]
  assert tasks(tmp_path) == 4


def test_a_unit_on_two_hosts_is_one_jax_program(tmp_path):
  done = sweep(tmp_path, *LOCAL, *GANG, config=PAIR, **PYTHON)
  assert done.returncode == 0, done.stdout
  assert len(set(gangs(tmp_path))) == 2
  assert len(list(tmp_path.glob("*/log.1.txt"))) == 2


def test_an_experiment_on_two_hosts_finds_what_it_finds_on_one(tmp_path):
  """They write a checkpoint together, and process 0 the rest."""
  one, two = tmp_path / "one", tmp_path / "two"
  done = sweep(one, *REAL, config=PAIR, **PYTHON)
  assert done.returncode == 0, done.stdout
  more = *LOCAL, *REAL, "--hosts=2", *ON_ALL
  done = sweep(two, *more, config=PAIR, **PYTHON)
  assert done.returncode == 0, done.stdout
  assert found(two) == found(one)
  assert len(list(two.glob("*/log.1.txt"))) == 2
