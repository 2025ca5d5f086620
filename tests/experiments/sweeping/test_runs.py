"""Sweeps of real runs that are killed while they write, and then go on."""

import os
import signal

import pytest

from tests.sweeping import (
  PAIR,
  REAL,
  attempts,
  found,
  processes,
  start,
  sweep,
  until,
)

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks into /proc"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """What undisturbed runs find."""
  folder = tmp_path_factory.mktemp("whole")
  done = sweep(folder, *REAL, config=PAIR)
  assert done.returncode == 0, done.stdout
  return found(folder)


def test_a_kill_in_the_middle_of_a_checkpoint(tmp_path, whole):
  launcher = start(tmp_path, *REAL, "--retries=0", config=PAIR)
  aside = "*/real/*/checkpoints/.weights.writing*"
  until(lambda: list(tmp_path.glob(aside)))
  os.kill(processes(tmp_path, "tests.sweeps.real")[0], signal.SIGKILL)
  assert launcher.wait(300) == 1
  assert list(tmp_path.glob(aside)) and attempts(tmp_path).count(-9) == 1
  assert sweep(tmp_path, *REAL, config=PAIR).returncode == 0
  assert found(tmp_path) == whole


def test_a_kill_in_the_middle_of_a_result(tmp_path, whole):
  env = os.environ | {"DIES": ".result.json.writing"}
  torn = sweep(tmp_path, *REAL, "--retries=0", config=PAIR, env=env)
  assert torn.returncode == 1
  assert torn.stdout.count("failed:\n") == 2
  assert len(list(tmp_path.glob("*/real/*/.result.json.writing"))) == 2
  assert not list(tmp_path.glob("*/real/*/result.json"))
  assert sweep(tmp_path, *REAL, config=PAIR).returncode == 0
  assert found(tmp_path) == whole
