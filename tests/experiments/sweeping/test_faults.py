"""Sweeps under faults: kills at any moment, full disks, clocks that are off.

Units are processes that train in steps (`tests/sweeps/steps.py`), launchers are
the command line, and kills are `kill -9`.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.sweeping import (
  ROOT,
  SQUARES,
  TROUBLE,
  attempts,
  command,
  completed,
  left,
  processes,
  settled,
  start,
  sweep,
  until,
)

IN_PROC = pytest.mark.skipif(
  not os.path.isdir("/proc"), reason="finds units in /proc"
)
# A root without this capability is refused as another user is.
PLAIN = (
  "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0);"
  "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """What an undisturbed sweep leaves."""
  folder = tmp_path_factory.mktemp("whole")
  done = sweep(folder)
  assert done.returncode == 0, done.stdout
  assert len(left(folder)) == 12
  return left(folder)


@pytest.mark.parametrize("moment", ["checkpoint", "result"])
def test_a_kill_in_the_middle_of_a_write(tmp_path, whole, moment):
  """Half of the file is there, aside; the attempt after it goes on."""
  torn = sweep(tmp_path, "--retries=0", config=f"{SQUARES}:kind={moment}")
  assert torn.returncode == 1
  assert torn.stdout.count("failed:\n  killed by signal 25") == 4
  halves = list(tmp_path.glob(f"*/steps/run/.{moment}.json.writing"))
  assert len(halves) == 4 and {p.stat().st_size for p in halves} == {500}
  assert not list(tmp_path.glob("*/steps/run/result.json"))
  settled(tmp_path, whole)
  assert attempts(tmp_path).count(-signal.SIGXFSZ) == 4


@IN_PROC
def test_a_kill_of_a_worker_is_tried_again_by_its_launcher(tmp_path, whole):
  launcher = start(tmp_path, config=f"{SQUARES}:seconds=1")
  os.kill(until(lambda: processes(tmp_path))[0], signal.SIGKILL)
  assert launcher.wait(300) == 0
  assert sorted(attempts(tmp_path)) == [-signal.SIGKILL, 0, 0, 0, 0]
  settled(tmp_path, whole)


@IN_PROC
def test_a_kill_of_the_launcher_leaves_units_that_the_next_waits_for(
  tmp_path, whole
):
  launcher = start(tmp_path, config=f"{SQUARES}:seconds=1")
  until(lambda: len(processes(tmp_path)) == 2)
  launcher.kill()
  launcher.wait()
  assert len(processes(tmp_path)) == 2
  settled(tmp_path, whole)
  assert attempts(tmp_path) == [0, 0]  # it saw two begin; two went on alone


@pytest.mark.slow
@IN_PROC
def test_a_hundred_kills_lose_nothing(tmp_path, whole):
  """Workers and launchers die at random moments; nothing is lost or twice."""
  rng, kills, wholes = np.random.default_rng(0), 0, 0
  config = f"{SQUARES}:seconds=0.3"
  launcher = start(tmp_path, "--retries=99", config=config)
  while kills < 100:
    time.sleep(rng.uniform(0.0, 0.4))
    if launcher.poll() is None and rng.random() < 0.2:
      launcher.kill()
      kills += launcher.wait() == -signal.SIGKILL
    elif at_work := processes(tmp_path):
      os.kill(at_work[rng.integers(len(at_work))], signal.SIGKILL)
      kills += 1
    if launcher.poll() == 0:
      until(lambda: not processes(tmp_path))
      assert left(tmp_path) == whole
      assert max(completed(tmp_path).values()) == 1
      assert not list(tmp_path.glob("*/*/run/clash"))
      shutil.rmtree(tmp_path)
      wholes += 1
    if launcher.poll() is not None:
      assert launcher.returncode in (0, -signal.SIGKILL)
      launcher = start(tmp_path, "--retries=99", config=config)
  launcher.kill()
  launcher.wait()
  settled(tmp_path, whole)
  assert wholes > 1  # the kills fell among units at work


def test_two_launchers_share_a_sweep(tmp_path, whole):
  """Neither starts what the other is at, and both wait for the end."""
  first = start(tmp_path, config=f"{SQUARES}:seconds=0.5")
  second = start(tmp_path, config=f"{SQUARES}:seconds=0.5")
  assert first.wait(300) == second.wait(60) == 0
  assert attempts(tmp_path) == [0, 0, 0, 0]
  settled(tmp_path, whole)
  assert set(completed(tmp_path).values()) == {1}


def test_units_that_always_fail_are_told_of_and_hold_up_nothing(tmp_path):
  done = sweep(tmp_path, "--workers=1", config=TROUBLE)
  assert done.returncode == 1
  assert "2 of 4 done, 2 failed" in done.stdout
  assert "FloatingPointError: loss is nan at step 0" in done.stdout
  assert "ValueError: config.kind: 'bad', expected well" in done.stdout
  assert attempts(tmp_path).count(1) == 4  # each of the two, and once again
  lines = done.stdout.splitlines()
  assert all(" failed, to be tried again: " in line for line in lines[1:3])
  assert "; 1 of 4 done" in lines[3] and "; 2 of 4 done" in lines[4]


@pytest.mark.parametrize("year", [1971, 2099])
def test_clocks_that_are_off(tmp_path, whole, year):
  """Files of a host whose clock is far off: nothing is judged by their time."""
  torn = sweep(tmp_path, "--retries=0", config=f"{SQUARES}:kind=checkpoint")
  assert torn.returncode == 1
  done = next(tmp_path.glob("*/steps/run"))
  (done / "died").unlink()
  when = (year - 1970) * 31_556_952
  for path in tmp_path.rglob("*"):
    os.utime(path, (when, when))
  settled(tmp_path, whole)


def plainly(words):
  """Run a command without root's right to write anywhere."""
  return subprocess.run(
    [sys.executable, "-c", PLAIN, *words[1:]],
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )


def test_a_folder_that_is_read_only(tmp_path, whole):
  """The sweep's own is named before a unit starts; a unit's fails it alone."""
  folder = tmp_path / "sweep"
  folder.mkdir()
  folder.chmod(0o555)
  done = plainly(command(folder))
  assert done.returncode == 2 and not list(folder.iterdir())
  assert f"error: {folder}: [Errno 13] Permission denied" in done.stdout
  assert "Traceback" not in done.stdout
  folder.chmod(0o755)
  torn = sweep(folder, "--retries=0", config=f"{SQUARES}:kind=checkpoint")
  assert torn.returncode == 1
  barred = next(folder.glob("*/steps")).parent
  (barred / "log.txt").unlink()
  barred.chmod(0o555)
  done = plainly(command(folder, "--retries=0"))
  barred.chmod(0o755)
  assert done.returncode == 1 and "3 of 4 done, 1 failed" in done.stdout
  assert f"{barred.name} failed:\n  [Errno 13] Permission" in done.stdout
  settled(folder, whole)


@pytest.fixture
def small_disk(tmp_path):
  """A disk of a few pages, whose size `resize` changes."""

  def resize(option):
    words = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
      pytest.skip(f"needs a disk of its own: {done.stderr.strip()}")

  resize("size=48k")
  yield tmp_path, resize
  subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.skipif(not shutil.which("mount"), reason="mounts a small disk")
def test_a_full_disk(small_disk, whole):
  """It is said, by units and launchers alike; with room, the same goes on."""
  folder, resize = small_disk
  done = sweep(folder, "--retries=0")
  assert done.returncode == 1 and "Traceback (most" not in done.stdout[:60]
  assert "failed:" in done.stdout
  assert "[Errno 28] No space left on device" in done.stdout
  with contextlib.suppress(OSError):
    (folder / "rest").write_bytes(bytes(48 * 1024))
  again = sweep(folder / "another", "--retries=0")
  assert again.returncode == 2
  assert f"error: {folder}/another: [Errno 28] No space" in again.stdout
  resize("remount,size=1m")
  (folder / "rest").unlink()
  shutil.rmtree(folder / "another")
  settled(folder, whole)
