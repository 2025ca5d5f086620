"""Verdicts: over a single seed a claim is neither granted nor refused."""

import csv
import os
import re
import subprocess
import sys

import ml_collections
import numpy as np
import pytest

from experiments import collect
from experiments.adapt import claims
from experiments.run import collecting, runs, study, verdicts
from experiments.run.claims import points, said
from tests.experiments.reproduction.test_ledger import REGISTERED
from tests.sweeping import ROOT
from weightspace import intervals

ONE, TWO = [{"seed": 0}], [{"seed": 0}, {"seed": 1}]


def plain(values):
  """The words of judges that write an interval themselves."""
  found = intervals.mean_interval(values)
  return f"rank {found.mean:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"


WORDS = [
  lambda x: said(x, "points"),
  points,
  lambda x: said(x, "", 3, signed=False),
  plain,  # of grokking, in its own digits
]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("holds", [True, False])
def test_one_seed_is_told_and_not_judged(words, holds):
  text = words(np.array([0.5]))
  assert "inf" in text  # what a reader is spared
  given = verdicts.of(holds)
  measured, judged = verdicts.settle(f"it is {text}; so", given, ONE)
  assert judged.word == verdicts.OPEN and "0.5" in measured
  assert not re.search(r"inf\b|\[|nan", measured)
  assert measured.endswith("; so; one seed gives no interval: undecided")


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("holds", [True, False])
def test_several_seeds_are_judged_as_they_are(words, holds):
  text = words(np.array([0.5, 0.7]))
  given = verdicts.of(holds)
  assert verdicts.settle(text, given, TWO) == (text, given)


def test_what_is_no_matter_of_seeds_is_judged():
  given = verdicts.exact(True)
  settled = verdicts.settle("they add up", given, [{"step": 0}])
  assert settled == ("they add up", given)
  assert verdicts.settle("+1 [-inf, +inf]", None, ONE) == ("+1", None)
  given = verdicts.exact(False)
  text, verdict = verdicts.settle("trend +0.5 [-inf, +inf]", given, TWO)
  assert verdict.word == verdicts.OPEN
  assert text == "trend +0.5; one value gives no interval: undecided"


def run(tmp_path, count, **config):
  """Return a run whose seeds logged one number for two methods."""
  config |= {"registered": REGISTERED}
  made = ml_collections.ConfigDict({"seed": 0, "seeds": count} | config)
  runs.write(tmp_path / "config.json", runs.dump(made.to_dict()))
  about = {"name": "mine", "experiment": "mine", "command": "python"}
  begun = runs.Run(made, tmp_path, None, about, {}, 0.0, None)
  for seed in range(count):
    for method, gain in (("dense", 0.0), ("experts, averaged", 1.0)):
      numbers = {"accuracy (%)": 50.0 + gain + seed, "test loss": 1.0 - gain}
      begun.log(seed=seed, method=method, **numbers)
  return begun


@pytest.mark.parametrize("count", [1, 2])
def test_a_result_says_what_was_judged(tmp_path, count, capsys):
  """No judge is asked to know; nor does any warn of one value."""
  begun = run(tmp_path, count, claim="ewa", study="ewa")
  study.finish(begun, claims.CLAIMS)
  result = runs.load(tmp_path / "result.json")
  assert result["holds"] is (True if count == 2 else None)
  assert "minus dense: +1.00 points" in result["measured"]
  assert ("undecided" in result["measured"]) == (count == 1)
  assert result["verdict"] == ("holds" if count == 2 else "undecided")
  assert not re.search(r"\b(inf|nan)\b", capsys.readouterr().out)


MAINS = {  # experiment: (config, further flags)
  "soup": ("soup_sweep", ()),
  "average": ("mwa", ("--config.seeds=1",)),
  "adapt": ("salsa_bandit", ("--config.seeds=1",)),
  "wise_ft": ("wise_ft", ("--config.seeds=1",)),
  "landscape": ("sharpness_laws", ("--config.seeds=1",)),
  "phases": ("phases_pod", ("--config.widths=(8,)", "--config.batches=(16,)")),
}


@pytest.fixture(scope="module")
def singles(tmp_path_factory):
  """A folder of runs of several experiments, over one seed or one cell."""
  folder = tmp_path_factory.mktemp("singles")
  for name, (config, more) in MAINS.items():
    words = [sys.executable, "-W", "error::RuntimeWarning", "-m"]
    words += [f"experiments.{name}", f"--config=configs/{config}.py:mode=tiny"]
    words += [*more, f"--workdir={folder}"]
    done = subprocess.run(
      words, cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "undecided" in done.stdout and "does not hold" not in done.stdout
  return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", MAINS)
def test_an_experiment_of_one_seed_is_measured(singles, name):
  (path,) = singles.glob(f"{name}/*/result.json")
  result = runs.load(path)
  assert result["holds"] is None and result["claim"]
  assert not re.search(r"\b(inf|nan)\b", result["measured"])
  assert re.search(r"\d\.\d", result["measured"])
  page = (path.parent / "report.html").read_text()
  assert "Does not hold" not in page and "undecided" in page


@pytest.mark.slow
def test_collected_runs_of_one_seed_are_no_failures(singles):
  assert collect.main([str(singles)]) == 0
  with open(singles / "table.csv", newline="") as stream:
    rows = list(csv.DictReader(stream))
  assert len(rows) == len(MAINS) and {row["verdict"] for row in rows} == {
    "undecided"
  }


def test_the_table_says_verdicts_in_words():
  base = dict.fromkeys(("run", "experiment", "seconds"), "x")
  base |= {"settings": {}, "numbers": {}, "holds": None}
  words = [*verdicts.WORDS, "-"]
  columns, rows = collecting.table([base | {"verdict": w} for w in words])
  at = columns.index("verdict")
  assert [row[at] for row in rows] == words
