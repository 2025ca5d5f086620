"""Kills and interrupts at any moment: the same command finishes the run."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments.run import runs
from tests.sweeping import newest, until, watched
from weightspace import checkpoints

ROOT = pathlib.Path(__file__).parents[3]
CONFIG = "configs/model_soups.py:mode=tiny"


def command(folder, *more):
  words = [sys.executable, "-m", "experiments.soup", f"--config={CONFIG}"]
  return [*words, f"--workdir={folder}", *more]


def start(words):
  return subprocess.Popen(
    words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )


def finish(folder, *more):
  """Run to the end; return what was found, and every logged number."""
  words = command(folder, *more)
  done = subprocess.run(
    words, cwd=ROOT, capture_output=True, text=True, timeout=300
  )
  assert done.returncode == 0, done.stderr
  (at,) = folder.glob("soup/*")
  result = json.loads((at / "result.json").read_text())
  lines = runs.read_lines(at / "metrics.jsonl")
  for record in (result, *lines):
    record.pop("seconds")
  # The clock, what this process cost, and a tree that is edited.
  for name in ("finished", "speed", "git"):
    result.pop(name)
  result["command"] = result["command"].replace(str(folder), "")
  return result, sorted(lines, key=json.dumps), at


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """An uninterrupted run, and how long it takes when all is compiled."""
  finish(tmp_path_factory.mktemp("warm"))
  began = time.monotonic()
  result, lines, _ = finish(tmp_path_factory.mktemp("whole"))
  return result, lines, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path, whole, sign, seed):
  """Three kills at moments drawn from the length of a run, then the end."""
  expected, lines, seconds = whole
  draws = random.Random(seed)
  for _ in range(3):
    started = start(command(tmp_path))
    time.sleep(draws.uniform(0.2, 1.0) * seconds)
    os.kill(started.pid, sign)
    said = started.communicate(timeout=60)[0]
    assert started.returncode in (0, -sign, 130), said
    if started.returncode == 130:
      assert "the same command resumes" in said and "Traceback" not in said
  result, again, at = finish(tmp_path)
  assert result == expected
  assert again == lines
  assert not [p for p in at.rglob("*") if p.name.endswith((".writing", "-tmp"))]


@pytest.mark.slow
def test_a_kill_within_training_loses_what_was_not_saved_alone(tmp_path):
  """It goes on behind its last save, and ends bit-equal to another."""
  long = "--config.seeds=1", "--config.members.epochs=30"
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  expected, lines, other = finish(whole, *long)  # saved never: it is short
  words = command(killed, *long, "--save_every=0.001")
  started = start(words)
  until(lambda: newest(killed) > "epoch-000005" or started.poll())
  started.kill()
  said = started.communicate(timeout=60)[0]
  left = newest(killed)
  assert started.returncode == -signal.SIGKILL and left < "epoch-000030", said
  again = start(words)
  seen = watched([again], killed)
  said = again.communicate(timeout=60)[0]
  assert again.returncode == 0 and "resuming" in said, said
  assert left < min(seen) and max(seen) == "epoch-000030"
  result, found, at = finish(killed, *long)
  assert (result, found, at.name) == (expected, lines, other.name)
  for one in sorted(at.glob("checkpoints/seed0-members/*")):
    pair = one, other / one.relative_to(at)
    trees = map(checkpoints.restore, pair)
    jax.tree.map(np.testing.assert_array_equal, *trees)
  assert not list(at.rglob(".*"))
