"""Vocabularies of several models brought to the rows of one."""

import json

import numpy as np
import pytest
import yaml

from tests import llamas
from weightspace.cli import command
from weightspace.cli.config import tokens
from weightspace.cli.vocabularies import tokenizers, vocabulary

FIRST = ["<unk>", "<s>", "</s>", "a", "b", "c"]
OTHER = ["<unk>", "</s>", "<s>", "b", "d", "e", "<y>"]
SPECIAL = ["<unk>", "<s>", "</s>"]
ONE = llamas.leaves(1, vocab=len(FIRST))
TWO = llamas.leaves(2, vocab=len(OTHER))
EMBED = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  at = tmp_path_factory.mktemp("vocabularies")
  jinja = {"chat_template.jinja": "{{ one }}"}
  llamas.write(at / "one", ONE, tokens=FIRST, special=SPECIAL, **jinja)
  llamas.write(at / "two", TWO, tokens=OTHER, special=[*SPECIAL, "<y>"])
  llamas.write(at / "three", ONE, tokens=FIRST, special=SPECIAL, **jinja)
  return at


def merge(folder, tmp_path, tokenizer, weights=(1, 3), **keys):
  models = [
    {"model": str(folder / name), "parameters": {"weight": weight}}
    for name, weight in zip(("one", "two"), weights)
  ]
  config = {"merge_method": "linear", "models": models, "tokenizer": tokenizer}
  file, out = tmp_path / "config.yml", tmp_path / "out"
  file.write_text(yaml.safe_dump(config | keys))
  assert command.main([str(file), str(out), "--quiet"]) == 0
  return llamas.read(out), out


@pytest.mark.parametrize("leaf", [EMBED, "lm_head.weight"])
def test_a_union_has_the_tokens_of_all(folder, tmp_path, leaf):
  """A token that one model lacks has the other's row in both."""
  merged, out = merge(folder, tmp_path, {"source": "union"})
  found = tokenizers.vocabulary(str(out))
  assert list(found)[: len(FIRST)] or set(FIRST) < set(found)
  assert sorted(found.values()) == list(range(9)) and found["<y>"] == 8
  assert merged[leaf].shape == (9, llamas.WIDTH)
  for token, row in found.items():
    one = ONE[leaf][FIRST.index(token)] if token in FIRST else None
    two = TWO[leaf][OTHER.index(token)] if token in OTHER else one
    expected = 0.25 * (two if one is None else one) + 0.75 * two
    np.testing.assert_allclose(merged[leaf][row], expected, atol=1e-6)
  config = json.loads((out / "config.json").read_text())
  assert config["vocab_size"] == 9
  assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)


def test_another_models_vocabulary_moves_the_special_tokens(folder, tmp_path):
  merged, out = merge(folder, tmp_path, {"source": str(folder / "two")})
  config = json.loads((out / "config.json").read_text())
  assert merged[EMBED].shape == (7, llamas.WIDTH)
  assert (config["bos_token_id"], config["eos_token_id"]) == (2, 1)
  given = (out / "tokenizer.json").read_bytes()
  assert given == (folder / "two/tokenizer.json").read_bytes()


def test_tokens_with_rules_of_their_own(folder, tmp_path):
  one, two = str(folder / "one"), str(folder / "two")
  renamed = {"kind": "model_token", "model": one, "token": "a"}
  numbered = {"kind": "model_token", "model": two, "token_id": 4}
  rules = {
    "b": {"source": two, "force": True},
    "c": {"source": {"kind": "zero"}},
    "<new>": {"source": renamed},
    "e": {"source": numbered, "force": True},
  }
  merged, out = merge(
    folder, tmp_path, {"tokens": rules, "pad_to_multiple_of": 16}
  )
  found = tokenizers.vocabulary(str(out))
  rows = {token: merged[EMBED][row] for token, row in found.items()}
  np.testing.assert_allclose(rows["b"], TWO[EMBED][3], atol=1e-6)
  np.testing.assert_allclose(rows["c"], 0.25 * ONE[EMBED][5], atol=1e-6)
  np.testing.assert_allclose(rows["<new>"], ONE[EMBED][3], atol=1e-6)
  np.testing.assert_allclose(rows["e"], TWO[EMBED][4], atol=1e-6)
  assert merged[EMBED].shape[0] == 16 and found["<new>"] == 9
  mean = merged[EMBED][:10].mean(0)
  np.testing.assert_allclose(
    merged[EMBED][10:], mean[None] + 0 * merged[EMBED][10:], atol=1e-6
  )


def test_a_missing_token_is_the_bases_or_the_mean():
  known = {"x": {"a": 0}, "y": {"b": 1}, "z": {"b": 2, "c": 0}}
  output = {"a": 0, "b": 1, "c": 2}
  rows = vocabulary.rows("x", output, known, None, {})
  assert rows == [(("x", 0),), (("y", 1), ("z", 2)), (("z", 0),)]
  rows = vocabulary.rows("x", output, known, "z", {})
  assert rows[1] == (("z", 2),)


@pytest.mark.parametrize(
  "rule, match",
  [
    (tokens.Token("w"), "tokens.q: 'w' is not merged, expected one of x"),
    (tokens.Token("x", "b"), "tokens.q: 'x' has no token 'b'"),
  ],
)
def test_rules_that_cannot_be_followed(rule, match):
  with pytest.raises(ValueError, match=match):
    vocabulary.rows("x", {"q": 0}, {"x": {"a": 0}}, None, {"q": rule})


def refused(folder, tmp_path, capsys, names, **keys):
  models = [
    {"model": str(folder / n), "parameters": {"weight": 1}} for n in names
  ]
  file = tmp_path / "config.yml"
  config = {"merge_method": "linear", "models": models} | keys
  file.write_text(yaml.safe_dump(config))
  assert command.main([str(file), str(tmp_path / "out")]) == 1
  return capsys.readouterr().err


def test_other_sizes_need_a_tokenizer(folder, tmp_path, capsys):
  said = refused(folder, tmp_path, capsys, ["one", "two"])
  assert "is (7, 8), expected (6, 8)" in said and "{source: union}" in said
  said = refused(
    folder, tmp_path, capsys, ["one", "two"], tokenizer_source="base"
  )
  assert "source is base, but there is no base_model" in said
  said = refused(
    folder, tmp_path, capsys, ["one", "two"], tokenizer_source="elsewhere"
  )
  assert "source 'elsewhere' is not merged" in said


def test_a_model_without_a_tokenizer_is_named(folder, tmp_path, capsys):
  llamas.write(tmp_path / "bare", ONE)
  names = ["one", tmp_path / "bare"]
  said = refused(folder, tmp_path, capsys, names, tokenizer_source="union")
  assert f"'{tmp_path / 'bare'}' has no tokenizer.json" in said


def test_the_chat_template_that_most_have(folder, tmp_path):
  _, out = merge(folder, tmp_path, {"source": "union"}, chat_template="auto")
  assert (out / "chat_template.jinja").read_text() == "{{ one }}"
  found = tokenizers.with_template({}, "chatml", [])
  assert "<|im_start|>" in found["chat_template.jinja"]


def test_vocabularies_of_other_tokenizers(tmp_path):
  (tmp_path / "tokenizer.json").write_text(
    json.dumps({"model": {"vocab": [["<unk>", 0.0], ["a", -1.0]]}})
  )
  assert tokenizers.vocabulary(str(tmp_path)) == {"<unk>": 0, "a": 1}


def padded(at, name, seed, rows, tokens):
  leaves = llamas.leaves(seed, vocab=rows)
  llamas.write(at / name, leaves, tokens=tokens)
  return leaves


@pytest.mark.parametrize("source", ["union", "base"])
def test_a_padded_vocabulary_stays_padded(tmp_path, source):
  words = [f"t{i}" for i in range(12)]
  one = padded(tmp_path, "one", 1, 16, words)
  two = padded(tmp_path, "two", 2, 16, [*words, "new"])
  base = {"base_model": str(tmp_path / "one")}
  merged, out = merge(tmp_path, tmp_path, {"source": source}, (1, 1), **base)
  assert merged[EMBED].shape[0] == 16
  assert json.loads((out / "config.json").read_text())["vocab_size"] == 16
  kept = slice(13, 16)  # what pads both models
  expected = (one[EMBED] + two[EMBED])[kept] / 2
  np.testing.assert_allclose(merged[EMBED][kept], expected, atol=1e-6)


@pytest.mark.parametrize("source", ["union", "base"])
def test_tokens_without_a_row_are_left_out(tmp_path, source, capsys):
  words = [f"t{i}" for i in range(10)]
  one = padded(tmp_path, "one", 1, 10, words)
  padded(tmp_path, "two", 2, 10, [*words, "<unused>"])
  base = {"base_model": str(tmp_path / "one")}
  merged, out = merge(tmp_path, tmp_path, {"source": source}, (1, 0), **base)
  np.testing.assert_allclose(merged[EMBED], one[EMBED], atol=1e-6)
  assert "<unused>" not in tokenizers.vocabulary(str(out))
  assert "have no row, such as '<unused>'" in capsys.readouterr().err


def test_a_number_that_the_donor_lists_is_given_to_no_other(tmp_path):
  words = [f"t{i}" for i in range(10)]
  padded(tmp_path, "one", 1, 10, [*words, "<unused>"])
  two = padded(tmp_path, "two", 2, 11, [*words, "<im_end>"])
  merged, out = merge(tmp_path, tmp_path, {"source": "union"}, (1, 1))
  found = tokenizers.vocabulary(str(out))
  assert (found["<unused>"], found["<im_end>"]) == (10, 11)
  np.testing.assert_allclose(merged[EMBED][11], two[EMBED][10], atol=1e-6)
