"""Families of tiny models: merged folders load in transformers, every leaf.

Each family is made and saved by transformers, in whole files and in shards,
merged here, and loaded again; the loaded parameters are the merge by torch.
"""

import json

import pytest
import yaml

from tests import peers
from weightspace.cli import command

pytestmark = pytest.mark.engines

SIZES = """
import sys, json, pathlib, torch, transformers as t
torch.set_num_threads(1)
small = dict(vocab_size=32, hidden_size=16, intermediate_size=24,
  num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=32)
kv = small | dict(num_key_value_heads=2)
gpt2 = dict(vocab_size=32, n_positions=32, n_embd=16, n_layer=2, n_head=4)
t5 = dict(vocab_size=32, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4)
MODELS = {
  "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**kv)),
  "qwen2": lambda: t.Qwen2ForCausalLM(
    t.Qwen2Config(**kv, tie_word_embeddings=True)),
  "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**kv)),
  "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**gpt2)),
  "neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**small)),
  "bert": lambda: t.BertForMaskedLM(t.BertConfig(**small)),
  "mixtral": lambda: t.MixtralForCausalLM(
    t.MixtralConfig(**kv, num_local_experts=4)),
  "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(**t5)),
}
root = pathlib.Path(sys.argv[1])
"""
MADE = (
  SIZES
  + """
for family, make in MODELS.items():
  torch.manual_seed(0)
  model = make()
  model.save_pretrained(root / family / "base")
  for name, size in (("a", "1GB"), ("b", "8KB")):
    with torch.no_grad():
      for p in model.parameters():
        p.add_(0.05 * torch.randn(p.shape))
    model.save_pretrained(root / family / name, max_shard_size=size)
"""
)
CHECKED = (
  SIZES
  + """
found = {}
for family, make in MODELS.items():
  kind = type(make())
  def state(name):
    model, info = kind.from_pretrained(
      root / family / name, output_loading_info=True, dtype=torch.float32)
    lost = list(info["missing_keys"]) + list(info["unexpected_keys"])
    return model.state_dict(), lost
  base, a, b = (state(name)[0] for name in ("base", "a", "b"))
  for method in sys.argv[2:]:
    got, lost = state(method)
    far = 0.0
    for name, x in got.items():
      if method == "linear":
        want = 0.25 * a[name] + 0.75 * b[name]
      else:
        want = base[name] + 0.5 * (a[name] + b[name] - 2 * base[name])
      if x.is_floating_point():
        far = max(far, (x - want).abs().max().item())
    found[f"{family} {method}"] = [far, lost]
print(json.dumps(found))
"""
)
METHODS = ("linear", "task_arithmetic")


@pytest.fixture(autouse=True)
def needed():
  peers.need("torch", "transformers")


def test_families_are_merged_and_load(tmp_path):
  peers.run(MADE, tmp_path)
  families = sorted(path.name for path in tmp_path.iterdir())
  assert len(families) == 8
  for family in families:
    for method in METHODS:
      at = tmp_path / family
      weights = (0.25, 0.75) if method == "linear" else (0.5, 0.5)
      models = [
        {"model": str(at / name), "parameters": {"weight": weight}}
        for name, weight in zip("ab", weights)
      ]
      config = {"merge_method": method, "models": models}
      if method != "linear":
        config["base_model"] = str(at / "base")
      file = at / f"{method}.yml"
      file.write_text(yaml.safe_dump(config))
      assert command.main([str(file), str(at / method), "--quiet"]) == 0
  found = json.loads(peers.run(CHECKED, tmp_path, *METHODS).splitlines()[-1])
  assert len(found) == 16
  for name, (far, lost) in found.items():
    assert far < 1e-6 and not lost, (name, far, lost)
