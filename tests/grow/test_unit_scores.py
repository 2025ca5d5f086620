"""Units by their scores, and what a slice drops."""

import jax
import numpy as np
import pytest

import weightspace as ws
from tests import architectures
from weightspace import grow


@pytest.mark.parametrize("name", ["mlp", "conv_flatten", "grouped", "scanned"])
def test_scores_are_sums_over_all_entries_of_a_unit(name):
  apply, params, x, _ = architectures.build(name)
  axes = ws.symmetry.trace_axes(apply, params, x)
  squares = jax.tree.map(np.square, params)
  scores = grow.unit_scores(axes, squares)
  assert set(scores) == set(grow.sizes(axes, 1.0))
  zeros = jax.tree.map(np.zeros_like, squares)
  named = ws.trees.named
  for unit_name, row in scores.items():
    for unit in range(len(row)):
      others = [k for k in range(len(row)) if k != unit]
      left = grow.take(axes, {unit_name: others}, squares)
      gone = sum(
        float(squares_leaf.sum()) - float(named(left)[path].sum())
        for path, squares_leaf in named(squares).items()
      )
      np.testing.assert_allclose(row[unit], gone, rtol=1e-3)
  assert all((row == 0).all() for row in grow.unit_scores(axes, zeros).values())


def test_the_best_units_and_those_dropped():
  axes = ws.symmetry.Axes({"w": "a 1"}, {"a": 5}, {})
  scores = {"a": [3.0, 1.0, 4.0, 1.0, 5.0]}
  index = grow.best(axes, scores, {"a": 3})
  assert index["a"].tolist() == [0, 2, 4]
  taken = grow.take(axes, index, {"w": np.arange(5)[:, None]})
  assert taken["w"].ravel().tolist() == [0, 2, 4]
  report = grow.dropped(axes, scores, index)["a"]
  assert (report.units.tolist(), report.above) == ([1, 3], 0)
  np.testing.assert_allclose(report.share, 2 / 14)
  leading = grow.dropped(axes, scores, {"a": 2})["a"]
  assert (leading.units.tolist(), leading.above) == ([2, 3, 4], 2)
  assert grow.best(axes, {"a": [1.0] * 5}, {"a": 2})["a"].tolist() == [0, 1]


def test_scores_that_do_not_fit_are_refused():
  axes = ws.symmetry.Axes({"w": "a"}, {"a": 2}, {})
  for scores in ({}, {"a": [1.0]}, {"a": [1.0, float("nan")]}):
    with pytest.raises(ValueError, match="scores: "):
      grow.best(axes, scores, {"a": 1})
  with pytest.raises(ValueError, match="3 of 2 'a'"):
    grow.best(axes, {"a": [1.0, 2.0]}, {"a": 3})
  with pytest.raises(ValueError, match="'w' is missing"):
    grow.unit_scores(axes, {})
