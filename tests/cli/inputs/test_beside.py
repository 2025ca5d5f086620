"""What stands beside the weights is copied, or named in one line."""

import yaml

from tests import llamas
from weightspace.cli import command
from weightspace.cli.inputs import beside

COPIED = (
  "modules.json 1_Pooling/config.json preprocessor_config.json modeling_own.py"
  " LICENSE sentence_bert_config.json"
).split()
LEFT = "optimizer.pt consolidated.safetensors 2_Dense/model.safetensors".split()
OWN = "trainer_state.json .gitattributes mergekit_config.yml".split()


def test_what_is_copied_named_or_our_own(tmp_path, capsys):
  base = llamas.leaves(0)
  tokens = [f"t{i}" for i in range(llamas.VOCAB)]
  for seed, name in enumerate("ab", 1):
    leaves = llamas.leaves(seed, near=base)
    llamas.write(tmp_path / name, leaves, tokens=tokens)
  for name in (*COPIED, *LEFT, *OWN):
    (tmp_path / "a" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "a" / name).write_text(f"# {name}")
  models = [{"model": str(tmp_path / name)} for name in "ab"]
  config = {"merge_method": "linear", "models": models}
  config["parameters"] = {"weight": 1.0}
  (tmp_path / "c.yml").write_text(yaml.safe_dump(config))
  out = tmp_path / "out"
  assert command.main([str(tmp_path / "c.yml"), str(out), "--quiet"]) == 0
  for name in COPIED:
    assert (out / name).read_text() == f"# {name}"
  said = capsys.readouterr().err
  assert all(name in said for name in LEFT)
  for name in (*LEFT, *OWN):
    assert not (out / name).exists()
  copied, _ = beside.files(str(tmp_path / "a"), tokenizer=False)
  assert set(copied) == set(COPIED)
  assert beside.files(str(tmp_path / "none"), True) == ({}, [])
