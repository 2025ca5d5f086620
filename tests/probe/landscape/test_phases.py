"""Phases: the table, its margins, and thresholds of a grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weightspace import probe
from weightspace.probe.landscape import phases

HIGH = {"loss": 1.5, "trace": 900.0, "top_eigenvalue": 60.0}
LOW = {"loss": 0.01, "trace": 5.0, "top_eigenvalue": 0.5}


@pytest.mark.parametrize(
  ("metrics", "label"),
  [
    (HIGH | {"mode_connectivity": -0.2}, "I"),
    (HIGH | {"mode_connectivity": 0.2}, "II"),
    (LOW | {"mode_connectivity": -0.2, "cka": 0.9}, "III"),
    (LOW | {"mode_connectivity": 0.0, "cka": 0.3}, "IV-A"),
    (LOW | {"mode_connectivity": 0.0, "cka": 0.9}, "IV-B"),
    (LOW | {"mode_connectivity": 0.0}, "undecided"),
    (LOW | {"mode_connectivity": 0.0, "cka": 0.61}, "undecided"),
    (LOW | {"mode_connectivity": 0.3, "cka": 0.9}, "undecided"),
    (LOW | {"cka": 0.9}, "undecided"),
    (LOW | {"loss": 1.5, "mode_connectivity": 0.0, "cka": 0.9}, "undecided"),
    ({"loss": 0.2, "mode_connectivity": 0.0, "cka": 0.9}, "undecided"),
    ({"loss": 0.2, "top": 60.0, "mc": -0.2}, "I"),
    (LOW | {"mode_connectivity": np.nan, "cka": 0.9}, "undecided"),
    ({"mode_connectivity": 0.0, "cka": 0.9}, "undecided"),
  ],
)
def test_the_table_of_phases(metrics, label):
  assert probe.phase(metrics) == label
  found = probe.classify(metrics)
  assert found.label == label and found.reason


def test_noise_widens_the_band_of_connectivity():
  found = LOW | {"mode_connectivity": -0.03, "cka": 0.9}
  assert probe.phase(found) == "III"
  assert probe.phase(found | {"mode_connectivity_stderr": 0.02}) == "IV-B"
  rule = probe.Rule(connectivity=0.05)
  assert probe.phase(found, rule) == "IV-B"


@settings(deadline=None, max_examples=30)
@given(
  st.floats(1e-4, 10), st.floats(1e-2, 1e4), st.floats(-1, 1), st.floats(0, 1)
)
def test_a_label_says_what_its_row_says(loss, trace, place, cka):
  metrics = {
    "loss": loss,
    "trace": trace,
    "mode_connectivity": place,
    "cka": cka,
  }
  label, rule = probe.phase(metrics), probe.Rule()
  if label in ("I", "II"):
    assert loss > rule.loss / rule.factor and trace > rule.trace / rule.factor
  if label in ("III", "IV-A", "IV-B"):
    assert loss < rule.loss * rule.factor and trace < rule.trace * rule.factor
  if label in ("I", "III"):
    assert place < 0
  if label == "IV-B":
    assert cka > rule.cka


def variance_between(values, cut):
  low, high = values[values <= cut], values[values > cut]
  return len(low) * len(high) * (low.mean() - high.mean()) ** 2


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-10, 10), min_size=3, max_size=12, unique=True))
def test_otsu_splits_best_of_all_cuts(values):
  values = np.sort(values)
  cut = phases.otsu(values)
  best = max(variance_between(values, v) for v in values[:-1])
  assert variance_between(values, cut) == pytest.approx(
    best, rel=1e-6, abs=1e-9
  )


def test_thresholds_of_a_grid():
  grid = {
    "loss": [0.01, 0.02, 2.0, 2.2],
    "trace": [[1.0, 2.0], [100.0, 400.0]],
    "cka": [0.2, 0.3, 0.8, np.nan],
    "mode_connectivity": [0.0, 0.1, 0.2, 0.3],
    "top_eigenvalue": [3.0, 3.0, 3.0, 3.0],
  }
  rule = probe.rule_of(grid)
  assert 0.02 < rule.loss < 2.0 and 2.0 < rule.trace < 100.0
  assert rule.cka == pytest.approx(0.55)
  assert rule.top_eigenvalue == probe.Rule().top_eigenvalue
  assert rule.connectivity == probe.Rule().connectivity


def test_bad_metrics_are_named():
  with pytest.raises(ValueError, match="unknown metric 'accuracy'"):
    probe.phase({"accuracy": 0.9})
  with pytest.raises(ValueError, match=r"'loss' is \(2,\), expected a number"):
    probe.phase({"loss": [0.1, 0.2]})
  with pytest.raises(ValueError, match="given twice"):
    probe.phase({"loss": 0.1, "train_loss": 0.1})
  with pytest.raises(ValueError, match="two distinct numbers"):
    phases.otsu([1.0, 1.0])
