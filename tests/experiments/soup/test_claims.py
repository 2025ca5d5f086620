"""The soup experiment: hyper-parameters, training, metrics, verdicts."""

import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import weightspace as ws
from experiments.bench import population
from experiments.run import app, progress
from experiments.soup import claims, results
from weightspace import intervals, losses
from weightspace.merge.fitted.soups import Trial

KEY = jax.random.key(0)


@pytest.fixture
def run(tmp_path):
  about = {"experiment": "soup", "name": "n", "command": "c"}
  config = ml_collections.ConfigDict(
    {
      "seed": 0,
      "members": {
        "epochs": 1,
        "batch_size": 2,
        "hyper": {
          "learning_rate": (0.1, 0.4),
          "weight_decay": (0.0, 0.0),
          "noise": (0.0, 0.0),
        },
      },
    }
  )
  begun = app.begin(tmp_path, config, config.to_dict(), about, None)
  yield begun
  begun.lock.close()


def linear(count=6):
  """A linear model on three features, as a Problem."""
  draws = np.random.default_rng(0)
  data = {
    "x": draws.normal(size=(count, 3)).astype(np.float32),
    "y": draws.integers(0, 2, count).astype(np.int32),
  }
  model = ws.models.build("mlp", hidden=(), classes=2)

  return population.Problem(
    model,
    data,
    data,
    data,
    losses.of(model.apply, losses.cross_entropy),
    losses.of(model.apply, losses.accuracy),
  )


def test_hyper_parameters_lie_in_their_ranges():
  ranges = {"a": (0.01, 1.0), "b": (0.5, 0.5), "c": (0.0, 0.0)}
  drawn = population.draw_hyper(ranges, KEY, 400)
  a = np.log10(np.asarray(drawn["a"]))
  assert a.min() >= -2.0 - 1e-6 and a.max() <= 1e-6
  assert abs(a.mean() + 1.0) < 3 * 2 / np.sqrt(12 * 400)  # log-uniform
  assert (drawn["b"] == 0.5).all() and (drawn["c"] == 0.0).all()


def test_a_range_from_zero_is_refused():
  with pytest.raises(
    ValueError, match=r"noise: \(0.0, 1.0\), expected 0 < low"
  ):
    population.draw_hyper({"noise": (0.0, 1.0)}, KEY, 3)


def test_the_optimiser_is_heavy_ball_with_decay():
  """v <- 0.9 v + (g + wd w); w <- w - lr v."""
  tx = population.optimizer(0.1, 0.01)
  params, state = jnp.array([1.0, -2.0]), None
  state, w, v = tx.init(params), np.array([1.0, -2.0]), 0.0
  for gradient in np.array([[0.5, 1.0], [-1.0, 2.0], [0.0, 0.5]]):
    v = 0.9 * v + gradient + 0.01 * w
    w = w - 0.1 * v
    updates, state = tx.update(jnp.asarray(gradient), state, params)
    params = params + updates
  np.testing.assert_allclose(params, w, rtol=1e-6)


def test_members_are_saved_with_where_they_came_from(run):
  problem = linear()
  start = population.initial(problem, KEY)
  stack, members = population.members(
    run, problem, lambda: population.repeated(start, 3), seed=0
  )
  assert {member.start for member in members} == {ws.fingerprint(start)}
  assert [member.seed for member in members] == [0, 1, 2]
  rates = [json.loads(member.recipe)["learning_rate"] for member in members]
  assert len(set(rates)) == 3 and all(0.1 <= rate <= 0.4 for rate in rates)
  path = run.folder / "checkpoints" / "seed0-members" / "001.safetensors"
  assert ws.checkpoints.member(path) == members[1]
  assert ws.fingerprint(ws.checkpoints.restore(path)) == ws.fingerprint(
    ws.unstack(stack)[1]
  )

  def never():
    raise AssertionError("trained twice")

  again, same = population.members(run, problem, never, seed=0)
  assert same == members and ws.fingerprint(again) == ws.fingerprint(stack)


def test_what_is_measured_is_what_numpy_finds(run):
  problem = linear()
  models = [population.initial(problem, k) for k in jax.random.split(KEY, 3)]
  stack = ws.stack(models)
  results.measure(
    run, problem, stack, {"uniform": ws.weighted_mean(stack)}, seed=0
  )
  kernels = np.stack([m["Dense_0"]["kernel"] for m in models])
  x, y = problem.test["x"], problem.test["y"]
  logits = np.einsum("ni,mic->mnc", x, kernels)  # biases start at zero
  each = 100 * (logits.argmax(-1) == y).mean(1)
  mean = logits.mean(0)
  chosen = mean[np.arange(len(y)), y]
  loss = (np.log(np.exp(mean).sum(-1)) - chosen).mean()
  found = {
    line["method"]: line for line in run.lines.values() if "method" in line
  }
  assert found["best"]["test accuracy"] == pytest.approx(each.max(), rel=1e-6)
  assert found["mean"]["test accuracy"] == pytest.approx(each.mean(), rel=1e-6)
  # For a linear model, averaging weights is averaging logits.
  for method in ("uniform", "ensemble"):
    assert found[method]["test loss"] == pytest.approx(loss, rel=1e-5)


def lines(run, method, values, metric="test accuracy"):
  for seed, value in enumerate(values):
    run.log(seed=seed, method=method, **{metric: float(value)})


@pytest.mark.parametrize(
  "gain, holds", [([0.5, 0.6, 0.4], True), ([0.5, -0.6, 0.4], False)]
)
def test_the_uniform_claim_asks_for_an_interval_above_zero(run, gain, holds):
  lines(run, "best", [95.0, 96.0, 97.0])
  lines(run, "uniform", np.array([95.0, 96.0, 97.0]) + gain)
  said, verdict = claims.uniform(run)
  assert bool(verdict) is holds and f"{np.mean(gain):+.2f} points" in said


@pytest.mark.parametrize(
  "gap, gain, holds",
  [
    ([0.0, 0.3], [0.5, 0.5], True),
    ([0.0, 0.3], [0.5, -0.5], False),
    ([1.0, -0.1], [0.5, 0.5], False),
  ],
)
def test_the_greedy_claim_asks_for_test_data(run, gap, gain, holds):
  """On the selection set it asks that no seed is below, which none can be."""
  best = np.array([95.0, 96.0])
  for name, chosen, shown in (("best", 0, 0), ("greedy", gap, gain)):
    for seed, pair in enumerate(zip(best + chosen, best + shown)):
      names = ("validation accuracy", "test accuracy")
      numbers = dict(zip(names, map(float, pair)))
      run.log(seed=seed, method=name, **numbers)
  assert bool(claims.greedy(run)[1]) is holds


@pytest.mark.parametrize("fall, holds", [(30.0, True), (9.0, False)])
def test_the_collapse_claim_asks_for_ten_points(run, fall, holds):
  lines(run, "mean", [95.0, 96.0, 95.5])
  lines(run, "uniform", np.array([95.0, 96.1, 95.6]) - fall)
  for seed in range(3):
    run.log(seed=seed, barrier="midpoint", loss=1.0 + 0.1 * seed, error=9.0)
  assert bool(claims.collapse(run)[1]) is holds


def test_the_history_of_a_selection_is_logged(run):
  trials = [
    Trial(2, 0.9, -np.inf, True, "first", None),
    Trial(0, 0.8, 0.9, False, "score fell", intervals.Interval(0, -1, 1, 5)),
  ]
  results.log_history(run, 0, "greedy", trials)
  first, second = run.lines.values()
  assert first["best"] is None and first["reason"] == "first"
  assert (second["low"], second["high"], second["accepted"]) == (-1, 1, False)


def test_examples_beyond_the_data_are_refused(run):
  config = {"data": "digits", "examples": 10_000, "model": {"name": "mlp"}}
  run = run._replace(config=ml_collections.ConfigDict(config))
  with pytest.raises(ValueError, match="examples: 10000, expected 0 to 1079"):
    population.problem(run)


def test_progress_is_plain_lines_without_a_terminal(capsys):
  with progress.bar("part", 3) as advance:
    advance(3)
  assert capsys.readouterr().out == "part ... 3/3 in 0 s\n"
