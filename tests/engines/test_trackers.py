"""Trackers for real: TensorBoard's files read back, wandb's kept offline."""

import json
import os
import pathlib
import subprocess

import pytest

from tests import peers
from tests.experiments.run import test_app

pytestmark = pytest.mark.engines
peers.need("tensorboardX", "wandb", "jax")
ROOT = pathlib.Path(__file__).parents[2]
READ = """
import glob, json, struct, sys
from tensorboardX.proto import event_pb2
found = []
for path in sorted(glob.glob(sys.argv[1] + "/events*")):
  data, at = open(path, "rb").read(), 0
  while at < len(data):
    (size,) = struct.unpack("<Q", data[at : at + 8])
    event = event_pb2.Event.FromString(data[at + 12 : at + 12 + size])
    at += 16 + size
    for value in event.summary.value:
      found.append([value.tag, event.step, value.simple_value])
print(json.dumps(found))
"""


def run(folder, *more):
  """Run the sums of the tests of `app` under the engines' Python."""
  (folder / "sums.py").write_text(test_app.MAIN)
  (folder / "own.py").write_text(test_app.CONFIG)
  words = [peers.PYTHON, *test_app.command(folder, "own.py", *more)[1:]]
  paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
  env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
  env |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
  done = subprocess.run(words, env=env, capture_output=True, text=True)
  (at,) = (folder / "runs" / "sums").glob("own-*")
  return done, at


def test_tensorboard_gets_what_is_logged_once(tmp_path):
  failed, at = run(tmp_path, "--tracker=tensorboard", "--config.fail=1")
  assert failed.returncode == 1, failed.stderr
  run(tmp_path, "--tracker=tensorboard", "--config.fail=1")  # resumes
  found = json.loads(peers.run(READ, at / "tensorboard"))
  assert found == [["value", 0, 0.0], ["value", 1, 1.0]]


def test_wandb_keeps_a_run_offline(tmp_path):
  done, at = run(tmp_path, "--tracker=wandb")
  assert done.returncode == 0, done.stderr
  assert (at / "result.json").exists()
  (kept,) = at.glob("wandb/offline-run-*/run-*.wandb")
  data = kept.read_bytes()
  # Each of the three records has its time.
  assert data.count(b"_timestamp") >= 3 and at.name.encode() in data
