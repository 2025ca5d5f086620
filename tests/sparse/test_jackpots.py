"""Mask search on frozen weights: swaps by sorting, what stays, what wins."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weightspace as ws
from tests import problems
from weightspace import losses, sparse, train

KEY = jax.random.key(0)


def swapped(scores, mask, rate):
  """Return the mask after a swap of one flat leaf, by sorting."""
  kept = int(mask.sum())
  # Of equal scores the kept ones come first, then those before in the leaf.
  order = sorted(range(len(scores)), key=lambda i: (-scores[i], ~mask[i], i))
  best = np.zeros_like(mask)
  best[order[:kept]] = True
  enter, leave = np.flatnonzero(best & ~mask), np.flatnonzero(mask & ~best)
  count = int(np.ceil(rate * len(enter) - 1e-6))
  enter = sorted(enter, key=lambda i: (-scores[i], i))[:count]
  leave = sorted(leave, key=lambda i: (scores[i], i))[:count]
  result = mask.copy()
  result[enter], result[leave] = True, False
  return result


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.34, 0.5, 1.0]))
@settings(max_examples=25, deadline=None)
def test_swaps_are_the_reference(seed, rate):
  random = np.random.default_rng(seed)
  scores = random.integers(-3, 4, size=23).astype(np.float32)
  mask = random.random(23) < 0.5
  np.testing.assert_array_equal(
    sparse.swap(scores, mask, rate), swapped(scores, mask, rate)
  )


def test_laws_of_a_swap():
  scores = {"w": problems.tree(0)["dense"]["kernel"]}
  mask = sparse.random(KEY, scores, 0.3)
  inside = jax.jit(sparse.swap)
  for rate in (0.0, 0.2, 1.0):
    found = sparse.swap(scores, mask, rate)
    assert sparse.counts(found) == sparse.counts(mask)
    problems.close(inside(scores, mask, rate), found, 0, 0)
  problems.close(sparse.swap(scores, mask, 0.0), mask, 0, 0)
  full = sparse.swap(scores, mask, 1.0)
  problems.close(full, sparse.top(scores, 0.3), 0, 0)
  problems.close(sparse.swap(scores, full, 1.0), full, 0, 0)
  every = jax.vmap(lambda r: sparse.swap(scores, mask, r))(jnp.array([0, 1.0]))
  problems.close(jax.tree.map(lambda x: x[0], every), mask, 0, 0)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda s, m: sparse.swap(s, m, 1.5), "rate is 1.5"),
    (lambda s, m: sparse.swap(s, m, -0.1), "rate is -0.1"),
    (lambda s, m: sparse.swap(s, {"w": m["w"][:2]}, 0.5), r"'w' is \(2,\)"),
    (lambda s, m: sparse.swap(s, s, 0.5), "'w' is"),
    (lambda s, m: sparse.swap({"w": s["w"] * jnp.nan}, m, 0.5), "NaN in 'w'"),
  ],
)
def test_bad_swaps_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call({"w": jnp.ones(3)}, {"w": jnp.array([True, False, True])})


def test_rates_of_the_short_restriction():
  steps = np.arange(10)
  cosine, quartic, released = (
    [float(sparse.short_restriction(10, form)(t)) for t in steps]
    for form in ("cosine", "quartic", "released")
  )
  np.testing.assert_allclose(cosine, (1 + np.cos(np.pi * steps / 10)) / 2, 1e-5)
  np.testing.assert_allclose(quartic, (1 - steps / 10) ** 4, rtol=1e-5)
  assert released == np.ceil((1 - steps / 10) ** 4).tolist()


def LOSS(params, batch):
  """Two kernels: each leaf is a program to compile."""
  logits = jnp.tanh(batch["x"] @ params["a"]) @ params["out"]
  return losses.cross_entropy(logits, batch["y"])


def tree(seed):
  return problems.tree(seed, {"a": (3, 4), "out": (4, 2)})


def search(params, **settings):
  settings = dict(key=KEY, steps=12, batch_size=8) | settings
  return sparse.search(LOSS, params, problems.data(), 0.4, **settings)


def test_a_jackpot_starts_at_global_magnitude():
  params = tree(0) | {"bias": np.ones(4, np.float32)}
  made = sparse.jackpot(params, 0.4)
  sizes = jax.tree.map(np.abs, {"a": params["a"], "out": params["out"]})
  gates = {"a": made.gates["a"], "out": made.gates["out"]}
  problems.close(gates, sparse.top(sizes, 0.4, "global"), 0, 0)
  assert np.asarray(made.gates["bias"]).all()
  mask = jax.tree.map(lambda gate: gate > 0, made.gates)
  problems.close(sparse.value(made), sparse.apply(params, mask), 0, 0)
  score = jax.tree.map(lambda g: np.where(g > 0, 1, 0.99), made.gates)
  problems.close(made.scores, score)
  other = sparse.jackpot(params, 0.4, "random", key=KEY)
  counted = sparse.counts(jax.tree.map(lambda gate: gate > 0, other.gates))
  assert counted == sparse.counts(mask)


def test_scores_get_the_gradient_of_the_gate_and_weights_none():
  made = sparse.jackpot(tree(0), 0.4)
  found = jax.grad(lambda j: LOSS(sparse.value(j), problems.data()).mean())(
    made
  )
  dense = jax.grad(lambda p: LOSS(p, problems.data()).mean())(
    sparse.value(made)
  )
  wanted = jax.tree.map(lambda g, w: g * w, dense, made.weights)
  problems.close(found.scores, wanted)
  for zero in jax.tree.leaves((found.weights, found.gates)):
    assert not np.asarray(zero).any()


@pytest.mark.parametrize(
  "rate", [1.0, pytest.param(0.0, marks=pytest.mark.slow)]
)
def test_a_search_swaps_by_the_rate_and_keeps_counts(rate):
  params = jax.tree.map(jnp.asarray, tree(0))
  found = search(params, rate=rate, tx=optax.sgd(3.0))
  begin = jax.tree.map(lambda g: g > 0, sparse.jackpot(params, 0.4).gates)
  assert sparse.counts(found.mask) == sparse.counts(begin)
  moved = float(sparse.overlap(found.mask, begin)) < 1.0
  assert moved == (rate > 0.0)
  if rate == 1.0:  # then the mask is that of the largest scores
    kernel = found.scores["a"]
    kept = int(found.mask["a"].sum())
    wanted = sparse.top(kernel, kept / kernel.size)
    np.testing.assert_array_equal(found.mask["a"], wanted)


def test_the_training_loop_can_do_the_search():
  """Weights stay bit for bit; masks keep their counts; the loss falls."""
  params = tree(0)
  made = sparse.jackpot(params, 0.4)
  fitted = train.fit(
    lambda found, batch: LOSS(sparse.value(found), batch),
    made,
    sparse.swapping(optax.sgd(3.0, momentum=0.9)),
    problems.data(),
    key=KEY,
    epochs=10,
    batch_size=24,
  )
  problems.close(fitted.params.weights, params, 0, 0)
  mask = jax.tree.map(lambda gate: gate > 0, fitted.params.gates)
  begin = jax.tree.map(lambda gate: gate > 0, made.gates)
  assert sparse.counts(mask) == sparse.counts(begin)
  assert fitted.losses.min() < fitted.losses[0, 0]


@pytest.mark.slow
def test_searches_vmap_over_models():
  stack = ws.stack([tree(0), tree(1)])
  found = jax.vmap(lambda p: search(p, tx=optax.sgd(3.0)))(stack)
  alone = search(tree(1), tx=optax.sgd(3.0))
  np.testing.assert_allclose(found.losses[1], alone.losses, rtol=1e-5)


def test_a_search_from_its_result_without_a_rate_of_learning_is_still():
  made = sparse.jackpot(tree(0), 0.4)
  tx = sparse.swapping(optax.sgd(0.0))
  gradient = jax.tree.map(jnp.ones_like, made)
  updates, _ = tx.update(gradient, tx.init(made), made)
  problems.close(optax.apply_updates(made, updates), made, 0, 0)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda p: sparse.jackpot(p, 0.0), "density is 0.0"),
    (lambda p: sparse.jackpot(p, 0.5, "random"), "a key for a random one"),
    (lambda p: sparse.jackpot(p, 0.5, "best"), "start is 'best'"),
    (
      lambda p: sparse.jackpot(p | {"out": 1e-9 * p["out"]}, 0.1),
      "empties 'out'",
    ),
    (lambda p: search(p, steps=0), "0 steps"),
    (lambda p: search(p, batch_size=25), "batches of 25"),
    (lambda p: sparse.short_restriction(0), "0 steps"),
    (lambda p: sparse.short_restriction(5, "paper"), "form 'paper'"),
    (
      lambda p: sparse.swapping(optax.sgd(1.0)).update(
        sparse.jackpot(p, 0.5), (0, ())
      ),
      "params is None",
    ),
  ],
)
def test_bad_searches_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call(tree(0))
