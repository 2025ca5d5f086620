"""The arithmetic of the landscape and phase experiments, without training."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.landscape import grokking, laws, lazy, panels, soup
from experiments.phases import results
from weightspace import figures, losses


def test_a_linear_models_soup_is_its_ensemble():
  """Logits linear in the weights: no gap, and none predicted."""
  random = np.random.default_rng(0)
  a, b = (jnp.asarray(random.normal(size=(4, 3)), jnp.float32) for _ in "ab")
  data = {
    "x": jnp.asarray(random.normal(size=(50, 4)), jnp.float32),
    "y": jnp.asarray(random.integers(0, 3, 50)),
  }

  def apply(p, x):
    return x @ p

  loss = losses.of(apply, losses.cross_entropy)
  found = soup.compare(apply, loss, data, a, b)
  assert abs(found["gap"]) < 1e-5
  assert found["flatness"] < 0 < found["confidence"]
  # Differences a quarter apart see fourth derivatives too.
  assert abs(found["predicted"]) < 0.05 * found["confidence"]


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_truncation_keeps_the_norm_and_sets_the_rank(rank):
  params = lazy.start(jax.random.key(0), 6, 4, 10, 1.25)
  cut = lazy.truncate(params, rank)
  before, after = (np.asarray(p["again"]) for p in (params, cut))
  assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), 1e-5)
  assert np.linalg.matrix_rank(after, tol=1e-4) == rank
  assert lazy.apply(cut, jnp.ones((2, 5, 4, 1))).shape == (2, 10)


def test_sums_are_all_pairs_once():
  train, test = grokking.sums(5, 0.6, jax.random.key(0))
  assert len(train["y"]) == 15 and len(test["y"]) == 10
  x = np.concatenate([train["x"], test["x"]])
  y = np.concatenate([train["y"], test["y"]])
  a, b = x[:, :5].argmax(1), x[:, 5:].argmax(1)
  assert len(set(zip(a.tolist(), b.tolist()))) == 25
  assert ((a + b) % 5 == y).all()


def test_ends_of_grokking():
  train, test = np.array([10.0, 100, 100, 100]), np.array([1.0, 2, 60, 97])
  assert grokking.ends(train, test) == (1, 3)
  assert grokking.ends(train, test - 10) is None
  assert grokking.ends(train, np.array([1.0, 97, 98, 99])) is None


def test_the_penalty_bends_every_direction():
  loss = laws.penalised(lambda p, d: 0.0 * d, 0.5)
  found = loss({"w": jnp.array([1.0, 2.0])}, jnp.zeros(3))
  np.testing.assert_allclose(found, 0.25 * 5.0)


def test_rank_correlations():
  assert results.spearman([1, 2, 3, 4], [9, 4, 1, 0]) == -1.0
  assert results.spearman([1, 1, 1], [1, 2, 3]) == 0.0


@pytest.mark.parametrize("slope, word", [(1, "holds"), (-1, "does not hold")])
def test_a_trend_is_judged_by_permuting_cells(slope, word):
  grid = slope * np.arange(6.0)[:, None] + np.array([0.0, 9.0, 3.0])
  assert results.permuted(grid).word == word


def test_few_trends_hold_where_there_is_none():
  random = np.random.default_rng(0)
  drawn = random.normal(size=(400, 6, 4))
  held = [bool(results.permuted(grid, 400)) for grid in drawn]
  assert np.mean(held) <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 400)
  assert results.permuted(np.ones((6, 4))).word == "undecided"


def test_trends_go_along_one_side_of_the_grid_at_a_time():
  """A measure that rises with width and falls with batch size."""
  widths, batches = (1.0, 2.0, 4.0), (8, 64)
  lines = {
    str(n): {"width": f"{w:g}", "batch": b, "loss": 10 * w - b, "seed": 0}
    for n, (w, b) in enumerate(itertools.product(widths, batches))
  }
  config = types.SimpleNamespace(widths=widths, batches=batches)
  run = types.SimpleNamespace(config=config, lines=lines)
  assert results.trends(run, "loss").tolist() == [1.0] * 2
  assert results.trends(run, "loss", "batch").tolist() == [-1.0] * 3


def test_a_path_has_one_colour_in_both_panels():
  pytest.importorskip("matplotlib")
  us, names = np.array([0.0, 1.0]), ("line", "curve")
  paths = {
    name: np.array([[0.0, 0.0], [1.0, y]]) for y, name in enumerate(names)
  }
  grid = np.array([[1.0, 2.0], [3.0, np.nan]])
  drawn = figures.figure(
    panels.contour(us, us, grid, {"A": (0.0, 0.0)}, paths),
    figures.curves(us, {name: [us] for name in names}, ("t", "loss")),
  )
  seen = [
    {x.get_label(): x.get_color() for x in axes.lines if x.get_label() in names}
    for axes in drawn.axes[:2]
  ]
  assert len(seen[0]) == 2 and seen[0] == seen[1]
