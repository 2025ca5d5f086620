"""The ledger: what may enter it, and that nothing leaves it."""

import pathlib

import pytest

from experiments.reproduction import ledger
from experiments.run.discovery import Claim

CLAIM = Claim("mine", "soup", "my_config")
REGISTERED = {
  "statement": "It is above.",
  "paper": "Someone 2024, https://example.org",
  "paper_number": None,
  "kind": "paper",
  "statistic": "points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": [],
  "seeds": 5,
}


def result(**changes):
  base = {"measured": "+1", "verdict": "holds", "p": 0.001, "seed": 7000}
  base |= {"seconds": 3.0, "registered": REGISTERED, "command": "python"}
  return base | changes


def line(mode="paper", **changes):
  return ledger.line(CLAIM, result(**changes), mode)


def test_the_first_table_run_is_taken():
  assert ledger.refusal([], line(), second=False) is None


@pytest.mark.parametrize("seed", [0, 1, 6999])
def test_seeds_of_tuning_are_refused(seed):
  reason = ledger.refusal([], line(seed=seed), second=False)
  assert f"seed {seed} is for tuning, expected 7000 or above" in reason


def test_another_base_seed_is_refused():
  reason = ledger.refusal([line()], line(seed=7100), second=False)
  assert "seed 7100, expected 7000" in reason


@pytest.mark.parametrize(
  "change", [{"threshold": 1.0}, {"seeds": 6}, {"statement": "It is below."}]
)
def test_a_changed_registration_needs_to_be_asked_for(change):
  new = line(registered=REGISTERED | change)
  assert "registration changed" in ledger.refusal([line()], new, second=False)
  assert ledger.refusal([line()], new, second=True) is None


def test_rows_of_before_registration_bind_nothing():
  old = line() | {"registration": None, "seed": 0}
  assert ledger.refusal([old], line(seed=7200), second=False) is None


def test_a_tiny_run_replaces_no_row():
  assert ledger.refusal([], line("tiny"), second=False) is None
  assert "tiny" in ledger.refusal([line()], line("tiny"), second=False)
  assert ledger.refusal([line("tiny")], line(), second=False) is None


def test_lines_are_added_once_and_stay(tmp_path):
  out = pathlib.Path(tmp_path, "R.md")
  for one in (line(), line(), line(seed=7001)):
    ledger.add(out, one)
  assert ledger.read(out) == [line(), line(seed=7001)]
