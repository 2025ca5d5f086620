"""Adapters that stay adapters: files of a basis, and back."""

import json
import os

import numpy as np
import pytest
import yaml

from tests import llamas
from weightspace import checkpoints, merge
from weightspace.checkpoints import writers
from weightspace.cli import command
from weightspace.cli.inputs import adapters
from weightspace.merge.files import reversible

RANK, COUNT = 3, 4
SHAPES = {
  "model.layers.0.self_attn.q_proj.lora_A.weight": (RANK, 8),
  "model.layers.0.self_attn.q_proj.lora_B.weight": (8, RANK),
  "model.embed_tokens.lora_embedding_A": (RANK, 10),
  "model.embed_tokens.lora_embedding_B": (8, RANK),
}


def factors(seed, rank=RANK, dtype=np.float32):
  rng = np.random.default_rng(seed)
  return {
    f"base_model.model.{name}": rng.standard_normal(
      [rank if size == RANK else size for size in shape]
    ).astype(dtype)
    for name, shape in SHAPES.items()
  }


def write(path, found, **settings):
  kinds = {name: (x.shape, x.dtype) for name, x in found.items()}
  writer = writers.begin(path, kinds, stem="adapter_model")
  for name, x in found.items():
    writer.write(name, x)
  told = {"peft_type": "LORA", "r": RANK, "lora_alpha": 6} | settings
  writer.finish({"adapter_config.json": json.dumps(told)})
  return str(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for seed in range(COUNT):
    write(tmp_path / f"lora{seed}", factors(seed), lora_alpha=6 + seed)
  return tmp_path


def config(**keys):
  models = [{"model": f"lora{seed}"} for seed in range(COUNT)]
  found = {"recipe": "rmm", "models": models, "parameters": {"basis": 2}}
  return found | keys


def run(folder, found, out, *options):
  (folder / "config.yml").write_text(yaml.safe_dump(found))
  return command.main(["config.yml", out, *options])


def back(folder, model):
  out = f"back{model}"
  found = {"recipe": "reconstruct", "models": [{"model": "kept"}]}
  assert run(folder, found | {"parameters": {"model": model}}, out) == 0
  reader = checkpoints.open(folder / out / "adapter_model.safetensors")
  return {name: reader.read(name) for name in reader.keys()}


@pytest.mark.parametrize("scope", ["position", "layer"])
@pytest.mark.parametrize("basis", [1, 2, 4])
def test_files_hold_what_rmm_gives_and_every_adapter_comes_back(
  folder, basis, scope
):
  numbers = {"basis": basis, "scope": scope}
  assert run(folder, config(parameters=numbers), "kept") == 0
  trees = [factors(seed) for seed in range(COUNT)]
  stack = {name: np.stack([tree[name] for tree in trees]) for name in trees[0]}
  wanted = merge.rmm(basis, scope, reversible.rank_axis)(stack)
  reader = checkpoints.open(folder / "kept")
  for name in stack:
    for what in ("basis", "coefficients", "lost"):
      np.testing.assert_array_equal(
        reader.read(f"{name}.{what}"), getattr(wanted, what)[name]
      )
  found = [back(folder, model) for model in range(COUNT)]
  for name, x in stack.items():
    error = sum(((tree[name] - y) ** 2).sum() for tree, y in zip(found, x))
    lost = reader.read(f"{name}.lost")
    np.testing.assert_allclose(error, lost, rtol=1e-4, atol=1e-8)
    if basis == RANK + 1:
      assert lost < 1e-9  # nothing is lost from the rank, or M, on


def test_the_rank_is_the_axis_that_peft_says(folder):
  """A rotation of a model's rank space is one coefficient matrix per row."""
  assert run(folder, config(parameters={"basis": 1}), "kept") == 0
  reader = checkpoints.open(folder / "kept")
  q = "base_model.model.model.layers.0.self_attn.q_proj"
  assert reader.shape(f"{q}.lora_A.weight.coefficients") == (1, 8, 1, COUNT)
  assert reader.shape(f"{q}.lora_B.weight.coefficients") == (8, 1, 1, COUNT)


def test_an_adapter_that_came_back_merges_into_its_base(folder):
  base = checkpoints.open(llamas.write(folder / "base", llamas.leaves(0)))
  assert run(folder, config(parameters={"basis": 4}), "kept") == 0
  back(folder, 2)
  was = adapters.merged(base, str(folder / "lora2"))
  now = adapters.merged(base, str(folder / "back2"))
  for name in base.keys():
    np.testing.assert_allclose(now.read(name), was.read(name), atol=1e-4)
  told = json.loads((folder / "back2/adapter_config.json").read_text())
  assert told["lora_alpha"] == 8
  card = (folder / "kept/README.md").read_text()
  assert card.count("adapter_model.safetensors") == COUNT


def test_half_precision_adapters_are_kept_in_float32(folder):
  for seed in range(2):
    write(folder / f"half{seed}", factors(seed, dtype=np.float16))
  models = [{"model": f"half{seed}"} for seed in range(2)]
  assert run(folder, config(models=models), "kept") == 0
  for name, x in back(folder, 1).items():
    assert x.dtype == np.float32
    wanted = factors(1, dtype=np.float16)[name]
    np.testing.assert_allclose(x, wanted, atol=1e-5)


def test_a_killed_run_goes_on_to_the_same_bytes(folder, monkeypatch):
  assert run(folder, config(), "whole") == 0
  written, put = [], writers.Writer.write

  def stop(self, key, leaf):
    put(self, key, leaf)
    written.append(key)
    if len(written) == 5:
      raise KeyboardInterrupt

  monkeypatch.setattr(writers.Writer, "write", stop)
  assert run(folder, config(), "kept") == command.INTERRUPTED
  assert not os.path.exists("kept")
  assert run(folder, config(), "kept") == 0
  assert len(written) < 5 + 3 * len(SHAPES)
  one, other = (
    (folder / name / "adapter_basis.safetensors").read_bytes()
    for name in ("whole", "kept")
  )
  assert one == other


@pytest.mark.parametrize(
  "found, match",
  [
    (config(parameters={}), "basis is None, expected a whole number"),
    (config(parameters={"basis": 0}), "rmm: basis is 0"),
    (config(parameters={"basis": 1, "p": 1}), "'rmm' has no parameter 'p'"),
    (config(parameters={"basis": 1, "scope": "x"}), "rmm: scope is 'x'"),
    (config(base_model="base"), "takes adapters alone, got base_model"),
    (config(dtype="float16"), "takes adapters alone, got dtype"),
    (config(models=[{"model": "base"}]), "is no adapter, expected LORA"),
    (config(models=[{"model": "lora0"}, {"model": "rank"}]), "expected (3, 8)"),
    (config(models=[{"model": "lora0"}, {"model": "nan"}]), "NaN in 'base_mod"),
    (
      config(models=[{"model": "lora0", "parameters": {"weight": 1}}]),
      "takes 'lora0' whole, without parameters",
    ),
    (
      config(recipe="reconstruct", parameters={"model": 0}),
      "takes one folder of rmm, got 4",
    ),
    (
      config(
        recipe="reconstruct",
        models=[{"model": "lora0"}],
        parameters={"model": 0},
      ),
      "adapters.json' is missing, expected a folder of rmm",
    ),
    (
      config(
        recipe="reconstruct",
        models=[{"model": "kept"}],
        parameters={"model": 4},
      ),
      "model 4, expected 0 to 3",
    ),
  ],
)
def test_what_is_wrong_is_one_line(folder, capsys, found, match):
  llamas.write(folder / "base", llamas.leaves(0))
  write(folder / "rank", factors(9, rank=2))
  bad = factors(9)
  next(iter(bad.values()))[0, 0] = np.nan
  write(folder / "nan", bad)
  assert run(folder, config(), "kept") == 0
  assert run(folder, found, "out") == 1
  said = capsys.readouterr().err
  assert said.startswith("error: ") and said.count("\n") == 1
  assert match in said and not (folder / "out").exists()
