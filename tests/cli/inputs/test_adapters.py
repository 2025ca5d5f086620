"""LoRA adapters in the peft layout, merged into their base as it is read."""

import json
import re

import numpy as np
import pytest
import yaml

from tests import llamas
from weightspace import checkpoints
from weightspace.checkpoints import writers
from weightspace.cli import command
from weightspace.cli.inputs import adapters

BASE = llamas.leaves(0)
RANK = 2


def write(path, factors, **settings):
  """Write an adapter's folder."""
  kinds = {name: (x.shape, x.dtype) for name, x in factors.items()}
  writer = writers.begin(path, kinds)
  for name, x in factors.items():
    writer.write(name, x)
  told = {"peft_type": "LORA", "r": RANK, "lora_alpha": 6} | settings
  writer.finish({"adapter_config.json": json.dumps(told)})
  (path / "model.safetensors").rename(path / "adapter_model.safetensors")
  return path


def pair(module, seed, rows, columns, name="lora_{}.weight"):
  rng = np.random.default_rng(seed)
  a = rng.standard_normal((RANK, columns)).astype(np.float32)
  b = rng.standard_normal((rows, RANK)).astype(np.float32)
  at = f"base_model.model.{module}."
  return {at + name.format("A"): a, at + name.format("B"): b}, b @ a


QUERY = "model.layers.1.self_attn.q_proj"


@pytest.fixture
def base(tmp_path):
  return checkpoints.open(llamas.write(tmp_path / "base", BASE))


@pytest.mark.parametrize(
  "settings, scale",
  [
    ({}, 3.0),
    ({"use_rslora": True}, 6 / 2**0.5),
    ({"alpha_pattern": {"q_proj": 1}}, 0.5),
  ],
)
def test_a_product_is_added_where_it_belongs(base, tmp_path, settings, scale):
  factors, product = pair(QUERY, 1, 8, 8)
  adapter = write(tmp_path / "lora", factors, **settings)
  reader = adapters.merged(base, str(adapter))
  name = f"{QUERY}.weight"
  expected = BASE[name] + scale * product
  np.testing.assert_allclose(reader.read(name), expected, atol=1e-5)
  rows = reader.read(name, slice(2, 5))
  np.testing.assert_allclose(rows, expected[2:5], atol=1e-5)
  part = reader.read(name, (slice(2, 5), slice(0, 3)))
  np.testing.assert_allclose(part, expected[2:5, :3], atol=1e-5)
  np.testing.assert_array_equal(
    reader.read("lm_head.weight"), BASE["lm_head.weight"]
  )


def test_embeddings_and_saved_modules(base, tmp_path):
  embed, head = "model.embed_tokens", "base_model.model.lm_head."
  factors, product = pair(
    embed, 2, llamas.WIDTH, llamas.VOCAB, "lora_embedding_{}"
  )
  saved = np.ones((llamas.VOCAB, llamas.WIDTH), np.float32)
  factors |= {f"{head}modules_to_save.weight": saved}
  reader = adapters.merged(base, str(write(tmp_path / "lora", factors)))
  name = f"{embed}.weight"
  expected = BASE[name] + 3 * product.T
  np.testing.assert_allclose(reader.read(name), expected, atol=1e-5)
  np.testing.assert_array_equal(reader.read("lm_head.weight"), saved)


def test_kernels_of_the_other_orientation(base, tmp_path):
  factors, product = pair("model.layers.0.mlp.up_proj", 3, 8, 12)
  adapter = write(tmp_path / "lora", factors, fan_in_fan_out=True)
  name = "model.layers.0.mlp.up_proj.weight"
  got = adapters.merged(base, str(adapter)).read(name)
  np.testing.assert_allclose(got, BASE[name] + 3 * product.T, atol=1e-5)


@pytest.mark.parametrize(
  "change, settings, match",
  [
    ({}, {"peft_type": "IA3"}, "is IA3, expected LORA"),
    ({}, {"use_dora": True}, "'use_dora': DoRA is not supported"),
    ({"module": "model.layers.9.q"}, {}, "changes 'model.layers.9.q.weight'"),
    ({"rows": 5}, {}, "factors (2, 8) and (5, 2) of"),
  ],
)
def test_what_is_no_lora_of_the_base(base, tmp_path, change, settings, match):
  given = {"module": QUERY, "seed": 1, "rows": 8, "columns": 8} | change
  factors, _ = pair(**given)
  adapter = write(tmp_path / "lora", factors, **settings)
  with pytest.raises(ValueError, match=re.escape(match)):
    adapters.merged(base, str(adapter))


def test_half_an_adapter_is_refused(base, tmp_path):
  factors, _ = pair(QUERY, 1, 8, 8)
  factors.popitem()
  adapter = write(tmp_path / "lora", factors)
  with pytest.raises(ValueError, match=r"has \['A'\] of A, B"):
    adapters.merged(base, str(adapter))


def test_two_adapters_of_one_base_merge(base, tmp_path):
  """The base, and the base with either adapter, are three models."""
  products, names = [], []
  for seed in (4, 5):
    factors, product = pair(QUERY, seed, 8, 8)
    names.append(str(write(tmp_path / f"lora{seed}", factors)))
    products.append(product)
  models = [{"model": f"{base.path}+{name}"} for name in names]
  config = {
    "merge_method": "task_arithmetic",
    "base_model": base.path,
    "models": models,
    "parameters": {"weight": 0.5},
  }
  file, out = tmp_path / "config.yml", tmp_path / "out"
  file.write_text(yaml.safe_dump(config))
  assert command.main([str(file), str(out), "--quiet"]) == 0
  merged = llamas.read(out)
  for name in BASE:
    change = 1.5 * sum(products) if QUERY in name else 0
    np.testing.assert_allclose(merged[name], BASE[name] + change, atol=1e-5)
  card = (out / "README.md").read_text()
  assert card.count("adapter_model.safetensors") == 2


def test_adapters_alone_are_no_models(tmp_path, capsys):
  """Factors averaged apart have cross terms, and a weight counts twice."""
  for seed, name in enumerate(("one", "two")):
    write(tmp_path / name, pair(QUERY, seed, 8, 8)[0])
  models = [{"model": str(tmp_path / name)} for name in ("one", "two")]
  file = tmp_path / "c.yml"
  parameters = {"weight": -1.0, "normalize": False}
  config = {"merge_method": "linear", "models": models}
  file.write_text(yaml.safe_dump(config | {"parameters": parameters}))
  assert command.main([str(file), str(tmp_path / "out"), "--quiet"]) != 0
  said = capsys.readouterr().err
  assert "an adapter alone" in said and "BASE+" in said
  assert not (tmp_path / "out").exists()
