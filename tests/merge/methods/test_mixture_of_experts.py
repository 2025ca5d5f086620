"""Mixtures of experts: the model, its routers, and merging its experts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import merge
from weightspace.models import moe

KEY = jax.random.key(0)
HYPER = {"vocab": 11, "layers": 2, "width": 8, "experts": 4, "hidden": 6}
MODEL = ws.models.build("moe", heads=2, kv_heads=1, **HYPER)
TOKENS = jax.random.randint(KEY, (4, 7), 0, 11)
PARAMS = MODEL.init(KEY, TOKENS)
FLAT, ROWS = ws.models.build("mlp", hidden=()), jnp.ones((1, 3))
BLOCKS = ["block_0", "block_1"]


def block(params, x, gates):
  """A mixture in NumPy, token by token and expert by expert."""
  out = np.zeros_like(x)
  for e, g in enumerate(gates.T):
    a, b = x @ params["gate"][e], x @ params["up"][e]
    out += g[:, None] * ((a / (1 + np.exp(-a)) * b) @ params["down"][e])
  return out


def test_experts_against_numpy():
  random = np.random.default_rng(0)
  x = random.normal(size=(1, 5, 8)).astype(np.float32)
  experts = jax.tree.map(np.asarray, PARAMS["block_0"]["experts"])
  logits = random.normal(size=(1, 5, 4)).astype(np.float32)
  gates = np.asarray(moe.top_gates(jnp.asarray(logits), 2))
  assert ((gates > 0).sum(-1) == 2).all()
  np.testing.assert_allclose(gates.sum(-1), 1.0, 1e-5)
  picked = np.sort(logits[0], 1)[:, -2:]
  np.testing.assert_allclose(
    np.sort(gates[0], 1)[:, -1],
    1 / (1 + np.exp(picked[:, 0] - picked[:, 1])),
    1e-5,
  )
  module = moe.Experts(4, 6, "float32")
  got = module.apply({"params": experts}, x, gates)
  np.testing.assert_allclose(got[0], block(experts, x[0], gates[0]), 1e-4, 1e-5)


def test_the_model_is_causal_and_its_routers_are_seen():
  logits = MODEL.apply(PARAMS, TOKENS)
  assert logits.shape == (4, 7, 11)
  changed = TOKENS.at[:, -1].set(0)
  np.testing.assert_allclose(
    MODEL.apply(PARAMS, changed)[:, :-1], logits[:, :-1], 1e-4, 1e-5
  )
  found = ws.models.routing(MODEL, PARAMS, TOKENS)
  assert sorted(found) == BLOCKS
  assert float(ws.models.balance(found)) >= 0.9
  parts = ws.statistics.routing(MODEL, PARAMS, [TOKENS[:1], TOKENS[1:]])
  for name in BLOCKS:
    picked = np.asarray(found[name]["gates"] > 0).reshape(-1, 4)
    np.testing.assert_allclose(
      parts[name]["frequency"], picked.mean(0) / 2, 1e-5
    )
    rows = np.asarray(found[name]["logits"]).reshape(-1, 4)
    size = np.linalg.norm(rows, axis=0)
    wanted = rows.T @ rows / np.outer(size, size)
    np.testing.assert_allclose(parts[name]["similarity"], wanted, 1e-3, 1e-4)
  fold = ws.statistics.routing_fold(MODEL, PARAMS)
  states = []
  for x in (TOKENS[:1], TOKENS[1:]):
    states.append(fold.update(fold.init({"x": x}), {"x": x}))
  both = fold.value(fold.merge(*states))
  np.testing.assert_allclose(
    both["block_1"]["frequency"], parts["block_1"]["frequency"], 1e-5
  )


def test_experts_are_linear_maps_with_a_gram_each():
  stats = ws.statistics.gram(MODEL.apply, PARAMS, TOKENS)["block_0"]["experts"]
  assert ws.statistics.matrix(stats["down"], (4, 6, 8)).shape == (4, 6, 6)
  assert ws.statistics.matrix(stats["up"], (4, 8, 6)).shape == (1, 8, 8)


def test_groups_are_around_the_most_used_of_all_blocks():
  use = {"a": [0.4, 0.3, 0.2, 0.1], "b": [0.97, 0.01, 0.01, 0.01]}
  alike = np.full((4, 4), 0.1)
  alike[3] = [0.2, 0.8, 0.5, 1.0]
  routing = {b: {"frequency": f, "similarity": alike} for b, f in use.items()}
  groups = merge.group_experts(routing, 0.5)
  assert groups["a"].tolist() == [0, 1, 2, 1]
  assert groups["b"].tolist() == [0, 0, 0, 0]
  assert merge.group_experts(routing, 0.0)["a"].tolist() == [0] * 4
  assert merge.group_experts(routing, 1.0)["b"].tolist() == [0, 1, 2, 3]


def test_no_merge_is_the_model_and_equal_experts_merge_exactly():
  every = {b: np.arange(4) for b in BLOCKS}
  kept = merge.merge_experts(PARAMS, every)
  same = merge.expand_experts(kept)
  assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, same, PARAMS)))
  twins = jax.tree.map(lambda x: x, PARAMS)
  for b in BLOCKS:
    twins[b] = dict(twins[b])
    twins[b]["experts"] = {
      n: x[jnp.array([0, 1, 0, 1])] for n, x in PARAMS[b]["experts"].items()
    }
  groups = {b: np.array([0, 1, 0, 1]) for b in BLOCKS}
  small = merge.merge_experts(
    twins, groups, {b: [0.1, 0.2, 0.3, 0.4] for b in BLOCKS}
  )
  assert small.params["block_0"]["experts"]["up"].shape == (2, 8, 6)
  apply = jax.jit(lambda m, x: MODEL.apply(merge.expand_experts(m), x))
  np.testing.assert_allclose(
    apply(small, TOKENS), MODEL.apply(twins, TOKENS), 1e-4, 1e-5
  )


def test_an_alignment_undoes_a_permutation_of_hidden_units():
  random = np.random.default_rng(0)
  orders = np.stack([random.permutation(6) for _ in range(4)])
  first = {n: np.asarray(x[0]) for n, x in PARAMS["block_0"]["experts"].items()}
  shuffled = {
    "gate": np.stack([first["gate"][:, o] for o in orders]),
    "up": np.stack([first["up"][:, o] for o in orders]),
    "down": np.stack([first["down"][o] for o in orders]),
  }
  params = {"block": {"experts": jax.tree.map(jnp.asarray, shuffled)}}
  groups = {"block": np.zeros(4, int)}
  back = {"block": np.argsort(orders, 1)}
  merged = merge.merge_experts(params, groups, perm=back).params
  for name, x in merged["block"]["experts"].items():
    np.testing.assert_allclose(x[0], first[name], 1e-5, 1e-6)
  plain = merge.merge_experts(params, groups).params["block"]["experts"]
  assert np.abs(plain["up"][0] - first["up"]).max() > 0.05


def test_frequencies_weigh_and_unused_groups_are_plain_means():
  params = {"b": {"experts": {"up": jnp.arange(4.0)[:, None, None]}}}
  groups = {"b": np.array([0, 0, 1, 1])}
  use = {"b": {"frequency": jnp.array([3.0, 1.0, 0.0, 0.0])}}
  got = merge.merge_experts(params, groups, use).params["b"]["experts"]["up"]
  np.testing.assert_allclose(got.ravel(), [0.25, 2.5])


def test_memory_and_work_are_counted():
  found = ws.models.routing(MODEL, PARAMS, TOKENS)
  whole = merge.expert_cost(PARAMS, found)
  assert whole.bytes == 4 * ws.models.count(PARAMS)
  one = 2 * 3 * 8 * 6
  np.testing.assert_allclose(whole.flops, 2 * 2 * one)
  groups = {b: np.zeros(4, int) for b in BLOCKS}
  small = merge.merge_experts(PARAMS, groups)
  cost = merge.expert_cost(small, found)
  assert cost.bytes == whole.bytes - 4 * 2 * 3 * 3 * 48 + 4 * 2 * 4
  np.testing.assert_allclose(cost.flops, 2 * one)
  assert np.isnan(merge.expert_cost(small).flops)


def test_low_rank_plus_sparse():
  random = np.random.default_rng(0)
  low = random.normal(size=(2, 6, 2)) @ random.normal(size=(2, 2, 5))
  low = low.astype(np.float32)
  exact = merge.low_rank_sparse({"w": low}, 0.4, 0.0)
  assert float(exact.error["w"]) < 1e-5
  noisy = {
    "w": low + random.normal(size=low.shape).astype(np.float32),
    "b": low[0, 0],
  }
  errors = []
  for keep in (0.0, 0.2, 1.0):
    kept = merge.low_rank_sparse(noisy, 0.4, keep)
    back = merge.dense(kept, noisy)
    wanted = np.linalg.norm(noisy["w"] - back["w"]) / np.linalg.norm(noisy["w"])
    np.testing.assert_allclose(kept.error["w"], wanted, 1e-3, 1e-6)
    np.testing.assert_array_equal(back["b"], noisy["b"])
    errors.append(wanted)
  assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-5
  u, s, vt = np.linalg.svd(noisy["w"][0])
  cut = (u[:, :2] * s[:2]) @ vt[:2]
  rest = noisy["w"][0] - cut
  largest = np.sort(np.argsort(-np.abs(rest).ravel())[:6])
  kept = merge.low_rank_sparse(noisy, 0.4, 0.2)
  np.testing.assert_array_equal(np.sort(kept.places["w"][0]), largest)
  assert merge.stored(kept) == 4 * (2 * (6 * 2 + 2 * 5) + 2 * 2 * 6 + 5)
  only = merge.low_rank_sparse(
    {"a": low, "experts": low}, 0.2, 0.0, only="experts"
  )
  assert only.right["a"] is None and only.right["experts"] is not None


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: merge.group_experts({}, 0.5), "group_experts: no block"),
    (lambda: merge.group_experts({"a": {}}, 2.0), "share is 2.0"),
    (
      lambda: merge.merge_experts(PARAMS, {"block_9": np.zeros(4, int)}),
      "'block_9' has no 'experts'",
    ),
    (
      lambda: merge.merge_experts(PARAMS, {"block_0": np.zeros(3, int)}),
      r"groups \(3,\), expected \(4,\)",
    ),
    (
      lambda: merge.merge_experts(PARAMS, {"block_0": np.array([0, 2, 2, 0])}),
      r"groups \[0, 2\], expected 0, 1",
    ),
    (
      lambda: merge.merge_experts(
        PARAMS,
        {"block_0": np.zeros(4, int)},
        {"block_0": [1.0, -1.0, 0.0, 0.0]},
      ),
      "frequencies .* expected 4 of at least 0",
    ),
    (
      lambda: merge.merge_experts(
        PARAMS,
        {"block_0": np.zeros(4, int)},
        perm={"block_0": np.zeros((4, 6), int)},
      ),
      "expected 4 permutations of 6",
    ),
    (
      lambda: merge.low_rank_sparse({"w": jnp.ones((2, 2))}, 2.0, 0.0),
      "share is 2.0",
    ),
    (
      lambda: ws.models.routing(FLAT, FLAT.init(KEY, ROWS), ROWS),
      "routing: the model has no router",
    ),
    (
      lambda: ws.models.build("moe", experts=2, chosen=3),
      "moe: chosen is 3, expected at most experts=2",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
