"""Training inside of a mask: bit for bit outside, as without one inside."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import problems
from weightspace import losses, sparse

KEY = jax.random.key(0)
OPTIMISERS = {
  "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
  "adamw": optax.adamw(0.1, weight_decay=0.1),
  "decay": optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)),
  "clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.lion(0.01)),
  "adafactor": optax.adafactor(0.1, min_dim_size_to_factor=2),
}


def mask():
  return sparse.random(KEY, problems.tree(0), 0.4, only="*")


def fit(params, tx, **settings):
  loss = losses.of(problems.apply, losses.cross_entropy)
  return ws.train.fit(
    loss,
    jax.tree.map(jnp.asarray, params),
    tx,
    problems.data(),
    key=KEY,
    epochs=3,
    batch_size=8,
    **settings,
  ).params


def outside(a, b, keep):
  """Tell whether two trees agree bit for bit outside of a mask."""
  return all(
    (np.asarray(x).view(np.uint32) == np.asarray(y).view(np.uint32))[
      ~np.asarray(m)
    ].all()
    for x, y, m in zip(*map(jax.tree.leaves, (a, b, keep)))
  )


SLOW = ("decay", "clipped", "adafactor")


@pytest.mark.parametrize(
  "name",
  [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in OPTIMISERS],
)
def test_outside_nothing_moves_and_inside_all_does(name):
  params, keep = problems.tree(0), mask()
  params["out"][0, 0] = -0.0  # a sign that x + 0.0 would lose
  keep["out"] = keep["out"].at[0, 0].set(False)
  tuned = fit(params, sparse.train_only(OPTIMISERS[name], keep))
  assert outside(params, tuned, keep)
  inside = np.asarray(keep["dense"]["kernel"])
  moved = np.asarray(tuned["dense"]["kernel"]) != params["dense"]["kernel"]
  assert moved[inside].all()


def test_inside_it_is_training_of_the_kept_alone():
  """A mask over whole leaves is training of those leaves."""
  params, tx = problems.tree(0), optax.adamw(0.05)
  keep = jax.tree.map(lambda x: jnp.zeros(x.shape, bool), params)
  keep["out"] = jnp.ones((4, 2), bool)

  def loss(out, batch):
    whole = {**jax.tree.map(jnp.asarray, params), **out}
    return losses.of(problems.apply, losses.cross_entropy)(whole, batch)

  alone = ws.train.fit(
    loss,
    {"out": jnp.asarray(params["out"])},
    tx,
    problems.data(),
    key=KEY,
    epochs=3,
    batch_size=8,
  ).params
  tuned = fit(params, sparse.train_only(tx, keep))
  problems.close({"out": tuned["out"]}, alone)


def test_a_full_mask_changes_nothing_and_zero_weights_may_train():
  params, tx = problems.tree(0), optax.adamw(0.05)
  full = jax.tree.map(lambda x: jnp.ones(x.shape, bool), params)
  problems.close(
    fit(params, sparse.train_only(tx, full)), fit(params, tx), 0, 0
  )
  zero = jax.tree.map(np.zeros_like, params)
  tuned = fit(zero | {"out": params["out"]}, sparse.train_only(tx, full))
  assert np.asarray(tuned["dense"]["kernel"]).all()


def test_members_of_a_population_have_their_own_masks():
  tx = sparse.train_only(
    optax.adamw(0.1), lambda p: sparse.top(jax.tree.map(jnp.abs, p), 0.3)
  )
  starts = problems.models(2)
  loss = losses.of(problems.apply, losses.cross_entropy)
  tuned = ws.train.fit_population(
    loss,
    ws.stack(starts),
    tx,
    problems.data(),
    key=KEY,
    epochs=2,
    batch_size=8,
  ).params
  for start, end in zip(starts, ws.unstack(tuned)):
    keep = sparse.top(jax.tree.map(np.abs, start), 0.3)
    assert outside(start, end, keep)
    assert not outside(start, end, jax.tree.map(jnp.logical_not, keep))


def test_renewed_masks_keep_moments_of_what_stays():
  """After two steps the mask moves by one entry: its moments are zero."""
  rules = iter([])
  masks = jnp.array([[True, True, False], [False, True, True]])

  def rule(params):
    return {"w": masks[1]}

  tx = sparse.train_only(optax.adam(0.1), {"w": masks[0]}, every=2, rule=rule)
  params, gradient = {"w": jnp.ones(3)}, {"w": jnp.ones(3)}
  state, seen = tx.init(params), []
  for _ in range(4):
    updates, state = jax.jit(tx.update)(gradient, state, params)
    seen.append((np.asarray(state.mask["w"]), np.asarray(updates["w"])))
    moments = np.asarray(optax.tree.get(state.inner, "mu")["w"])
    assert not moments[~np.asarray(state.mask["w"])].any()
  assert [m.tolist() for m, _ in seen[1:3]] == masks.tolist()
  first = 1 - 0.9
  m = [first * sum(0.9**k for k in range(n)) for n in (3, 1)]
  state_two = sparse.train_only(
    optax.adam(0.1), {"w": masks[0]}, every=2, rule=rule
  )
  state = state_two.init(params)
  for _ in range(3):
    _, state = state_two.update(gradient, state, params)
  moments = np.asarray(optax.tree.get(state.inner, "mu")["w"])
  np.testing.assert_allclose(moments, [0.0, *m], rtol=1e-5)
  for keep, update in seen:
    assert (update[~keep] == 0).all() and (update[keep] != 0).all()
  assert not list(rules)


def test_bfloat16_stays():
  tx = sparse.train_only(optax.sgd(0.1), {"w": jnp.array([True, False])})
  params = {"w": jnp.ones(2, jnp.bfloat16)}
  updates, _ = tx.update(params, tx.init(params), params)
  assert updates["w"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: sparse.train_only(optax.sgd(1.0), {}, every=2), "expected both"),
    (
      lambda: sparse.train_only(optax.sgd(1.0), {}, every=0, rule=lambda p: p),
      "at least 1 step",
    ),
    (
      lambda: sparse.train_only(optax.sgd(1.0), {"v": np.ones(2, bool)}).init(
        {"w": jnp.ones(2)}
      ),
      "mask: 'w' is missing",
    ),
    (
      lambda: sparse.train_only(optax.sgd(1.0), {"w": np.ones(3, bool)}).init(
        {"w": jnp.ones(2)}
      ),
      r"mask: 'w' is \(3,\)",
    ),
    (
      lambda: sparse.train_only(optax.sgd(1.0), {"w": np.ones(2, bool)}).update(
        {"w": jnp.ones(2)}, None
      ),
      "params is None",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
