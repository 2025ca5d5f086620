"""Models whose savers wrote other names, tied leaves, buffers and heads."""

import json

import numpy as np
import pytest
import yaml

from tests import llamas
from weightspace import checkpoints
from weightspace.cli import command
from weightspace.cli.inputs import disagreements, naming, tied

BASE = llamas.leaves(0)
TUNED = [llamas.leaves(seed, near=BASE) for seed in (1, 2)]
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
RECIPES = [
  {"merge_method": "linear"},
  {"merge_method": "task_arithmetic"},
  {"merge_method": "ties", "density": 0.5},
  {"merge_method": "dare_ties", "density": 0.5},
  {"merge_method": "slerp"},
]


def write(path, leaves, **settings):
  llamas.write(path, leaves)
  file = path / "config.json"
  found = json.loads(file.read_text()) | settings
  file.write_text(json.dumps(found))
  return path


def merge(at, config, *words):
  file, out = at / "c.yml", at / "out"
  file.write_text(yaml.safe_dump(config))
  code = command.main([str(file), str(out), "--quiet", *words])
  return out if code == 0 else None


def config_of(at, recipe, *names, base="base", **more):
  density = recipe.get("density")
  found = {k: v for k, v in recipe.items() if k != "density"}
  each = {"weight": 0.5} | ({"density": density} if density else {})
  if found["merge_method"] == "slerp":
    found |= {"base_model": str(at / names[0]), "parameters": {"t": 0.5}}
    each = {}
  elif base and found["merge_method"] != "linear":
    found["base_model"] = str(at / base)
  models = [{"model": str(at / n), "parameters": each} for n in names]
  return found | {"models": models} | more


def tied_leaves(leaves, stored):
  found = {k: v for k, v in leaves.items() if k not in (EMBED, HEAD)}
  return found | {name: leaves[EMBED] for name in stored}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r["merge_method"])
@pytest.mark.parametrize(
  "stored", [(EMBED,), (EMBED, HEAD)], ids=["once", "twice"]
)
@pytest.mark.parametrize("other", [(EMBED,), (EMBED, HEAD)], ids=["1", "2"])
def test_tied_leaves_are_one(tmp_path, recipe, stored, other):
  """However each model stores them, the merge is that of one leaf."""
  for name, leaves, form in (
    ("base", BASE, stored),
    ("a", TUNED[0], stored),
    ("b", TUNED[1], other),
  ):
    where = tmp_path / name
    write(where, tied_leaves(leaves, form), tie_word_embeddings=True)
  out = merge(tmp_path, config_of(tmp_path, recipe, "a", "b"))
  merged = llamas.read(out)
  assert set(merged) == set(tied_leaves(BASE, stored))
  if len(stored) == 2:
    np.testing.assert_array_equal(merged[EMBED], merged[HEAD])
  assert json.loads((out / "config.json").read_text())["tie_word_embeddings"]
  # The same as where every model stores it once.
  for name, leaves in (("base", BASE), ("a", TUNED[0]), ("b", TUNED[1])):
    once = tied_leaves(leaves, (EMBED,))
    write(tmp_path / "1" / name, once, tie_word_embeddings=True)
  (tmp_path / "1").mkdir(exist_ok=True)
  alone = merge(tmp_path / "1", config_of(tmp_path / "1", recipe, "a", "b"))
  np.testing.assert_array_equal(llamas.read(alone)[EMBED], merged[EMBED])


@pytest.mark.parametrize("first", ["tied", "apart"])
def test_a_tied_model_with_one_that_is_not(tmp_path, capsys, first):
  tied_one = tied_leaves(TUNED[0], (EMBED,))
  write(tmp_path / "tied", tied_one, tie_word_embeddings=True)
  write(tmp_path / "apart", TUNED[1], tie_word_embeddings=False)
  names = ("tied", "apart") if first == "tied" else ("apart", "tied")
  out = merge(tmp_path, config_of(tmp_path, RECIPES[0], *names))
  merged = llamas.read(out)
  for name in (EMBED, HEAD):
    expected = (TUNED[0][EMBED] + TUNED[1][name]) / 2
    np.testing.assert_allclose(merged[name], expected, 1e-6)
  assert not json.loads((out / "config.json").read_text())[
    "tie_word_embeddings"
  ]
  assert "are one leaf in" in capsys.readouterr().err


@pytest.mark.parametrize(
  "prefix", ["module.", "_orig_mod.", "module._orig_mod."]
)
def test_wrappers_in_names_are_seen_through(tmp_path, prefix):
  write(tmp_path / "a", TUNED[0])
  wrapped = {f"{prefix}{n}": x for n, x in TUNED[1].items()}
  found = {n: (x.shape, x.dtype) for n, x in wrapped.items()}
  stored(tmp_path / "b", wrapped, found)
  out = merge(tmp_path, config_of(tmp_path, RECIPES[0], "a", "b"))
  for name, x in llamas.read(out).items():
    np.testing.assert_allclose(x, (TUNED[0][name] + TUNED[1][name]) / 2, 1e-6)


def stored(path, leaves, kinds=None, **settings):
  from weightspace.checkpoints import writers

  kinds = kinds or {n: (x.shape, x.dtype) for n, x in leaves.items()}
  writer = writers.begin(path, kinds)
  for name, x in leaves.items():
    writer.write(name, x)
  text = {"config.json": json.dumps(settings)} if settings else {}
  writer.finish(text)
  return path


def bert(seed, head=False, buffers=False):
  rng = np.random.default_rng(seed)
  body = {
    "embeddings.word_embeddings.weight": rng.normal(size=(8, 4)),
    "encoder.layer.0.attention.self.query.weight": rng.normal(size=(4, 4)),
    "encoder.layer.0.output.dense.weight": rng.normal(size=(4, 4)),
  }
  if head:
    body = {f"bert.{n}": x for n, x in body.items()}
    body["classifier.weight"] = rng.normal(size=(2, 4))
  found = {n: x.astype(np.float32) for n, x in body.items()}
  if buffers:
    found["embeddings.position_ids"] = np.arange(8)[None]
  return found


def test_a_head_follows_the_rule_and_the_body_is_merged(tmp_path, capsys):
  whole, body = bert(1, head=True), bert(2)
  stored(tmp_path / "a", whole, model_type="bert")
  stored(tmp_path / "b", body, model_type="bert")
  config = config_of(tmp_path, RECIPES[0], "a", "b")
  assert merge(tmp_path, config) is None
  said = capsys.readouterr().err
  assert "'classifier.weight'" in said and "missing: base" in said
  out = merge(tmp_path, config | {"missing": "first"})
  merged = llamas.read(out)
  assert set(merged) == set(whole)
  np.testing.assert_array_equal(
    merged["classifier.weight"], whole["classifier.weight"]
  )
  name = "encoder.layer.0.output.dense.weight"
  expected = (whole[f"bert.{name}"] + body[name]) / 2
  np.testing.assert_allclose(merged[f"bert.{name}"], expected, 1e-6)


@pytest.mark.parametrize("rule", ["skip", "base"])
def test_other_rules(tmp_path, rule):
  whole, body = bert(1, head=True), bert(2)
  stored(tmp_path / "base", bert(0, head=True), model_type="bert")
  stored(tmp_path / "a", whole, model_type="bert")
  stored(tmp_path / "b", body, model_type="bert")
  config = config_of(tmp_path, RECIPES[1], "a", "b", missing=rule)
  merged = llamas.read(merge(tmp_path, config))
  head = "classifier.weight"
  assert (head in merged) == (rule == "base")
  if rule == "base":
    start = bert(0, head=True)[head]
    expected = start + 0.5 * (whole[head] - start)
    np.testing.assert_allclose(merged[head], expected, 1e-5, 1e-6)


def test_derived_buffers_need_not_be_in_all_models(tmp_path):
  stored(tmp_path / "a", bert(1), model_type="bert")
  stored(tmp_path / "b", bert(2, buffers=True), model_type="bert")
  out = merge(tmp_path, config_of(tmp_path, RECIPES[0], "a", "b"))
  reader = checkpoints.open(out)
  assert reader.read("embeddings.position_ids").tolist() == [list(range(8))]
  assert reader.dtype("embeddings.position_ids") == np.int64


def test_a_text_model_goes_into_one_that_sees(tmp_path):
  inside = {
    n.replace("model.", "model.language_model.", 1): x
    for n, x in TUNED[0].items()
  }
  eyes = {"model.visual.patch.weight": np.ones((4, 4), np.float32)}
  kind = {"model_type": "sees", "text_config": {"model_type": "llama"}}
  stored(tmp_path / "sees", inside | eyes, **kind)
  write(tmp_path / "text", TUNED[1])
  config = config_of(tmp_path, RECIPES[0], "sees", "text", missing="first")
  merged = llamas.read(merge(tmp_path, config))
  assert set(merged) == set(inside | eyes)
  name = "layers.1.mlp.up_proj.weight"
  expected = (TUNED[0][f"model.{name}"] + TUNED[1][f"model.{name}"]) / 2
  np.testing.assert_allclose(
    merged[f"model.language_model.{name}"], expected, 1e-6
  )


def test_a_map_says_the_rest(tmp_path, capsys):
  other = {f"net.{n}": x for n, x in bert(2).items()}
  other = {n.replace("net.encoder", "net.tower"): x for n, x in other.items()}
  stored(tmp_path / "a", bert(1), model_type="bert")
  stored(tmp_path / "b", other, model_type="bert")
  config = config_of(tmp_path, RECIPES[0], "a", "b")
  assert merge(tmp_path, config) is None
  assert "`map:` renames them" in capsys.readouterr().err
  table = {"net.tower.": "encoder.", "net.": ""}
  said = {str(tmp_path / "b"): table}
  merged = llamas.read(merge(tmp_path, config | {"map": said}))
  name = "encoder.layer.0.output.dense.weight"
  np.testing.assert_allclose(
    merged[name], (bert(1)[name] + bert(2)[name]) / 2, 1e-6
  )
  with pytest.raises(ValueError, match=r"'b\.w' both become"):
    naming.matched(["c.w"], ["a.w", "b.w"], {"a.": "c.", "b.": "c."})


@pytest.mark.parametrize(
  "settings, keys",
  [
    ({"num_attention_heads": 4, "num_key_value_heads": 2}, "num_attention"),
    ({"rope_theta": 1e6}, "rope_theta 10000.0, 1000000.0"),
    ({"rope_parameters": {"rope_theta": 1e6}}, "rope_theta"),
    ({"rms_norm_eps": 1e-3}, "rms_norm_eps"),
  ],
)
def test_configs_that_mean_something_else_are_told(
  tmp_path, capsys, settings, keys
):
  write(tmp_path / "a", TUNED[0])
  write(tmp_path / "b", TUNED[1], **settings)
  assert merge(tmp_path, config_of(tmp_path, RECIPES[0], "a", "b"))
  assert keys in capsys.readouterr().err


def test_other_architectures_are_refused_unless_allowed(tmp_path, capsys):
  write(tmp_path / "a", TUNED[0])
  write(tmp_path / "b", TUNED[1], model_type="mistral")
  config = config_of(tmp_path, RECIPES[0], "a", "b")
  assert merge(tmp_path, config, "--dry-run") is None
  assert "is a llama" in capsys.readouterr().err
  assert merge(tmp_path, config | {"allow": "different configs"})


def test_a_model_unrelated_to_the_base_is_told(tmp_path, capsys):
  write(tmp_path / "base", BASE)
  write(tmp_path / "a", TUNED[0])
  write(tmp_path / "b", llamas.leaves(9))
  assert merge(tmp_path, config_of(tmp_path, RECIPES[1], "a", "b"))
  said = capsys.readouterr().err
  assert said.count("seems unrelated") == 1 and f"{tmp_path}/b" in said


def test_what_configs_may_differ_in():
  same = {"rope_theta": 5.0, "vocab_size": 3, "attention_dropout": 0.1}
  other = {"rope_parameters": {"rope_theta": 5.0}, "vocab_size": 4}
  assert disagreements.differing(same, other | {"attention_dropout": 0}) == []


def test_bert_has_its_bias_under_two_names():
  kinds = {
    "cls.predictions.bias": ((8,), np.dtype("float32")),
    "cls.predictions.decoder.bias": ((8,), np.dtype("float32")),
  }
  assert tied.twins(kinds) == {
    "cls.predictions.decoder.bias": "cls.predictions.bias"
  }


@pytest.mark.parametrize("kept", ["embed_tokens", "lm_head"])
def test_a_kept_module_unties_its_model(tmp_path, kept):
  """peft gives it a copy: what was tied to it stays as it was."""
  once = tied_leaves(BASE, (EMBED,))
  write(tmp_path / "base", once, tie_word_embeddings=True)
  new = TUNED[0][EMBED]
  where = "model.embed_tokens" if kept == "embed_tokens" else "lm_head"
  saved = {f"base_model.model.{where}.weight": new}
  query = "base_model.model.model.layers.0.self_attn.q_proj"
  rng = np.random.default_rng(0)
  saved[f"{query}.lora_A.weight"] = rng.normal(size=(2, 8)).astype(np.float32)
  saved[f"{query}.lora_B.weight"] = rng.normal(size=(8, 2)).astype(np.float32)
  stored(tmp_path / "adapter", saved)
  (tmp_path / "adapter" / "model.safetensors").rename(
    tmp_path / "adapter" / "adapter_model.safetensors"
  )
  settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2}
  (tmp_path / "adapter" / "adapter_config.json").write_text(
    json.dumps(settings | {"modules_to_save": [kept]})
  )
  model = f"{tmp_path}/base+{tmp_path}/adapter"
  config = {"merge_method": "passthrough", "models": [{"model": model}]}
  out = merge(tmp_path, config)
  merged = llamas.read(out)
  expected = (
    (new, once[EMBED]) if kept == "embed_tokens" else (once[EMBED], new)
  )
  np.testing.assert_array_equal(merged[EMBED], expected[0])
  np.testing.assert_array_equal(merged[HEAD], expected[1])
  found = json.loads((out / "config.json").read_text())
  assert found["tie_word_embeddings"] is False
