"""Masks that move: a NumPy RigL, constant counts, zeros outside."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import problems
from weightspace import losses, sparse

KEY = jax.random.key(0)


def change(mask, weights, growth, share):
  """Return RigL's change of a flat mask, by sorting."""
  kept = np.flatnonzero(mask)
  count = int(share * len(kept) + 1e-6)
  order = np.argsort(-np.abs(weights[kept]), kind="stable")
  stay = np.zeros_like(mask)
  stay[kept[order[: len(kept) - count]]] = True
  free = np.flatnonzero(~stay)
  stay[free[np.argsort(-growth[free], kind="stable")[:count]]] = True
  return stay


def rigl(params, masks, gradients, rate, drop, every, until):
  """Train flat leaves by SGD with RigL, in NumPy; yield weights and masks."""
  for step, gradient in enumerate(gradients):
    stay, new = dict(masks), dict(masks)
    if step and step % every == 0 and step < until:
      share = drop / 2 * (1 + np.cos(np.pi * step / until))
      for path, mask in masks.items():
        growth = np.abs(gradient[path])
        new[path] = change(mask, params[path], growth, share)
        stay[path] = mask & new[path]
    params = {
      path: np.where(stay[path], w - rate * gradient[path], 0)
      for path, w in params.items()
    }
    masks = new
    yield params, masks


@pytest.mark.parametrize("drop", [0.0, 0.3, 1.0])
def test_rigl_is_the_reference(drop):
  random = np.random.default_rng(0)
  sizes = {"a": 40, "b": 17}
  params = {
    p: random.normal(size=n).astype(np.float32) for p, n in sizes.items()
  }
  masks = {p: random.random(n) < 0.4 for p, n in sizes.items()}
  gradients = [
    {p: random.normal(size=n).astype(np.float32) for p, n in sizes.items()}
    for _ in range(9)
  ]
  tx = sparse.rigl(optax.sgd(0.1), masks, drop, every=2, until=7)
  state, now = tx.init(params), jax.tree.map(jnp.asarray, params)
  wanted = rigl(params, masks, gradients, 0.1, drop, 2, 7)
  for gradient, (weights, kept) in zip(gradients, wanted):
    updates, state = jax.jit(tx.update)(gradient, state, now)
    now = optax.apply_updates(now, updates)
    problems.close(state.mask, kept, 0, 0)
    problems.close(now, weights, 1e-5, 1e-6)
  if drop == 0.0:
    problems.close(state.mask, masks, 0, 0)


@pytest.mark.parametrize(
  ("name", "tx"),
  [("rigl", optax.adamw(0.05)), ("set_", optax.sgd(0.1, momentum=0.9))],
)
def test_counts_stay_and_outside_is_zero(name, tx):
  loss = losses.of(problems.apply, losses.cross_entropy)
  stack = problems.stack(2)
  start = sparse.random(KEY, problems.tree(0), 0.4, only="*")
  plan = dict(drop=0.5, every=2, until=20)
  more = {"key": KEY} if name == "set_" else {}
  wrapped = getattr(sparse, name)(tx, start, **plan, **more)
  fitted = ws.train.fit_population(
    loss, stack, wrapped, problems.data(), key=KEY, epochs=5, batch_size=8
  ).params
  wanted = sparse.counts(start)
  for model in ws.unstack(fitted):
    nonzero = jax.tree.map(lambda x: x != 0, model)
    assert sparse.counts(nonzero) == wanted
    assert float(sparse.overlap(nonzero, start)) < 1.0


def test_new_weights_start_from_zero_without_moments():
  params = {"w": jnp.array([3.0, 0.1, 0.0, 0.0])}
  gradient = {"w": jnp.array([0.1, 0.1, 0.2, 9.0])}
  keep = {"w": jnp.array([True, True, False, False])}
  tx = sparse.rigl(optax.adam(0.1), keep, drop=1.0, every=1, until=10)
  state = tx.init(params)
  for _ in range(2):
    updates, state = tx.update(gradient, state, params)
    new = optax.apply_updates(params, updates)
  assert state.mask["w"].tolist() == [True, False, False, True]
  assert new["w"][1:].tolist() == [0.0, 0.0, 0.0]
  assert not np.asarray(optax.tree.get(state.inner, "mu")["w"])[1:].any()


def test_a_weight_that_returns_stays_as_it_is():
  params = {"w": jnp.array([3.0, 0.1, 0.0])}
  gradient = {"w": jnp.array([0.0, 9.0, 1.0])}
  keep = {"w": jnp.array([True, True, False])}
  tx = sparse.rigl(optax.sgd(0.0), keep, drop=0.6, every=1, until=10)
  state = tx.init(params)
  for _ in range(2):
    updates, state = tx.update(gradient, state, params)
  assert state.mask["w"].tolist() == [True, True, False]
  assert optax.apply_updates(params, updates)["w"].tolist() == [
    3.0,
    np.float32(0.1),
    0.0,
  ]


def test_what_was_not_zero_outside_is_set_to_zero_at_once():
  params = {"w": jnp.array([1.0, 2.0])}
  tx = sparse.rigl(optax.sgd(0.0), {"w": jnp.array([True, False])})
  updates, _ = tx.update(params, tx.init(params), params)
  assert optax.apply_updates(params, updates)["w"].tolist() == [1.0, 0.0]


def test_set_draws_by_key_and_step():
  params = {"w": jnp.arange(1.0, 65.0)}
  keep = {"w": jnp.arange(64) < 32}

  def masks(key):
    tx = sparse.set_(optax.sgd(0.0), keep, 0.5, 1, 100, key=key)
    state, seen = tx.init(params), []
    step = jax.jit(tx.update)
    for _ in range(3):
      _, state = step(params, state, params)
      seen.append(np.asarray(state.mask["w"]))
    return seen

  first, again, other = masks(KEY), masks(KEY), masks(jax.random.key(1))
  np.testing.assert_array_equal(first, again)
  assert (first[1] != other[1]).any() and (first[1] != first[2]).any()


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda m: sparse.rigl(optax.sgd(1.0), m, drop=1.5), "drop 1.5"),
    (lambda m: sparse.rigl(optax.sgd(1.0), m, every=0), "every 0"),
    (
      lambda m: sparse.set_(optax.sgd(1.0), m, until=-1, key=KEY),
      "set_: .* until -1",
    ),
    (
      lambda m: sparse.rigl(optax.sgd(1.0), m).init({"w": jnp.ones(3)}),
      "mask: 'w' is",
    ),
    (
      lambda m: sparse.rigl(optax.sgd(1.0), m).update(m, None),
      "params is None",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call({"w": np.ones(2, bool)})
