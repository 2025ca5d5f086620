"""A config file outside the repository brings its own model, data, recipes."""

import json
import pathlib
import subprocess
import sys

import pytest

from experiments.run import own

ROOT = pathlib.Path(__file__).parents[3]
CONFIG = """
import jax, jax.numpy as jnp, numpy as np, types
import weightspace as ws
from configs import model_soups

def get_config(arg=""):
  config = model_soups.get_config("mode=tiny")
  config.data = "half circles"
  config.model = {"name": "own"}
  config.examples = 0
  return config

def data(config, data_dir):
  rng = np.random.default_rng(0)
  def split():
    y = rng.integers(0, 2, 64).astype(np.int32)
    x = rng.normal(size=(64, 2)).astype(np.float32) + 2 * y[:, None]
    return {"x": x, "y": y}
  names = ("train", "validation", "test")
  return types.SimpleNamespace(**{name: split() for name in names})

def model(config):
  def init(key, x):
    return {"w": 0.1 * jax.random.normal(key, (2, 2)), "b": jnp.zeros(2)}
  return types.SimpleNamespace(
    init=init, apply=lambda p, x: x @ p["w"] + p["b"])

def metric(outputs, y):
  return 1.0 - abs(outputs.argmax(-1) - y)

def recipes(config):
  return {"half way": ws.merge.wise_ft(0.5)}
"""


def test_a_file_without_hooks_brings_nothing(tmp_path):
  path = tmp_path / "plain.py"
  path.write_text("raise RuntimeError('ran')\n")
  assert own.functions(str(path)) == {}


def test_hooks_are_found_by_name(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text("def model(config): return 3\ndef other(): pass\n")
  found = own.functions(str(path))
  assert set(found) == {"model"} and found["model"](None) == 3


@pytest.mark.slow
def test_an_experiment_runs_on_what_a_config_brings(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(CONFIG)
  command = [sys.executable, "-m", "experiments.soup", f"--config={path}"]
  command.append(f"--workdir={tmp_path}")
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  (result,) = tmp_path.glob("soup/mine-*/result.json")
  assert "half way" in json.loads(result.read_text())["numbers"]
  config = json.loads(result.with_name("config.json").read_text())
  assert "own" in config  # another version of the file is another run
