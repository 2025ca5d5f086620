"""Merges of checkpoints on a mesh: the in-memory answer, on any layout."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import yaml

import weightspace as ws
from tests import llamas
from tests.merge.files import test_streaming as test_stream
from weightspace import checkpoints
from weightspace.cli import command

ROOT = pathlib.Path(__file__).parents[3]
WORKER = """
import sys
import jax
port, process, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(f"localhost:{port}", 2, process)
import weightspace as ws
from weightspace.cli import command
auto = (jax.sharding.AxisType.Auto,) * 2
mesh = jax.make_mesh((2, 2), ("model", "data"), axis_types=auto)
paths = [f"{folder}/{n}.safetensors" for n in range(3)]
ws.merge.on_mesh(
  ws.merge.ties(0.4, scale=0.7), paths[1:], f"{folder}/out", paths[0], mesh=mesh
)
"""


def mesh_of(shape, names):
  auto = (jax.sharding.AxisType.Auto,) * len(names)
  return jax.make_mesh(shape, names, axis_types=auto)


@pytest.mark.parametrize(
  "shape, names",
  [((8,), ("data",)), ((2, 2), ("model", "data")), ((2,), ("model",))],
)
@pytest.mark.parametrize("name", ["linear", "ties", "dare", "transfer"])
def test_a_mesh_gives_the_merge_in_memory(tmp_path, shape, names, name):
  hyper = {
    "linear": {"weights": [1.0, 3.0]},
    "ties": {"density": 0.4},
    "dare": {"rate": 0.5},
    "transfer": {},
  }[name]
  recipe = ws.merge.RECIPES[name](**hyper)
  start, *models = test_stream.saved(tmp_path, 2)
  key = test_stream.KEY if name == "dare" else None
  base = start if "base" in recipe.needs else None
  given = {"target": start} if name == "transfer" else {}
  out = tmp_path / "out"
  ws.merge.on_mesh(
    recipe, models, out, base, mesh=mesh_of(shape, names), key=key, **given
  )
  trees = {n: checkpoints.restore(path) for n, path in given.items()}
  tree = base and checkpoints.restore(base)
  stack = test_stream.stacked(models)
  test_stream.close(
    test_stream.read(out), recipe(stack, base=tree, key=key, **trees)
  )


def test_what_is_read_is_laid_out_as_asked(tmp_path):
  _, *models = test_stream.saved(tmp_path, 2)
  seen = []

  def spec(path, shape):
    seen.append(path)
    return jax.P("data") if path == "layer.0.bias" else jax.P()

  mesh = mesh_of((3,), ("data",))
  out = tmp_path / "out"
  ws.merge.on_mesh(ws.merge.uniform(), models, out, mesh=mesh, spec=spec)
  assert set(seen) == set(test_stream.KINDS)


def test_bad_input_is_named(tmp_path):
  start, *models = test_stream.saved(tmp_path, 2)
  mesh = mesh_of((2,), ("data",))
  uniform = ws.merge.uniform()
  with pytest.raises(ValueError, match="exists, expected a new path"):
    ws.merge.on_mesh(uniform, models, tmp_path, mesh=mesh)
  with pytest.raises(ValueError, match="needs base="):
    ws.merge.on_mesh(ws.merge.ties(0.2), models, tmp_path / "o", mesh=mesh)
  tree = test_stream.drawn(1)
  tree["embed"][0] = np.nan
  checkpoints.save(models[1], tree, overwrite=True)
  with pytest.raises(ValueError, match="inputs: NaN in 'embed'"):
    ws.merge.on_mesh(uniform, models, tmp_path / "o", mesh=mesh)
  tree = test_stream.drawn(0)
  tree["scale"] = np.float32("nan")
  checkpoints.save(start, tree, overwrite=True)
  with pytest.raises(ValueError, match="base: NaN in 'scale'"):
    ws.merge.on_mesh(
      ws.merge.ties(0.2), models[:1], tmp_path / "o", start, mesh=mesh
    )
  assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_two_processes_merge_together(tmp_path):
  start, *models = test_stream.saved(tmp_path, 2)
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
  workers = [
    subprocess.Popen(
      [sys.executable, "-c", WORKER, str(port), str(n), str(tmp_path)],
      env=env,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for n in range(2)
  ]
  for worker in workers:
    said, _ = worker.communicate(timeout=120)
    assert worker.returncode == 0, said
  recipe = ws.merge.ties(0.4, scale=0.7)
  wanted = recipe(test_stream.stacked(models), base=checkpoints.restore(start))
  test_stream.close(test_stream.read(tmp_path / "out"), wanted)


def test_filters_and_dtypes_are_those_of_the_streamed_merge(
  tmp_path, monkeypatch, capsys
):
  """Each group of leaves has a recipe of its own, on a mesh too."""
  monkeypatch.chdir(tmp_path)
  base = llamas.leaves(0)
  for seed, name in enumerate(("base", "a", "b")):
    found = llamas.leaves(seed, near=base) if seed else base
    llamas.write(tmp_path / name, found)
  weight = [{"filter": "mlp", "value": 0.25}, {"value": [0.5, 1.0]}]
  models = [{"model": "a", "parameters": {"weight": weight}}, {"model": "b"}]
  config = {"merge_method": "task_arithmetic", "base_model": "base"}
  config |= {"models": models, "parameters": {"weight": 0.5}}
  config |= {"out_dtype": "bfloat16"}
  (tmp_path / "c.yml").write_text(yaml.safe_dump(config))
  assert command.main(["c.yml", "streamed", "--quiet"]) == 0
  assert command.main(["c.yml", "meshed", "--mesh", "data=2"]) == 0
  one, other = map(ws.checkpoints.open, ("streamed", "meshed"))
  assert sorted(one.keys()) == sorted(other.keys())
  for name in one.keys():
    x, y = (reader.read(name) for reader in (one, other))
    assert x.dtype == y.dtype == llamas.BF16
    x, y = x.astype(np.float32), y.astype(np.float32)
    np.testing.assert_allclose(x, y, rtol=2**-7, atol=1e-6)
  texts = [
    (tmp_path / out / "config.json").read_text()
    for out in ("streamed", "meshed")
  ]
  assert texts[0] == texts[1]
  assert "task_arithmetic" in (tmp_path / "meshed/README.md").read_text()
  words = ["c.yml", "third", "--mesh", "data=2", "--max-memory", "1GB"]
  assert command.main(words) == 1
  assert "--max-memory: not with --mesh" in capsys.readouterr().err
