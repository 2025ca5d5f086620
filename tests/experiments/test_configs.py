"""Every config loads in every mode, is JSON, and runs in `mode=tiny`."""

import importlib
import json
import pathlib
import re
import subprocess
import sys

import pytest

from experiments import reproduce
from experiments.reproduction import ledger, table
from experiments.run import discovery, registration, runs
from tests.experiments.reproduction.test_ledger import line

ROOT = pathlib.Path(__file__).parents[2]
NAMES = sorted(
  path.stem
  for path in (ROOT / "configs").glob("*.py")
  if "def get_config(" in path.read_text()
)
DOCS = {
  name: importlib.import_module(f"configs.{name}").__doc__ for name in NAMES
}


def experiment(name):
  return f"experiments.{importlib.import_module(f'configs.{name}').EXPERIMENT}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arg", ["", "mode=tiny", "mode=tiny,seed=3"])
def test_a_config_loads_and_is_json(name, arg):
  config = importlib.import_module(f"configs.{name}").get_config(arg)
  kept = runs.plain(config.to_dict(), "config")
  assert json.loads(json.dumps(kept)) == kept
  assert kept["seed"] == (3 if "seed" in arg else 0)
  assert kept["title"] and "http" in kept["paper"]


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_argument_is_refused(name):
  with pytest.raises(ValueError, match="'mood=tiny': unknown, expected mode="):
    importlib.import_module(f"configs.{name}").get_config("mood=tiny")


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_gives_paper_time_and_command(name):
  doc = DOCS[name]
  assert "https://" in doc and "Time:" in doc
  assert f"--config=configs/{name}.py" in doc
  assert f"python -m {experiment(name)} " in doc
  main = ROOT / experiment(name).replace(".", "/")
  assert (main / "__main__.py").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_config_runs_in_tiny(name, tmp_path):
  words = [sys.executable, "-m", experiment(name)]
  words += [f"--config=configs/{name}.py:mode=tiny", f"--workdir={tmp_path}"]
  words += ["--save_every=0.001"]
  done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  (folder,) = tmp_path.glob(f"*/{name}-*")
  result = runs.load(folder / "result.json")
  assert result["numbers"] and result["measured"] in done.stdout
  assert "<svg" in (folder / "report.html").read_text()
  assert not list(folder.rglob(".*"))  # saves of training, and the like


CLAIMS = list(reproduce.CLAIMS.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_config_registers_its_claim(name):
  config = importlib.import_module(f"configs.{name}").get_config()
  registration.check(config.registered)
  assert config.registered.seeds == config.seeds
  assert "https://" in config.registered.paper


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_a_claims_registration_is_its_own(claim):
  """A config made from another one states its own claim, not that one's."""
  module = discovery.module(claim)
  known = module.get_config().registered.to_dict()
  assert known == module.REGISTERED
  assert known["seeds"] == module.get_config("seed=7000").registered.seeds


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_size_is_named_and_loads(name):
  """In tiny mode it is the tiny config, which only says what the paper ran."""
  module = importlib.import_module(f"configs.{name}")
  if not hasattr(module, "PAPER_SIZE"):
    pytest.skip("has no form of the paper's size")
  large = module.get_config("size=paper")
  assert large.paper_size == module.PAPER_SIZE["ran"]
  runs.plain(large.to_dict(), "config")
  tiny = module.get_config("size=paper,mode=tiny").to_dict()
  assert tiny.pop("paper_size") == large.paper_size
  assert tiny == module.get_config("mode=tiny").to_dict()
  with pytest.raises(ValueError, match="'size': 'pod', expected one of ours"):
    module.get_config("size=pod")


UNITS = {"second": 1, "minute": 60, "hour": 3600}
SPENT = re.compile(r"Time:\s+(\d+)\s+(second|minute|hour)")


def test_times_agree_with_the_tables_within_a_factor_of_two():
  """Of each claim that was run; others say that theirs is not measured yet.

  Words for a time, such as "a minute", are not compared.
  """
  for row in table.latest(ledger.read(ROOT / "REPRODUCTIONS.md")).values():
    doc = DOCS[row["config"]]
    spent = SPENT.search(doc)
    if row["mode"] == "paper" and spent:
      said = int(spent[1]) * UNITS[spent[2]]
      assert 0.5 <= said / max(row["seconds"], 1.0) <= 2.0, row["name"]


def reproduced(tmp_path, *words):
  command = [sys.executable, "-m", "experiments.reproduce", *words]
  command += [f"--workdir={tmp_path}", f"--out={tmp_path / 'R.md'}"]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["salsa-bandit", "rebasin-lm"])
def test_claims_are_reproduced_into_a_table(tmp_path, name):
  """Tiny runs make rows; the others stay.  The second config brings data."""
  out = tmp_path / "R.md"
  old = line() | {"name": "rebasin-vit", "registration": None, "seed": 0}
  ledger.add(out, old)
  done = reproduced(tmp_path, f"--only={name}", "--mode=tiny")
  assert done.returncode == 0, done.stdout + done.stderr
  first, last = ledger.read(out)
  assert first == old and last["name"] == name and last["seed"] == 7000
  text = out.read_text()
  assert f"[{name}]" in text and "[rebasin-vit]" in text and "tiny" in text
  again = reproduced(tmp_path, f"--only={name}", "--mode=tiny", "--check")
  assert again.returncode == 0 and "as in the table" in again.stdout
  page = reproduced(tmp_path, "--page")
  assert page.returncode == 0 and (tmp_path / "R.html").exists()


def test_tuning_seeds_never_reach_the_table(tmp_path):
  done = reproduced(tmp_path, "--only=salsa-bandit", "--seed=7", "--mode=tiny")
  assert done.returncode == 1
  assert "refused: salsa-bandit: seed 7 is for tuning" in done.stdout
  assert not (tmp_path / "R.jsonl").exists()


def test_missing_data_skips_a_claim_and_keeps_its_row(tmp_path):
  """The data folder is empty: the reason is told, the row stays."""
  out, name = tmp_path / "R.md", "soups-greedy"
  kept = line() | {"name": name, "registration": None, "seed": 0}
  ledger.add(out, kept)
  words = [sys.executable, "-m", "experiments.reproduce", f"--only={name}"]
  words += [f"--data_dir={tmp_path}", f"--workdir={tmp_path}", f"--out={out}"]
  env = {"WEIGHTSPACE_DATA": str(tmp_path), "PATH": "", "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    words, cwd=ROOT, env=env, capture_output=True, text=True
  )
  assert f"{name} skipped: error:" in done.stdout, done.stdout + done.stderr
  assert "mnist" in done.stdout and done.returncode == 0
  assert ledger.read(out) == [kept]


def test_an_unknown_claim_is_refused(tmp_path):
  words = [sys.executable, "-m", "experiments.reproduce", "--only=soup"]
  done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
  assert (
    done.returncode == 2 and "error: 'soup', expected --only" in done.stdout
  )


def test_the_table_is_made_of_the_ledger():
  """The committed table is what the committed ledger says.

  But for the list of claims that were not run yet, which grows with configs.
  """
  out = ROOT / "REPRODUCTIONS.md"
  waiting = re.compile(r"## Registered and not run yet\n\n.*?\n\n", re.DOTALL)
  text = table.text(ledger.read(out), reproduce.CLAIMS)
  assert waiting.sub("", out.read_text()) == waiting.sub("", text)
