"""Arguments in another order, or of another kind, name themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import match, merge, probe

KEY = jax.random.key(0)
X = jnp.ones((4, 3))
P = {"u": jnp.ones((3, 5)), "v": jnp.ones((5, 2))}
DATA = {"x": X, "y": jnp.zeros(4, int)}


def apply(p, x):
  return jnp.tanh(x @ p["u"]) @ p["v"]


LOSS = ws.losses.of(apply, ws.losses.cross_entropy)


def axes():
  return match.trace_axes(apply, P, X)


CALLS = {
  "order of barrier": (
    lambda: ws.barrier(P, P, LOSS, DATA),
    r"barrier\(loss, data, a, b\): the loss is a dict",
  ),
  "a pair of data": (
    lambda: ws.barrier(LOSS, (X, DATA["y"]), P, P),
    "batch: a tuple, expected a dict of 'x' and 'y'",
  ),
  "order of along": (
    lambda: ws.along(ws.line(P, P), [0.0], DATA, LOSS),
    "along: the loss is a dict",
  ),
  "order of hessian": (
    lambda: probe.hessian(P, LOSS, DATA),
    "hessian: the loss is a dict",
  ),
  "a match as a permutation": (
    lambda: match.permute(axes(), match.match_weights(axes(), P, P), P),
    r"permute: the permutation is a .*, expected its \.perm",
  ),
  "order of match_weights": (
    lambda: match.match_weights(P, P, axes()),
    r"match_weights: .*axes are a dict, expected those of trace_axes",
  ),
  "order of permute": (
    lambda: match.permute(P, axes(), {}),
    "permute: axes are a dict",
  ),
  "a number as a key": (
    lambda: probe.trace(jnp.eye(2), 0, 5),
    r"trace: key is an int, expected a key such as jax\.random\.key\(0\)",
  ),
  "a number as a key of eigenpairs": (
    lambda: probe.top_eigenpairs(jnp.eye(2), 1, 2, 0),
    "top_eigenpairs: key is an int",
  ),
  "weights of examples": (
    lambda: ws.along(
      ws.line(P, P), [0.0], LOSS, DATA, weights=[1, 1, np.inf, 0]
    ),
    "weight 2 is inf",
  ),
  "weights of models": (
    lambda: ws.weighted_mean(ws.stack([P, P]), jnp.array([1.0, np.nan])),
    "weights: NaN at 1",
  ),
  "infinite weights of models": (
    lambda: ws.weighted_mean(ws.stack([P, P]), jnp.array([np.inf, 1.0])),
    "weights: inf at 0",
  ),
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_name_themselves(name):
  call, words = CALLS[name]
  with pytest.raises(ValueError, match=words):
    call()


def test_results_are_shown_in_one_line():
  stack = ws.stack([P, P])
  shown = [
    probe.hessian(LOSS, P, DATA),
    ws.line(P, P),
    ws.paths.bezier([P, P, P]),
    probe.Plane(P, P, P),
    merge.ties(0.2),
    merge.greedy(stack, lambda p: 1.0),
    merge.evolve(stack, lambda p, x: p["u"].sum(), X, KEY, budget=8),
  ]
  for result in shown:
    text = repr(result)
    assert "\n" not in text and len(text) < 120, text
    assert type(result).__name__ in text


def test_selections_and_searches_have_their_model():
  models = [jax.tree.map(lambda x, s=s: s * x, P) for s in (1.0, 3.0)]
  stack = ws.stack(models)

  def score(p, x):
    return -((p["u"] - 2.0) ** 2).sum()

  for found in (
    merge.greedy(stack, lambda p: float(score(p, None))),
    merge.pruned(stack, lambda p: float(score(p, None))),
  ):
    wanted = ws.weighted_mean(stack, found.weights)
    np.testing.assert_allclose(found.params["u"], wanted["u"])
  found = merge.evolve(stack, score, X, KEY, budget=30)
  wanted = ws.weighted_sum(stack, found.weights)
  np.testing.assert_allclose(found.params["u"], wanted["u"])
  tuned = merge.tune(
    merge.task_arithmetic, {"scale": (0.0, 1.0)}, stack, score, X, KEY,
    budget=20, given={"base": jax.tree.map(jnp.zeros_like, P)},
  )  # fmt: skip
  np.testing.assert_allclose(
    tuned.params["u"], tuned.hyper["scale"] * 4.0 * P["u"], 1e-5
  )
