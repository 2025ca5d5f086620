"""The parity presets against mergekit 0.1.5 itself, where it is installed.

mergekit needs PyTorch, so it may live in another Python: MERGEKIT_PYTHON.
"""

import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws

pytestmark = pytest.mark.slow  # starts PyTorch
PYTHON = os.environ.get("MERGEKIT_PYTHON", sys.executable)
SHAPES = {"a": (40, 30), "b": (50,), "c": (20, 10)}
SIZE = 1200  # entries of "a", in which shares are counted
WORK = """
import json, sys
import numpy as np, torch
from mergekit import merge_methods
arrays, found = np.load(sys.argv[1]), {}
for name, (method, parameters, used, base) in json.loads(sys.argv[3]).items():
  models = {m: {p: torch.from_numpy(arrays[f"{m}/{p}"]) for p in "abc"}
            for m in used}
  torch.manual_seed(0)
  merged = merge_methods.merge_state_dicts(
    models, method, parameters=parameters, base=base)
  found |= {f"{name}/{p}": x.numpy() for p, x in merged.items()}
np.savez(sys.argv[2], **found)
"""
ALL, ONE = ("base", "0", "1", "2"), ("base", "0")
CUT = {"weight": 1.0, "density": 0.3}
CASES = {
  "linear": ("linear", {"weight": 1.0}, ALL[1:], None),
  "task_arithmetic": ("task_arithmetic", {"weight": 0.3}, ALL, "base"),
  "slerp": ("slerp", {"t": 0.3}, ONE, "base"),
  "ties": ("ties", CUT, ALL, "base"),
  "breadcrumbs": ("breadcrumbs", CUT | {"gamma": 0.1}, ALL, "base"),
  "breadcrumbs_ties": ("breadcrumbs_ties", CUT | {"gamma": 0.1}, ALL, "base"),
  "dare_ties": ("dare_ties", CUT, ONE, "base"),
  "della_linear": ("della_linear", CUT | {"epsilon": 0.1}, ONE, "base"),
}
OURS = {
  "linear": lambda: ws.merge.linear([1.0] * 3),
  "task_arithmetic": lambda: ws.merge.task_arithmetic(0.3),
  "slerp": lambda: ws.merge.slerp(0.3),
  "ties": lambda: ws.merge.ties(0.3, parity="mergekit"),
  "breadcrumbs": lambda: ws.merge.breadcrumbs(0.3, 0.1, parity="mergekit"),
  "breadcrumbs_ties": lambda: ws.merge.breadcrumbs(
    0.3, 0.1, elect=True, parity="mergekit"
  ),
  "dare_ties": lambda: ws.merge.dare_ties(0.7, parity="mergekit"),
  "della_linear": lambda: ws.merge.della(
    0.3, 0.2, elect=False, parity="mergekit"
  ),
}
DRAWN = ("dare_ties", "della_linear")


def tree(seed):
  rng = np.random.default_rng(seed)
  return {p: rng.normal(size=s).astype(np.float32) for p, s in SHAPES.items()}


BASE = tree(0)
MODELS = {
  str(m): {p: BASE[p] + 0.1 * x for p, x in tree(m + 1).items()}
  for m in range(3)
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
  if subprocess.run([PYTHON, "-c", "import mergekit"], stderr=-3).returncode:
    pytest.skip("mergekit is not installed: set MERGEKIT_PYTHON")
  folder = tmp_path_factory.mktemp("parity")
  trees = MODELS | {"base": BASE}
  arrays = {f"{m}/{p}": x for m, t in trees.items() for p, x in t.items()}
  np.savez(folder / "in.npz", **arrays)
  command = [PYTHON, "-c", WORK, folder / "in.npz", folder / "out.npz"]
  offline = os.environ | {"HF_HUB_OFFLINE": "1"}
  offline.pop("PYTHONPATH", None)
  subprocess.run([*command, json.dumps(CASES)], check=True, env=offline)
  found = np.load(folder / "out.npz")
  return {n: {p: found[f"{n}/{p}"] for p in SHAPES} for n in CASES}


@functools.cache
def ours(name):
  used = CASES[name][2]
  names = used if name == "slerp" else [m for m in used if m != "base"]
  stack = ws.stack([(MODELS | {"base": BASE})[m] for m in names])
  recipe = OURS[name]()
  inputs = {"base": BASE, "key": jax.random.key(0)}
  return recipe(stack, **{n: inputs[n] for n in recipe.needs})


@pytest.mark.parametrize("name", [n for n in CASES if n not in DRAWN])
def test_presets_are_mergekits_numbers(name, theirs):
  for path, x in ours(name).items():
    np.testing.assert_allclose(
      x, theirs[name][path], rtol=1e-5, atol=2e-6, err_msg=path
    )


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_presets_keep_as_many_and_restore_the_norm(name, theirs):
  """Masks differ; the share that is kept and the L1 norm do not."""
  whole = np.abs(MODELS["0"]["a"] - BASE["a"]).sum()
  for merged in (ours(name), theirs[name]):
    change = np.asarray(jnp.asarray(merged["a"]) - BASE["a"])
    kept = (np.abs(change) > 1e-6).sum()
    assert abs(kept - 0.3 * SIZE) < 4 * np.sqrt(0.21 * SIZE)
    np.testing.assert_allclose(np.abs(change).sum(), whole, rtol=1e-3)
