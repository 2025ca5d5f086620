"""Hosts that are lost: one line and a code that launchers try again."""

import io
import signal
import subprocess
import sys

import pytest

from experiments.run import lost
from tests.experiments.run.test_hosts import ROOT, environments, experiment
from tests.sweeping import until

SERVICE = "E coordination_service.cc:1549] Use error polling to propagate:"


@pytest.mark.parametrize(
  "text, reason",
  [
    (f"{SERVICE} UNAVAILABLE: Task 3 heartbeat timeout.", "lost host 3"),
    (f"{SERVICE} (stopped sending heartbeats):\n2\nThe tasks", "lost host 2"),
    (
      f"{SERVICE} (stopped sending heartbeats):\n/job:x/task:7\n",
      "lost host 7",
    ),
    ("UNAVAILABLE: Failed to send RPC to coordination service", "lost host 0"),
    (
      "Gloo AllGather failed: Connection closed by peer [10.0.0.7]:8",
      "lost another host (10.0.0.7)",
    ),
    ("Gloo all-reduce failed: timed out", "lost another host"),
    ("weightspace: lost host 1\nGloo AllGather failed", "lost host 1"),
    ("RESOURCE_EXHAUSTED: out of memory", None),
    ("config.seeds: 0, expected at least 1", None),
  ],
)
def test_what_jax_says_names_the_host(text, reason):
  assert lost.reason(text) == reason


def test_words_are_handed_on_until_jax_ends():
  said = "a warning\nerror: no\nFatal Python error: Aborted\n\nThread 1\n"
  out = io.StringIO()
  kept = lost._relay(io.StringIO(said), out)
  assert out.getvalue() == "a warning\nerror: no\n"
  assert kept == "Fatal Python error: Aborted\n\nThread 1\n"


def test_another_error_is_not_a_lost_host():
  lost.check(ValueError("no such file"), "here", False)
  lost.check(RuntimeError("Gloo AllGather failed"), "here", False)  # alone


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_host_that_is_killed_ends_the_other_with_one_line(tmp_path, victim):
  """While they train; the same command then goes on, on one host."""
  long = "--config.members.epochs=3000", "--config.members.batch_size=16"
  command = [sys.executable, *experiment(tmp_path, *long)]
  both = [
    subprocess.Popen(
      command,
      env=env,
      cwd=ROOT,
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
    )
    for env in environments(2, 1)
  ]
  until(lambda: list(tmp_path.glob("soup/*/checkpoints/[!.]*")))  # its start
  both[victim].kill()
  said, errors = both[1 - victim].communicate(timeout=60)
  both[victim].communicate()
  assert both[victim].returncode == -signal.SIGKILL
  assert both[1 - victim].returncode == lost.LOST, errors
  (folder,) = tmp_path.glob("soup/*")
  line = f"error: lost host {victim}; the same command goes on in {folder}"
  told = [x for x in errors.splitlines() if "distributed.py" not in x]
  assert told == [line] and "Traceback" not in said
