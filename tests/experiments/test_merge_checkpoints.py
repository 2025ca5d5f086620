"""The experiment that merges checkpoints: by flags, by a file, on a mesh."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import yaml

import weightspace as ws
from tests import llamas

ROOT = pathlib.Path(__file__).parents[2]
BASE = llamas.leaves(0)
TUNED = [llamas.leaves(seed, near=BASE) for seed in (1, 2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  at = tmp_path_factory.mktemp("models")
  for name, found in zip(("base", "a", "b"), (BASE, *TUNED)):
    llamas.write(at / name, found)
  return at


def run(folder, *words):
  """Run the experiment on four simulated devices."""
  flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
  flags["PYTHONPATH"] = str(ROOT)
  return subprocess.run(
    [sys.executable, "-m", "experiments.merge_checkpoints", *words],
    cwd=folder,
    env=os.environ | flags,
    capture_output=True,
    text=True,
  )


FLAGS = (
  "--config.recipe=ties",
  "--config.parameters={density: 0.3}",
  "--config.models=a,b",
  "--config.base_model=base",
)


@pytest.mark.slow
@pytest.mark.parametrize(
  "more", [(), ("--mesh=data=4",), ("--max_memory=1MB",)]
)
def test_flags_give_the_merge_in_memory(folder, tmp_path, more):
  out = tmp_path / "out"
  done = run(folder, f"--out={out}", *FLAGS, *more)
  assert done.returncode == 0, done.stderr
  expected = ws.merge.run(ws.merge.ties(0.3), TUNED, BASE)
  merged = llamas.read(out)
  for name in BASE:
    np.testing.assert_allclose(merged[name], expected[name], atol=1e-6)
  if "mesh" not in str(more):
    card = (out / "README.md").read_text()
    assert "experiments.merge_checkpoints" in card and "recipe: ties" in card


@pytest.mark.slow
def test_flags_search(folder, tmp_path):
  ids = np.arange(33) * 7 % llamas.VOCAB
  np.save(tmp_path / "text.npy", ids)
  search = "parameters: {scale: [0, 2]}, score: language_model, budget: 5"
  search += f", text: {tmp_path / 'text.npy'}, length: 8"
  out = tmp_path / "out"
  done = run(folder, f"--out={out}", *FLAGS, f"--config.search={{{search}}}")
  assert done.returncode == 0, done.stderr
  assert "search: 5 mixes, best score" in done.stdout
  assert "scale:" in (out / "README.md").read_text()


@pytest.mark.slow
def test_a_file_is_read_instead(folder, tmp_path):
  config = {"merge_method": "linear", "parameters": {"weight": 1}}
  config["models"] = [{"model": "a"}, {"model": "b"}]
  file = tmp_path / "merge.yml"
  file.write_text(yaml.safe_dump(config))
  done = run(folder, f"--out={tmp_path / 'out'}", f"--yaml={file}", "--dry_run")
  assert done.returncode == 0 and "leaves:" in done.stdout, done.stderr
  assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_is_wrong_is_one_line(folder, tmp_path):
  words = ["--config.merge_method=linear", "--config.models=a,b", "--report"]
  words.append("--config.parameters={weight: 1}")
  done = run(folder, f"--out={tmp_path / 'out'}", *words, "--mesh=data=4")
  assert done.returncode == 1
  assert "error: --report: not with --mesh" in done.stderr
