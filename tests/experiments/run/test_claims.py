"""What judges are made of: lines by seed and by method, words, tables."""

import sys
import types

import numpy as np
import pytest

import configs
from experiments import reproduce
from experiments.run import claims, discovery
from experiments.sweeping import units
from weightspace import intervals

LINES = [
  {"seed": 1, "method": "a", "loss": 3.0},
  {"seed": 0, "method": "a", "loss": 1.0},
  {"seed": 0, "method": "b", "loss": 5.0, "at": "0.5"},
  {"seed": 0, "method": "b", "loss": 7.0},
  {"seed": 0, "method": "b", "loss": 9.0, "place": 2},
  {"stage": "measured"},
]
RUN = types.SimpleNamespace(lines=dict(enumerate(LINES)))


def test_only_lines_that_say_so():
  assert claims.only(RUN, "at") == [LINES[2]]
  assert claims.only(RUN, "loss", method="a", seed=1) == [LINES[0]]
  assert claims.only(RUN, "loss", method="c") == []


def test_numbers_are_gathered_seed_by_seed():
  """Whatever the order of the lines."""
  assert claims.gather(RUN, "loss", method="a").tolist() == [[1.0], [3.0]]
  assert claims.gather(RUN, "loss", method="b").tolist() == [[5.0, 7.0, 9.0]]


def test_rows_leave_out_points_of_curves():
  found = claims.rows(RUN, "loss")
  assert list(found) == ["a", "b"] and found["b"].tolist() == [7.0]
  assert found["a"].tolist() == [3.0, 1.0]  # in the order of the lines


@pytest.mark.parametrize(
  "values, options, text",
  [
    ([1.0, 1.0], {"unit": "points"}, "+1.00 points [+1.00, +1.00]"),
    ([0.01, 0.01], {"unit": "nats"}, "+0.0100 nats [+0.0100, +0.0100]"),
    ([0.01, 0.01], {"digits": 1}, "+0.0 [+0.0, +0.0]"),
    ([-2.0, -2.0], {"signed": False}, "-2.00 [-2.00, -2.00]"),
    (intervals.Interval(3.0, 1.0, 4.0, 5), {}, "+3.00 [+1.00, +4.00]"),
  ],
)
def test_a_mean_is_said_with_its_interval(values, options, text):
  assert claims.said(values, **options) == text


def test_a_table_bounds_shares_and_nothing_else():
  values = np.array([90.0, 100.0])
  found = claims.table({"test (%)": {"a": values}, "gain": {"a": values}})
  assert found["a"]["test (%)"].high == 100.0
  assert found["a"]["gain"] == intervals.mean_interval(values)
  assert claims.percent([-5.0, 5.0]) == intervals.mean_interval([-5.0, 5.0])


def test_a_claim_is_finished_with_its_judge_and_figure():
  given = {}

  def finish(*args):
    given["args"] = args

  registered = types.SimpleNamespace(statement="It is.")
  config = {"registered": registered, "judge": "mine"}
  run = types.SimpleNamespace(
    config=config, about={"name": "n"}, finish=finish, lines={}
  )
  claim = claims.Claim(
    lambda _: ("+1", claims.exact(True)), lambda _: "drawn", "caption"
  )
  claims.finish(run, claim, {"a": {}})
  statement, measured, numbers, verdict, charts = given["args"]
  assert (statement, measured, numbers) == ("It is.", "+1", {"a": {}})
  assert verdict and charts == {"mine": ("drawn", "caption")}


def test_claims_are_found_by_what_configs_say():
  known = discovery.claims()
  assert list(reproduce.CLAIMS) == [claim.name for claim in known]
  for claim in known:
    module = discovery.module(claim)
    assert (module.CLAIM, module.EXPERIMENT) == (claim.name, claim.experiment)


@pytest.mark.parametrize(
  "texts, message",
  [
    (('CLAIM = "a"\n',), "one.py: CLAIM without EXPERIMENT"),
    (('CLAIM = "a"\nEXPERIMENT = "b"\n',) * 2, "'a' is that of configs/one.py"),
  ],
)
def test_what_a_config_says_wrong_is_named(
  tmp_path, monkeypatch, texts, message
):
  for name, text in zip(("one", "two"), texts):
    (tmp_path / f"{name}.py").write_text(text)
  monkeypatch.setattr(configs, "__path__", [str(tmp_path)])
  try:
    with pytest.raises(ValueError, match=message):
      discovery.claims()
  finally:
    for name in ("configs.one", "configs.two"):
      sys.modules.pop(name, None)


def test_a_sweep_asks_the_config_for_its_experiment(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text("def get_config(arg=''): pass\n")
  with pytest.raises(ValueError, match="'mine' does not say it"):
    units.find_experiment(str(path), None)
  assert units.find_experiment(str(path), "soup") == "soup"
  path.write_text(path.read_text() + "EXPERIMENT = 'average'\n")
  assert units.find_experiment(f"{path}:mode=tiny", None) == "average"
