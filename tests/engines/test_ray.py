"""The Ray launcher on a cluster of two hosts: gangs, and hosts that are lost.

The hosts are nodes of this machine with four chips each, a custom resource.
"""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from tests import peers
from tests.sweeping import (
  GANG,
  PAIR,
  ROOT,
  SQUARES,
  TROUBLE,
  attempts,
  gangs,
  left,
  parent,
  processes,
  settled,
  start,
  sweep,
  until,
)

peers.need("ray")
pytestmark = pytest.mark.engines
RAY = "--launcher=ray", "--chips=4", "--set=wait=200"
ENV = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {
  "RAY_USAGE_STATS_ENABLED": "0",
  "RAY_health_check_initial_delay_ms": "1000",  # a lost host is noticed sooner
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """What the local launcher leaves."""
  folder = tmp_path_factory.mktemp("whole")
  done = sweep(folder, python=peers.PYTHON)
  assert done.returncode == 0, done.stdout
  return left(folder)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
  """How to reach the cluster, and `tell(word)` to change it."""
  folder = tmp_path_factory.mktemp("cluster")
  said, errors = folder / "said", folder / "errors"
  with open(errors, "wb") as file:
    process = subprocess.Popen(
      [peers.PYTHON, "-m", "tests.sweeps.nodes", str(said)],
      cwd=ROOT,
      env=ENV,
      text=True,
      stdin=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      stderr=file,
    )

  def lines():
    return said.read_text().split() if said.exists() else []

  def tell(words):
    before = len(lines())
    process.stdin.write(f"{words}\n")
    process.stdin.flush()
    until(lambda: len(lines()) > before)

  until(lambda: lines() or process.poll() is not None)
  assert lines(), errors.read_text()[-2000:]
  yield (
    {"python": peers.PYTHON, "env": ENV | {"RAY_ADDRESS": lines()[0]}},
    tell,
  )
  process.stdin.close()  # it ends the cluster, and itself
  process.wait(300)


def test_each_host_takes_one_unit_of_all_its_chips(tmp_path, whole, cluster):
  options, _ = cluster
  options = options | {"config": f"{SQUARES}:seconds=0.5"}
  launcher = start(tmp_path, *RAY, "--workers=4", **options)
  most = 0
  while launcher.poll() is None:
    most = max(most, len(processes(tmp_path)))
    time.sleep(0.02)
  assert launcher.returncode == 0 and most == 2
  assert attempts(tmp_path) == [0, 0, 0, 0]
  settled(tmp_path, whole, *RAY, **cluster[0])


def test_what_the_cluster_has_not_is_refused(tmp_path, cluster):
  options, _ = cluster
  for more, lack in (
    (["--hosts=3"], "no 3 hosts with 4 TPU each in the Ray cluster"),
    (["--chips=8"], "no 1 hosts with 8 TPU each in the Ray cluster"),
    (["--set=wait=soon"], "--set=wait=soon, expected a whole number"),
  ):
    done = sweep(tmp_path, *RAY, *more, **options)
    assert done.returncode == 2 and lack in done.stdout
    assert "Traceback" not in done.stdout
  assert not attempts(tmp_path)


def test_units_that_always_fail_are_told_of(tmp_path, cluster):
  done = sweep(tmp_path, *RAY, config=TROUBLE, **cluster[0])
  assert done.returncode == 1 and "2 of 4 done, 2 failed" in done.stdout
  assert "FloatingPointError: loss is nan at step 0" in done.stdout
  assert attempts(tmp_path).count(1) == 4


def test_a_worker_that_is_killed_is_replaced(tmp_path, whole, cluster):
  """With the actor goes its unit; another takes it where it was."""
  options = cluster[0] | {"config": f"{SQUARES}:seconds=2"}
  launcher = start(tmp_path, *RAY, **options)
  os.kill(parent(until(lambda: processes(tmp_path))[0]), signal.SIGKILL)
  assert launcher.wait(300) == 0
  assert attempts(tmp_path) == [0, 0, 0, 0]
  settled(tmp_path, whole, *RAY, **cluster[0])


def test_a_launcher_that_is_killed_takes_its_units_along(
  tmp_path, whole, cluster
):
  options = cluster[0] | {"config": f"{SQUARES}:seconds=300"}
  launcher = start(tmp_path, *RAY, **options)
  until(lambda: len(processes(tmp_path)) == 2)
  launcher.kill()
  launcher.wait()
  until(lambda: not processes(tmp_path))
  assert not list(tmp_path.glob("*/steps/run/result.json"))
  settled(tmp_path, whole, *RAY, **cluster[0])


def test_a_host_that_is_lost_takes_no_unit_along(tmp_path, whole, cluster):
  """The units of two hosts end on the one that is left."""
  options, tell = cluster
  slow = options | {"config": f"{SQUARES}:seconds=2"}
  launcher = start(tmp_path, *RAY, **slow)
  until(lambda: len(processes(tmp_path)) == 2)
  tell("kill")
  assert launcher.wait(300) == 0
  settled(tmp_path, whole, *RAY, **options)
  tell("add a")


def test_a_gang_is_of_one_slice_and_waits_for_a_lost_host(tmp_path, cluster):
  """Each unit is one JAX program of both hosts, and is so again after."""
  options, tell = cluster
  calm, slow = tmp_path / "calm", tmp_path / "slow"
  done = sweep(calm, *RAY, *GANG, config=PAIR, **options)
  assert done.returncode == 0, done.stdout
  launcher = start(slow, *RAY, *GANG, config=f"{PAIR}:seconds=3", **options)
  module = "tests.sweeps.gang"
  until(lambda: len(processes(slow, module)) == 2)
  tell("kill")
  until(lambda: not processes(slow, module))
  tell("add b")  # of another slice, which does not help
  done = sweep(tmp_path / "none", *RAY, *GANG, config=PAIR, **options)
  assert done.returncode == 2
  assert "no 2 hosts with 4 TPU each" in done.stdout
  tell("add a")  # one of three hosts is of the other slice now
  used = until(lambda: slices(slow, module))
  assert launcher.wait(300) == 0
  assert gangs(slow) == gangs(calm) and used == {"a"}


def slices(folder, module):
  """Return the slices of a gang's hosts, once both its processes are there."""
  found = []
  with contextlib.suppress(OSError):  # one has ended meanwhile
    for process in processes(folder, module):
      mine = pathlib.Path("/proc", str(process), "environ").read_bytes()
      host = re.search(rb"RAY_RAYLET_PID=(\d+)", mine)[1].decode()
      words = pathlib.Path("/proc", host, "cmdline").read_text()
      found.append(re.search(r"tpu-slice-name\W+(\w+)", words)[1])
  return set(found) if len(found) == 2 else None
