"""Every config loads in every mode, is JSON, and runs in `mode=tiny`."""

import importlib
import json
import pathlib
import subprocess
import sys

import pytest

from experiments import reproduce
from experiments.run import runs

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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["soups-greedy", "rebasin-lm"])
def test_claims_are_reproduced_into_a_table(tmp_path, name):
  """Tiny runs make rows; the others stay.  The second config brings data."""
  out = tmp_path / "R.md"
  kept = "| rebasin-vit | kept |"
  out.write_text(f"{reproduce.HEAD}{kept}\n")
  words = [sys.executable, "-m", "experiments.reproduce", f"--only={name}"]
  words += ["--mode=tiny", f"--workdir={tmp_path}", f"--out={out}"]
  done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout
  rows = out.read_text().removeprefix(reproduce.HEAD).splitlines()
  assert len(rows) == 2 and kept in rows
  (new,) = [row for row in rows if row.startswith(f"| {name} |")]
  assert new.count(" | ") == 6 and "mode=tiny" in new


def test_rows_keep_their_order_and_others_stay(tmp_path):
  out = tmp_path / "R.md"
  first, second = list(reproduce.CLAIMS)[:2]
  out.write_text(reproduce.table(out, {second: f"| {second} | old |"}))
  text = reproduce.table(out, {first: f"| {first} | new |"})
  assert text == f"{reproduce.HEAD}| {second} | old |\n| {first} | new |\n"
  assert reproduce.table(out, {second: f"| {second} | b |"}).endswith("b |\n")


def test_a_row_escapes_what_ends_a_cell():
  found = {"paper": "a|b", "claim": "c", "measured": "m", "holds": False}
  found |= {"seconds": 1.6, "command": "x"}
  assert reproduce.row("n", found) == "| n | a/b | c | m | no | 2 | `x` |"


def test_missing_data_skips_a_claim_and_keeps_its_row(tmp_path):
  """The data folder is empty: the reason is told, the row stays."""
  out, name = tmp_path / "R.md", "soups-greedy"
  text = f"{reproduce.HEAD}| {name} | kept |\n"
  out.write_text(text)
  words = [sys.executable, "-m", "experiments.reproduce", f"--only={name}"]
  words += [f"--data_dir={tmp_path}", f"--workdir={tmp_path}", f"--out={out}"]
  env = {"WEIGHTSPACE_DATA": str(tmp_path), "PATH": "", "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    words, cwd=ROOT, env=env, capture_output=True, text=True
  )
  assert f"{name} skipped: error:" in done.stdout, done.stdout + done.stderr
  assert "mnist" in done.stdout and done.returncode == 0
  assert out.read_text() == text


def test_an_unknown_claim_is_refused(tmp_path):
  words = [sys.executable, "-m", "experiments.reproduce", "--only=soup"]
  done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
  assert (
    done.returncode == 2 and "error: 'soup', expected --only" in done.stdout
  )
