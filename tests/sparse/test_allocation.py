"""Distortion curves and their split: NumPy curves, brute force, laws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weightspace as ws
from tests import problems
from weightspace import sparse

KEY = jax.random.key(0)


def brute(curves, sizes, target):
  """Return the least sum of distortions by trying every split."""
  grids = list(curves.values())
  best = np.inf
  for way in itertools.product(*(range(len(c)) for c in grids)):
    gone = sum(
      int(i / (len(c) - 1) * n + 1e-6)
      for i, c, n in zip(way, grids, sizes.values())
    )
    if gone >= target:
      best = min(best, sum(c[i] for i, c in zip(way, grids)))
  return best


def spent(curves, sizes, found):
  gone = sum(
    int(i / (len(curves[p]) - 1) * sizes[p] + 1e-6) for p, i in found.items()
  )
  return gone, sum(curves[p][i] for p, i in found.items())


@given(st.integers(0, 10_000), st.floats(0.0, 0.999), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_split_is_brute_forces(seed, share, rising):
  random = np.random.default_rng(seed)
  layers = random.integers(1, 4)
  sizes = {f"l{i}": int(random.integers(1, 60)) for i in range(layers)}
  curves = {path: random.random(6) for path in sizes}
  if rising:
    curves = {path: np.sort(c) - c.min() for path, c in curves.items()}
  total = sum(sizes.values())
  target = int(np.ceil(share * total - 1e-6))
  for given_target in (share, target) if target != 1 else (share,):
    found = sparse.allocate(curves, sizes, given_target)
    gone, cost = spent(curves, sizes, found)
    assert gone >= target
    np.testing.assert_allclose(cost, brute(curves, sizes, target), rtol=1e-12)


def test_the_least_sum_rises_with_the_target():
  random = np.random.default_rng(0)
  sizes = {f"l{i}": int(n) for i, n in enumerate(random.integers(50, 5000, 6))}
  curves = {path: random.random(101) ** 2 for path in sizes}
  curves = {path: np.sort(c) - c.min() for path, c in curves.items()}
  costs = []
  for target in np.linspace(0.0, 0.99, 12):
    found = sparse.allocate(curves, sizes, float(target))
    gone, cost = spent(curves, sizes, found)
    assert gone >= target * sum(sizes.values()) - 1e-6
    costs.append(cost)
  assert costs[0] == 0.0 and (np.diff(costs) >= 0).all()


def test_few_bins_still_meet_the_target_and_cost_little_more():
  random = np.random.default_rng(1)
  sizes = {f"l{i}": int(n) for i, n in enumerate(random.integers(50, 5000, 5))}
  curves = {path: np.sort(random.random(101)) for path in sizes}
  exact = spent(curves, sizes, sparse.allocate(curves, sizes, 0.8, bins=10**9))
  coarse = spent(curves, sizes, sparse.allocate(curves, sizes, 0.8, bins=50))
  assert coarse[0] >= 0.8 * sum(sizes.values())
  assert exact[1] <= coarse[1] < 1.05 * exact[1]


def test_even_one_bin_prunes_what_all_layers_together_have():
  sizes, curve = {"a": 7, "b": 5}, np.array([0.0, 1.0, 5.0])
  found = sparse.allocate({p: curve for p in sizes}, sizes, 12, bins=1)
  assert found == {"a": 2, "b": 2}


def test_earlier_rounds_bound_later_ones():
  sizes = {"a": 10, "b": 10}
  curves = {"a": np.array([0, 1, 5.0]), "b": np.array([0, 3, 4.0])}
  assert sparse.allocate(curves, sizes, 5) == {"a": 1, "b": 0}
  assert sparse.allocate(curves, sizes, 5, least={"b": 1}) == {"a": 0, "b": 1}


def apply(params, x):
  return (
    jnp.tanh(x @ params["a"]["kernel"] + params["a"]["bias"][None])
    @ (params["b"])
  )


PARAMS = problems.tree(0, {"a": {"kernel": (3, 8), "bias": (8,)}, "b": (8, 4)})
X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def curve(params, path, amounts, over):
  """Return the distortions of a leaf pruned alone, in NumPy."""

  def numpy(p):
    return np.tanh(X @ p["a"]["kernel"] + p["a"]["bias"]) @ p["b"]

  whole, result = numpy(params), []
  for amount in amounts:
    leaves = dict(ws.trees.named(params))
    flat = leaves[path].ravel().copy()
    order = np.argsort(-np.abs(flat), kind="stable")
    flat[order[len(flat) - int(amount * len(flat) + 1e-6) :]] = 0
    leaves[path] = flat.reshape(leaves[path].shape)
    cut = jax.tree.unflatten(jax.tree.structure(params), leaves.values())
    each = ((numpy(cut) - whole) ** 2).mean(1)
    result.append(each.mean() if over == "mean" else each.max())
  return result


@pytest.mark.parametrize("over", ["mean", "max"])
@pytest.mark.parametrize("together", [1, 4])
def test_curves_are_numpys(over, together):
  found = sparse.curves(
    apply, PARAMS, {"x": X}, 7, over=over, together=together
  )
  assert sorted(found) == ["a/kernel", "b"]
  for path, values in found.items():
    wanted = curve(PARAMS, path, np.linspace(0, 1, 7), over)
    np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-6)
    assert values[0] == 0.0
  listed = sparse.curves(apply, PARAMS, X, np.linspace(0, 1, 7), over=over)
  np.testing.assert_array_equal(listed["b"], found["b"])


def test_curves_prune_what_by_layer_prunes():
  ties = jax.tree.map(lambda x: np.round(2 * x), PARAMS)
  found = sparse.curves(apply, ties, X, [0.4], only="a/kernel")
  cut = sparse.apply(ties, sparse.by_layer(ties, {"a/kernel": 0.4}))
  error = ((apply(cut, X) - apply(ties, X)) ** 2).mean()
  np.testing.assert_allclose(found["a/kernel"], [error], rtol=1e-5)


def test_layers_that_reach_different_outputs_add_up_exactly():
  """The law behind the paper: then the joint distortion is the sum."""
  params = problems.tree(1, {"a": (3, 4), "b": (3, 5)})

  def both(p, x):
    return jnp.concatenate([x @ p["a"], x @ p["b"]], axis=1)

  found = sparse.curves(both, params, X, 5)
  cut = sparse.apply(params, sparse.by_layer(params, {"a": 0.5, "b": 0.75}))
  joint = ((both(cut, X) - both(params, X)) ** 2).mean()
  np.testing.assert_allclose(joint, found["a"][2] + found["b"][3], rtol=1e-5)


def test_the_split_distorts_less_than_equal_shares():
  found = sparse.curves(apply, PARAMS, X, 101)
  sizes = {path: ws.trees.named(PARAMS)[path].size for path in found}
  split = sparse.allocate(found, sizes, 0.5)
  assert spent(found, sizes, split)[1] <= sum(c[50] for c in found.values())


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: sparse.allocate({}, {}, 0.5), "no curves"),
    (lambda: sparse.allocate({"a": [0, 1]}, {"b": 3}, 0.5), "'a' is in one"),
    (
      lambda: sparse.allocate(
        {"a": [0, 1], "b": [0, 1, 2]}, {"a": 1, "b": 1}, 1
      ),
      r"'b' is \(3,\)",
    ),
    (lambda: sparse.allocate({"a": [0.0, np.nan]}, {"a": 3}, 0.5), "NaN"),
    (lambda: sparse.allocate({"a": [0]}, {"a": 3}, 0.5), "2 or more"),
    (lambda: sparse.allocate({"a": [0, 1]}, {"a": 3}, -0.1), "target is -0.1"),
    (lambda: sparse.allocate({"a": [0, 1]}, {"a": 3}, 1.0), "target is 1.0"),
    (lambda: sparse.allocate({"a": [0, 1]}, {"a": 3}, 4), "target is 4"),
    (
      lambda: sparse.allocate({"a": [0, 1]}, {"a": 3}, np.nan),
      "target is nan",
    ),
    (
      lambda: sparse.allocate({"a": [0, 1]}, {"a": 3}, 1, least={"b": 1}),
      "'b' is no path",
    ),
    (
      lambda: sparse.allocate({"a": [0, 1]}, {"a": 3}, 1, least={"a": 2}),
      "no finite sum",
    ),
    (lambda: sparse.curves(apply, PARAMS, X[:0], 3), "no examples"),
    (lambda: sparse.curves(apply, PARAMS, X, [1.5]), "outside of"),
    (lambda: sparse.curves(apply, PARAMS, X, 1), "amounts is 1"),
    (lambda: sparse.curves(apply, PARAMS, X, 3, over="sum"), "over is 'sum'"),
    (
      lambda: sparse.curves(apply, {**PARAMS, "c": np.ones((2, 2))}, X, 3),
      "pruning 'c' does not",
    ),
    (
      lambda: sparse.curves(apply, {**PARAMS, "b": PARAMS["b"] * np.nan}, X, 3),
      "NaN in 'b'",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
