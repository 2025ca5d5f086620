"""Oscillations beside a loop in NumPy, and annealing that holds weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from weightspace import parametrize as p
from weightspace import train

RNG = np.random.default_rng(0)


def reference(codes, momentum, threshold):
  """Return rate and share of a list of code arrays, weight by weight."""
  first = codes[0].reshape(-1).astype(int)
  last, jumps = np.zeros(first.size), 0
  rates, before = np.zeros(first.size), first
  for array in codes[1:]:
    now = array.reshape(-1).astype(int)
    for i in range(now.size):
      move = np.sign(now[i] - before[i])
      jump = move * last[i] == -1
      jumps += jump
      rates[i] = (1 - momentum) * rates[i] + momentum * jump
      last[i] = move if move else last[i]
    before = now
  return jumps / (first.size * (len(codes) - 1)), (rates > threshold).mean()


@pytest.mark.parametrize("make", [p.stats_quantised(2), p.scale_learned(3)])
def test_counts_beside_a_loop(make):
  w = RNG.normal(size=(6, 3)).astype(np.float32)
  one, trees = make(None, jnp.asarray(w)), []
  for _ in range(12):
    w = w + 0.4 * RNG.normal(size=w.shape).astype(np.float32)
    trees.append({"a": one.replace(w=jnp.asarray(w)), "b": jnp.ones(2)})
  fold = p.oscillation(momentum=0.1, threshold=0.15)
  state = fold.init(trees[0])
  for tree in trees[1:]:
    state = jax.jit(fold.update)(state, tree)
  found = fold.value(state)
  codes = [np.asarray(tree["a"].codes()) for tree in trees]
  rate, share = reference(codes, 0.1, 0.15)
  np.testing.assert_allclose(found.rate, rate, rtol=1e-5)
  np.testing.assert_allclose(found.share, share, rtol=1e-5)
  assert rate > 0.05 and 0 < share < 1


def test_a_weight_that_drifts_does_not_oscillate():
  fold = p.oscillation()
  w = jnp.array([1.0, -1.0, 0.5, -0.5])
  state = fold.init(p.StatsQ(w, 4))
  for step in range(8):
    state = fold.update(state, p.StatsQ(w.at[0].add(0.3 * step), 4))
  assert fold.value(state).share < 1.0


def test_it_rides_in_training_and_annealing_stops_it():
  x = jnp.asarray(RNG.normal(size=(256, 8)), "float32")
  y = x @ jnp.asarray(RNG.normal(size=(8, 4)), "float32")
  start = p.attach(
    {"w": 0.1 * jnp.asarray(RNG.normal(size=(8, 4)), "float32")},
    "w",
    p.stats_quantised(2),
  )

  def loss(tree, batch):
    return ((batch["x"] @ p.value(tree)["w"] - batch["y"]) ** 2).mean(-1)

  def fitted(tree, tx):
    return train.fit(
      loss,
      tree,
      tx,
      {"x": x, "y": y},
      key=jax.random.key(0),
      epochs=10,
      batch_size=32,
      folds={"jumps": p.oscillation()},
    )

  trained = fitted(start, optax.adam(0.03))
  free = fitted(trained.params, optax.adam(0.03))
  held = fitted(trained.params, p.anneal(optax.adam(0.03), width=0.02))
  rates = [float(one.averages["jumps"].rate) for one in (free, held)]
  assert rates[1] < 0.5 * rates[0], rates


def test_what_is_held_does_not_move():
  tree = {"a": p.StatsQ(jnp.asarray(RNG.normal(size=(30, 4)), "float32"), 2)}
  tree["b"] = jnp.ones(3)
  tx = p.anneal(optax.adamw(0.1), width=0.1)
  slopes = jax.tree.map(jnp.ones_like, tree)
  updates, _ = jax.jit(tx.update)(slopes, tx.init(tree), tree)
  place = np.asarray(tree["a"].position())
  free = np.abs(place - np.floor(place) - 0.5) <= 0.1
  assert ((np.asarray(updates["a"].w) != 0) == free).all()
  assert 0.02 < free.mean() < 0.5 and (updates["b"] != 0).all()


def test_ends_of_the_band():
  tree = p.StatsQ(jnp.asarray(RNG.normal(size=(30, 4)), "float32"), 2)
  beyond = np.abs(tree.w) >= 2 * np.abs(tree.w).mean(0)
  for width, moves in ((0.5, np.ones((30, 4), bool)), (1e-5, beyond)):
    tx = p.anneal(optax.sgd(0.1), width)
    slopes = jax.tree.map(jnp.ones_like, tree)
    updates, _ = tx.update(slopes, tx.init(tree), tree)
    np.testing.assert_array_equal(np.asarray(updates.w) != 0, moves)


def test_what_is_refused():
  with pytest.raises(ValueError, match=r"width is 0.7"):
    p.anneal(optax.sgd(0.1), 0.7)
  with pytest.raises(ValueError, match="momentum 0"):
    p.oscillation(momentum=0)
  with pytest.raises(ValueError, match="no StatsQ or LearnedScale"):
    p.oscillation().init({"w": jnp.ones(2)})
  tx = p.anneal(optax.sgd(0.1))
  with pytest.raises(ValueError, match="params is None"):
    tx.update({"w": jnp.ones(1)}, tx.init({"w": jnp.ones(1)}))
