"""Kills and interrupts at any moment: the same command finishes the run."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from experiments import runs

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "configs/model_soups.py:mode=tiny"


def command(folder):
  words = [sys.executable, "-m", "experiments.soup", f"--config={CONFIG}"]
  return [*words, f"--workdir={folder}"]


def finish(folder):
  """Run to the end; return what was found, and every logged number."""
  done = subprocess.run(
    command(folder), cwd=ROOT, capture_output=True, text=True, timeout=300
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
    started = subprocess.Popen(
      command(tmp_path),
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
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
