"""Masks by scores: a sorted reference, ties, dtypes, traced shares, meshes."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weightspace as ws
from tests import problems
from weightspace import sparse

KEY = jax.random.key(0)


def kept(density, entries):
  return max(1, int(density * entries + 1e-6))


def reference(scores, k):
  """Return the mask of the k largest of a flat array, first come first."""
  order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
  mask = np.zeros(len(scores), bool)
  mask[order[:k]] = True
  return mask


def by_leaf(tree, density):
  return jax.tree.map(
    lambda x: reference(x.ravel(), kept(density, x.size)).reshape(x.shape), tree
  )


def over_all(tree, density):
  leaves, structure = jax.tree.flatten(tree)
  every = np.concatenate([x.ravel() for x in leaves])
  mask = reference(every, kept(density, len(every)))
  parts = np.split(mask, np.cumsum([x.size for x in leaves])[:-1])
  return jax.tree.unflatten(
    structure, [m.reshape(x.shape) for m, x in zip(parts, leaves)]
  )


def by_row(tree, density):
  def leaf(x):
    rows = x.reshape(-1, x.shape[-1] if x.ndim else 1)
    k = kept(density, rows.shape[1])
    return np.stack([reference(row, k) for row in rows]).reshape(x.shape)

  return jax.tree.map(leaf, tree)


# One program for all densities and values.
INSIDE = jax.jit(sparse.top, static_argnames="scope")
REFERENCES = {"leaf": by_leaf, "global": over_all, "row": by_row}


@pytest.mark.parametrize("scope", REFERENCES)
@pytest.mark.parametrize("density", [0.01, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("values", ["normal", "ties", "equal"])
def test_top_is_the_sorted_reference(scope, density, values):
  tree = problems.tree(1, {"a": (11, 6), "b": (9,), "c": (2, 3, 4)})
  if values == "ties":
    tree = jax.tree.map(lambda x: np.round(x).astype(np.float32), tree)
  if values == "equal":
    tree = jax.tree.map(np.zeros_like, tree)
  wanted = REFERENCES[scope](tree, density)
  problems.close(sparse.top(tree, density, scope), wanted, 0, 0)
  problems.close(INSIDE(tree, density, scope), wanted, 0, 0)


@given(
  st.lists(  # of one length, so that one program does them all
    st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1e-40, 0.5, np.inf]),
    min_size=8,
    max_size=8,
  ),
  st.floats(0.01, 1.0),
)
@settings(max_examples=40, deadline=None)
def test_awkward_numbers_are_ordered_as_numpy_orders_them(scores, density):
  scores = np.array([*scores, -np.inf], np.float32)
  found = sparse.top(jnp.asarray(scores), density)
  k = kept(round(density, 6), len(scores))
  wanted = reference(scores, kept(density, len(scores)))
  assert int(found.sum()) in (k, wanted.sum())
  np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
  "dtype",
  [np.float16, ml_dtypes.bfloat16, np.int32, np.int8, np.uint8, bool],
)
def test_every_real_dtype_has_its_order(dtype):
  x = (np.random.default_rng(0).normal(size=300) * 50).round().astype(np.int32)
  x = np.clip(x, -100, 100)
  x = np.abs(x) if dtype in (np.uint8, bool) else x
  x = x.astype(dtype)
  found = sparse.top(jnp.asarray(x), 0.3)
  np.testing.assert_array_equal(found, reference(x.astype(np.float64), 90))


def test_signs_count_and_the_scores_stay():
  scores = {"w": np.array([-5.0, 1.0, 2.0], np.float32)}
  before = scores["w"].copy()
  assert sparse.top(scores, 0.7)["w"].tolist() == [False, True, True]
  np.testing.assert_array_equal(scores["w"], before)


def test_densities_vmap_and_may_differ_by_leaf():
  x = jnp.asarray(np.random.default_rng(0).normal(size=50).astype(np.float32))
  shares = jnp.array([0.1, 0.5, 1.0])
  found = jax.vmap(lambda d: sparse.top(x, d).sum())(shares)
  assert found.tolist() == [5, 25, 50]
  tree = {"a": {"w": x, "v": x}, "b": x}
  mask = sparse.top(tree, {"a": 0.1, "b": 0.5})
  assert sparse.counts(mask) == {"a/v": 5, "a/w": 5, "b": 25}


def test_a_population_is_masked_member_by_member():
  stack = problems.stack(3)
  found = jax.vmap(lambda p: sparse.top(p, 0.4, "global"))(stack)
  for one, model in zip(ws.unstack(found), problems.models(3)):
    problems.close(one, over_all(model, 0.4), 0, 0)


def test_sharded_scores_have_the_same_mask():
  tree = problems.tree(2, {"a": (8, 6), "b": (4, 3)})
  wanted = sparse.top(tree, 0.3, "global")
  spread = problems.sharded(tree, ("leaf", None))
  problems.close(
    jax.jit(lambda t: sparse.top(t, 0.3, "global"))(spread), wanted
  )


def test_scanned_layers_have_their_own_rows():
  layers = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
  each = jax.vmap(lambda x: sparse.top(x, 0.5))(jnp.asarray(layers))
  assert np.asarray(each).sum((1, 2)).tolist() == [15] * 4


@pytest.mark.parametrize("amount", [0.0, 0.29, 0.5, 1.0])
def test_by_layer_prunes_the_smallest(amount):
  params = problems.tree(0, {"a": (5, 7), "b": (7,)})
  found = sparse.by_layer(params, {"a": amount})
  gone = int(amount * 35 + 1e-6)
  sizes = np.abs(params["a"]).ravel()
  np.testing.assert_array_equal(
    np.asarray(found["a"]).ravel(), reference(sizes, 35 - gone)
  )
  assert np.asarray(found["b"]).all()


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: sparse.top(jnp.ones(3), 0.0), "density is 0.0"),
    (lambda: sparse.top(jnp.ones(3), 1.1), "density is 1.1"),
    (lambda: sparse.top(jnp.ones(3), "all"), "density is all"),
    (lambda: sparse.top(jnp.ones(3), float("nan")), "density is nan"),
    (lambda: sparse.top(jnp.ones(3), 0.5, "tensor"), "scope is 'tensor'"),
    (lambda: sparse.top({}, 0.5), "no scores"),
    (lambda: sparse.top({"w": jnp.ones((0, 3))}, 0.5), "no scores"),
    (lambda: sparse.top({"w": jnp.ones(2, complex)}, 0.5), "'w' is complex64"),
    (lambda: sparse.top({"w": jnp.array([jnp.nan])}, 0.5), "NaN in 'w'"),
    (lambda: sparse.top({"w": KEY}, 0.5), "'w' is key"),
    (
      lambda: sparse.top({"w": jnp.ones(2)}, {"v": 0.5}),
      "density: nothing for 'w'",
    ),
    (
      lambda: sparse.top({"w": jnp.ones(2)}, {"w": 0.5}, "global"),
      "density is a tree",
    ),
    (lambda: sparse.by_layer({"w": jnp.ones(2)}, {"v": 0.5}), "'v' is no path"),
    (lambda: sparse.by_layer({"w": jnp.ones(2)}, {"w": 1.5}), "'w' is 1.5"),
    (
      lambda: sparse.by_layer({"w": jnp.array([jnp.nan])}, {"w": 0.5}),
      "NaN in 'w'",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
