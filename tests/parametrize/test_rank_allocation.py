"""AdaLoRA beside NumPy: the schedule, scores, exact budgets, planted ranks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from weightspace import parametrize as p
from weightspace import train
from weightspace.parametrize import rank_allocation

RNG = np.random.default_rng(0)


def normal(*shape):
  return jnp.asarray(RNG.normal(size=shape), "float32")


def triplet(rows, rank, columns):
  return p.SvdLora(normal(rows, rank), normal(rank), normal(rank, columns))


def reference(step, b0, bT, ti, tf, T):
  if step <= ti:
    return b0
  if step > T - tf:
    return bT
  share = 1 - (step - ti) / (T - tf - ti)
  return int(bT + (b0 - bT) * share**3)


@pytest.mark.parametrize(
  "numbers",
  [(12, 4, 2, 3, 10), (100, 7, 0, 0, 97), (8, 8, 1, 1, 9), (64, 0, 5, 9, 1000)],
)
def test_budget_beside_the_formula(numbers):
  T = numbers[-1]
  want = [reference(t, *numbers) for t in range(T + 3)]
  assert [p.rank_budget(t, *numbers) for t in range(T + 3)] == want
  steps = jnp.arange(T + 3)
  found = jax.jit(lambda s: p.rank_budget(s, *numbers))(steps)
  assert found.tolist() == want and found.dtype == jnp.int32
  assert want[0] == numbers[0] and want[T] == numbers[1]
  assert all(a >= b for a, b in itertools.pairwise(want))


def test_whole_budgets_are_not_rounded_down():
  # (1 - t / 10)^3 1000 is whole at every step, but not in float32.
  want = [1000, 729, 512, 343, 216, 125, 64, 27, 8, 1, 0]
  found = jax.vmap(lambda t: p.rank_budget(t, 1000, 0, 0, 0, 10))(
    jnp.arange(11)
  )
  exact = [reference(t, 1000, 0, 0, 0, 10) for t in range(11)]
  assert found.tolist() == exact
  assert all(abs(a - b) <= 1 for a, b in zip(want, exact))


@pytest.mark.parametrize(
  "numbers",
  [(4, 8, 0, 0, 9), (4, -1, 0, 0, 9), (8, 4, 5, 4, 9), (8, 4, -1, 0, 9)],
)
def test_budgets_out_of_order(numbers):
  with pytest.raises(ValueError, match="rank_budget"):
    p.rank_budget(0, *numbers)


def by_hand(params, slopes, rate, b1, b2, steps):
  """Return importance x uncertainty of each triplet after plain SGD steps."""
  mean = {n: [np.zeros(x.shape) for x in parts] for n, parts in params.items()}
  doubt = {n: [np.zeros(x.shape) for x in parts] for n, parts in params.items()}
  for _ in range(steps):
    for name, parts in params.items():
      for i, x in enumerate(parts):
        parts[i] = x - rate * slopes[name][i]
        size = np.abs(parts[i] * slopes[name][i])
        mean[name][i] = b1 * mean[name][i] + (1 - b1) * size
        gap = np.abs(size - mean[name][i])
        doubt[name][i] = b2 * doubt[name][i] + (1 - b2) * gap
  scores = {}
  for name in params:
    a, e, b = (m * d for m, d in zip(mean[name], doubt[name]))
    scores[name] = e + a.mean(0) + b.mean(1)
  return scores


def test_scores_and_masks_beside_numpy():
  tree = {"x": triplet(5, 3, 4), "y": {"w": triplet(6, 4, 2)}}
  slopes = {"x": triplet(5, 3, 4), "y": {"w": triplet(6, 4, 2)}}
  tx = p.adalora(
    optax.sgd(0.1), bT=3, ti=1, tf=1, T=5, every=2, decays=(0.8, 0.7)
  )
  state, moved = tx.init(tree), tree
  for _ in range(4):  # the second step deals out, the fourth again
    updates, state = jax.jit(tx.update)(slopes, state, moved)
    moved = optax.apply_updates(moved, updates)

  def parts(tree):
    return {
      n: [np.asarray(x, np.float64) for x in (one.a, one.e, one.b)]
      for n, one in (("x", tree["x"]), ("y/w", tree["y"]["w"]))
    }

  kept, given = p.rank_budget(4, 7, 3, 1, 1, 5), parts(tree)
  # The entries that step two set to zero change what later scores see: e only.
  first = by_hand(parts(tree), parts(slopes), 0.1, 0.8, 0.7, 2)
  flat = np.concatenate([first["x"], first["y/w"]])
  cut = flat.argsort()[: 7 - p.rank_budget(2, 7, 3, 1, 1, 5)]
  two = jax.jit(tx.update)
  state, moved = tx.init(tree), tree
  for _ in range(2):
    updates, state = two(slopes, state, moved)
    moved = optax.apply_updates(moved, updates)
  e = np.concatenate([moved["x"].e, moved["y"]["w"].e])
  assert sorted(np.flatnonzero(e == 0)) == sorted(cut)
  assert kept == 3 and given["x"][0].shape == (5, 3)


@pytest.mark.parametrize("budget", range(8))
def test_exactly_the_budget_is_kept(budget):
  zeros = jax.tree.map(
    jnp.zeros_like, {"a": triplet(3, 3, 2), "b": triplet(4, 4, 4)}
  )
  kept = rank_allocation.keep_best(zeros, budget)
  flat = np.concatenate([kept["a"], kept["b"]])
  assert flat.sum() == budget and flat[:budget].all()  # ties: the first ones


def run(T, tf, every, steps=None):
  tree = {"x": triplet(5, 3, 4), "y": triplet(6, 4, 2)}
  tx = p.adalora(optax.sgd(0.01), bT=2, ti=1, tf=tf, T=T, every=every)
  state, counts, step = tx.init(tree), [], jax.jit(tx.update)
  for _ in range(T if steps is None else steps):
    slopes = {"x": triplet(5, 3, 4), "y": triplet(6, 4, 2)}
    updates, state = step(slopes, state, tree)
    tree = optax.apply_updates(tree, updates)
    counts.append(sum(p.kept_ranks(tree).values()))
  return counts


def test_budgets_are_met_while_training():
  counts = run(T=12, tf=3, every=1)
  assert counts == [p.rank_budget(t, 7, 2, 1, 3, 12) for t in range(1, 13)]
  sparse = run(T=12, tf=3, every=4)
  assert sparse[3] == p.rank_budget(4, 7, 2, 1, 3, 12) and sparse[4] > sparse[3]
  assert sparse[-3:] == [2, 2, 2]


def test_scores_stand_still_at_the_end():
  one = {"x": triplet(5, 3, 4)}
  tx = p.adalora(optax.sgd(0.01), bT=1, ti=1, tf=2, T=6, every=1)
  state, moved, seen = tx.init(one), one, []
  for _ in range(6):
    updates, state = tx.update({"x": triplet(5, 3, 4)}, state, moved)
    moved = optax.apply_updates(moved, updates)
    seen.append(np.asarray(state.importance["x"].e))
  assert (seen[-1] == seen[-3]).all() and (seen[2] != seen[1]).all()


@pytest.mark.slow
def test_planted_ranks_are_found():
  """Layers of one regression whose changes have ranks 4, 2, 1 and 0."""
  rng = np.random.default_rng(1)
  ranks = {"a": 4, "b": 2, "c": 1, "d": 0}

  def planted(rank):
    return rng.normal(size=(8, rank)) @ rng.normal(size=(rank, 8)) / 3

  target = {n: jnp.asarray(planted(r), "float32") for n, r in ranks.items()}
  x = {n: normal(128, 8) for n in ranks}
  y = {n: x[n] @ target[n] for n in ranks}

  def loss(tree, batch):
    found = p.value(tree)
    return sum(
      ((batch["x"][n] @ found[n] - batch["y"][n]) ** 2).mean(-1) for n in ranks
    ) + 0.1 * p.orthogonality(tree)

  start = p.attach(
    {n: jnp.zeros((8, 8)) for n in ranks}, "*", p.svd_lora(4), jax.random.key(0)
  )
  adam = p.only_trainable(optax.adam(0.03))
  tx = p.adalora(adam, bT=7, ti=40, tf=80, T=240, every=10)
  fitted = train.fit(
    loss,
    start,
    tx,
    {"x": x, "y": y},
    key=jax.random.key(0),
    epochs=60,
    batch_size=32,
  )
  found = {n.split("/")[0]: k for n, k in p.kept_ranks(fitted.params).items()}
  assert sum(found.values()) == 7
  assert found["a"] >= 3 and found["d"] == 0 and found["b"] >= found["c"]
  for name in ranks:  # bases stay, to the bit
    assert not fitted.params[name].base.any()


def test_orthogonality():
  square = np.linalg.qr(RNG.normal(size=(6, 3)))[0].astype(np.float32)
  one = p.SvdLora(square, jnp.ones(3), square.T)
  assert p.orthogonality({"w": one}) < 1e-5
  assert np.isfinite(jax.grad(lambda t: p.orthogonality(t))(one).a).all()
  exact = p.SvdLora(jnp.eye(3), jnp.ones(3), jnp.eye(3))
  assert not jax.grad(p.orthogonality)(exact).a.any()
  two = p.SvdLora(2 * square, jnp.ones(3), square.T)
  np.testing.assert_allclose(
    p.orthogonality({"a": one, "b": two}), 3 * np.sqrt(3) / 4, rtol=1e-5
  )
  np.testing.assert_allclose(
    p.orthogonality(two, squared=True), 27.0, rtol=1e-5
  )


def test_scanned_layers_are_dealt_out_by_layer():
  tree = {"w": p.SvdLora(normal(3, 5, 2), normal(3, 2), normal(3, 2, 4))}
  kept = rank_allocation.keep_best(tree, 3)
  assert kept["w"].shape == (3, 2) and kept["w"].sum() == 3


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"ti": 0}, "ti is 0"),
    ({"every": 0}, "every 0"),
    ({"decays": (1.0, 0.5)}, "decays"),
    ({"ti": 6, "tf": 4}, r"ti \+ tf is 6 \+ 4"),
  ],
)
def test_numbers_that_adalora_refuses(settings, message):
  with pytest.raises(ValueError, match=message):
    p.adalora(optax.sgd(1.0), **(dict(bT=2, ti=1, tf=1, T=10) | settings))


def test_trees_that_adalora_refuses():
  tx = p.adalora(optax.sgd(1.0), bT=9, ti=1, tf=1, T=10)
  for tree in ({"w": jnp.ones(2)}, {"w": triplet(4, 2, 4)}):
    with pytest.raises(ValueError, match="expected at least bT = 9"):
      tx.init(tree)
  tx = p.adalora(optax.sgd(1.0), bT=1, ti=1, tf=1, T=10)
  one = {"w": triplet(4, 2, 4)}
  with pytest.raises(ValueError, match="params is None"):
    tx.update(one, tx.init(one))
  with pytest.raises(ValueError, match="no SvdLora"):
    p.orthogonality({"w": jnp.ones(2)})
