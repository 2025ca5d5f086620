"""The best of many samples, by a score."""

import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems


def test_it_is_the_best_one_scored_alone():
  samples, data = problems.stack(7), problems.data()
  best = ws.generate.best_of(samples, problems.likelihood, data)
  alone = [
    float(problems.likelihood(model, data).mean())
    for model in ws.unstack(samples)
  ]
  assert best.chosen == int(np.argmax(alone))
  assert np.allclose(best.scores, alone, rtol=1e-5)
  problems.close(best.params, ws.unstack(samples)[best.chosen], 0, 0)


def test_one_number_and_one_per_example_agree():
  samples, data = problems.stack(4), problems.data()
  mean = ws.generate.best_of(samples, problems.mean_likelihood, data)
  each = ws.generate.best_of(samples, problems.likelihood, data)
  assert mean.chosen == each.chosen
  assert np.allclose(mean.scores, each.scores, rtol=1e-5)


def test_the_first_of_equals_is_taken_and_nan_never():
  def score(params, data):
    return jnp.where(params["w"] < 0, jnp.nan, params["w"])

  samples = {"w": jnp.array([-1.0, 2.0, 2.0, 1.0])}
  best = ws.generate.best_of(samples, score, None)
  assert best.chosen == 1 and np.isnan(best.scores[0])
  with pytest.raises(ValueError, match="all 2 scores are NaN"):
    ws.generate.best_of({"w": -jnp.ones(2)}, score, None)


def test_no_samples_are_refused():
  with pytest.raises(ValueError, match="no models"):
    ws.generate.best_of({"w": jnp.ones((0, 2))}, lambda p, x: 0.0, None)
