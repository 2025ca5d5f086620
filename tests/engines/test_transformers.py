"""Merged folders load in transformers and give the logits they should."""

import os
import shutil

import jax
import numpy as np
import pytest
import yaml

import weightspace as ws
from tests import llamas, peers
from weightspace import checkpoints
from weightspace.cli import command
from weightspace.cli.inputs import references

pytestmark = pytest.mark.engines

LOGITS = """
import sys, numpy, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
tokens = torch.tensor(numpy.load(sys.argv[2]))
with torch.no_grad():
  numpy.save(sys.argv[3], model(tokens).logits.numpy())
"""
MADE = """
import sys, torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
torch.manual_seed(0)
config = LlamaConfig(
  vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=3,
  num_attention_heads=4, num_key_value_heads=2, head_dim=8,
  rope_theta=500.0, rms_norm_eps=1e-5, tie_word_embeddings=sys.argv[2] == "1",
  initializer_range=0.3)
LlamaForCausalLM(config).save_pretrained(sys.argv[1])
"""
ADAPTED = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
config = LoraConfig(
  r=2, lora_alpha=5, target_modules=["q_proj", "down_proj", "embed_tokens"],
  init_lora_weights=False, use_rslora=sys.argv[4] == "1",
  modules_to_save=["lm_head"])
model = get_peft_model(model, config)
model.save_pretrained(sys.argv[2])
model.merge_and_unload().save_pretrained(sys.argv[3])
"""
TOKENS = np.array([[1, 5, 2, 7, 3, 9]])


@pytest.fixture(autouse=True)
def needed():
  peers.need("torch", "transformers")


def logits(folder, tmp_path):
  """What transformers computes."""
  given, out = tmp_path / "tokens.npy", tmp_path / "logits.npy"
  np.save(given, TOKENS)
  peers.run(LOGITS, folder, given, out)
  return np.load(out)


def ours(leaves, config):
  """What the language model of this library computes."""
  model = ws.models.build("lm", **ws.models.llama_hyper(config))
  return model.apply(ws.models.from_llama(leaves, config), TOKENS)


@pytest.mark.parametrize("tied", [False, True])
def test_a_llama_of_transformers_is_ours(tmp_path, tied):
  peers.run(MADE, tmp_path / "llama", int(tied))
  config = references.table(str(tmp_path / "llama"), "config.json")
  reader = checkpoints.open(tmp_path / "llama")
  expected = logits(tmp_path / "llama", tmp_path)
  np.testing.assert_allclose(ours(reader, config), expected, atol=2e-5)
  assert expected.std() > 0.1


def test_a_merged_folder_loads_and_is_the_merge_by_hand(tmp_path):
  base = llamas.leaves(0)
  tuned = [llamas.leaves(seed, near=base) for seed in (1, 2)]
  tokens = [f"w{i}" for i in range(llamas.VOCAB)]
  for name, found in {"base": base, "a": tuned[0], "b": tuned[1]}.items():
    llamas.write(tmp_path / name, found, tokens=tokens)
  config = {
    "merge_method": "task_arithmetic",
    "base_model": str(tmp_path / "base"),
    "models": [{"model": str(tmp_path / name)} for name in "ab"],
    "parameters": {"weight": 0.7},
  }
  file, out = tmp_path / "config.yml", tmp_path / "out"
  file.write_text(yaml.safe_dump(config))
  assert command.main([str(file), str(out), "--quiet"]) == 0
  hand = jax.tree.map(lambda x, a, b: 0.7 * (a + b - x) + 0.3 * x, base, *tuned)
  found = logits(out, tmp_path)
  assert np.isfinite(found).all()
  np.testing.assert_allclose(found, ours(hand, llamas.config()), atol=2e-5)


def test_stacked_layers_load(tmp_path):
  leaves = llamas.leaves(0)
  llamas.write(tmp_path / "a", leaves)
  model = str(tmp_path / "a")
  config = {
    "merge_method": "passthrough",
    "slices": [
      {"sources": [{"model": model, "layer_range": [0, 2]}]},
      {"sources": [{"model": model, "layer_range": [0, 2]}]},
    ],
  }
  file, out = tmp_path / "config.yml", tmp_path / "out"
  file.write_text(yaml.safe_dump(config))
  assert command.main([str(file), str(out), "--quiet"]) == 0
  deep = dict(leaves)
  for name in leaves:
    if "layers." in name:
      number = int(name.split(".")[2])
      deep[name.replace(f".{number}.", f".{number + 2}.")] = leaves[name]
  expected = ours(deep, llamas.config(layers=4))
  np.testing.assert_allclose(logits(out, tmp_path), expected, atol=2e-5)


@pytest.mark.parametrize("rslora", [0, 1])
def test_an_adapter_of_peft_merges_as_peft_does(tmp_path, rslora):
  peers.need("peft")
  base = llamas.write(tmp_path / "base", llamas.leaves(0))
  lora, whole = tmp_path / "lora", tmp_path / "whole"
  peers.run(ADAPTED, base, lora, whole, rslora)
  config = {"merge_method": "passthrough"}
  config |= {"models": [{"model": f"{base}+{lora}"}]}
  file, out = tmp_path / "config.yml", tmp_path / "out"
  file.write_text(yaml.safe_dump(config))
  assert command.main([str(file), str(out), "--quiet"]) == 0
  found, expected = llamas.read(out), llamas.read(whole)
  for name in found:
    np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
  changed = (
    found["model.embed_tokens.weight"]
    - llamas.leaves(0)["model.embed_tokens.weight"]
  )
  assert np.abs(changed).max() > 0.1


FORWARD = """
import sys, torch
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1], dtype=torch.float32)
out = model(torch.tensor([[1, 2, 3, 4]])).last_hidden_state
print(bool(torch.isfinite(out).all()))
"""


def test_a_folder_of_the_users_own(tmp_path):
  """WEIGHTSPACE_CHECKPOINT: say, a BERT; merged with a copy of itself."""
  given = os.environ.get("WEIGHTSPACE_CHECKPOINT")
  if not given:
    pytest.skip("WEIGHTSPACE_CHECKPOINT names no folder")
  shutil.copytree(given, tmp_path / "copy")
  models = [{"model": given}, {"model": str(tmp_path / "copy")}]
  config = {"merge_method": "linear", "models": models}
  file, out = tmp_path / "config.yml", tmp_path / "out"
  file.write_text(yaml.safe_dump(config | {"parameters": {"weight": 1}}))
  assert command.main([str(file), str(out), "--quiet"]) == 0
  found, expected = llamas.read(out), llamas.read(given)
  for name in found:
    np.testing.assert_allclose(found[name], expected[name], rtol=2**-7)
  assert peers.run(FORWARD, out).strip() == "True"
