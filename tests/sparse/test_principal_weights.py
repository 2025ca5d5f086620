"""Principal weights: NumPy's decomposition, laws, budgets."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from tests import problems
from weightspace import matrix_views, sparse


def principal(w, rank, count, largest=True):
  """Return the mask of one matrix, by NumPy in float64."""
  u, s, vt = np.linalg.svd(w.astype(np.float64), full_matrices=False)
  size = np.abs((u[:, :rank] * s[:rank]) @ vt[:rank]).ravel()
  order = np.argsort(-size if largest else size, kind="stable")
  mask = np.zeros(w.size, bool)
  mask[order[:count]] = True
  return mask.reshape(w.shape)


@pytest.mark.parametrize("rank", [1, 3, 7, 20])
@pytest.mark.parametrize("largest", [True, False])
def test_masks_are_numpys(rank, largest):
  w = np.random.default_rng(0).normal(size=(7, 12)).astype(np.float32)
  wanted = principal(w, rank, 20, largest)
  found = sparse.principal(w, rank, count=20, largest=largest)
  np.testing.assert_array_equal(found, wanted)
  inside = jax.jit(
    lambda x: sparse.principal(x, rank, count=20, largest=largest)
  )(w)
  np.testing.assert_array_equal(inside, wanted)
  np.testing.assert_array_equal(
    sparse.principal(3.7 * w, rank, count=20, largest=largest), wanted
  )


def test_rank_one_is_the_largest_products_and_full_rank_magnitude():
  random = np.random.default_rng(1)
  a, b = random.normal(size=(2, 9)).astype(np.float32)
  w = np.outer(a, b)
  found = sparse.principal(w, 1, density=0.2)
  np.testing.assert_array_equal(found, sparse.top(np.abs(w), 0.2))
  noisy = w + random.normal(size=w.shape).astype(np.float32)
  for rank in (9, 50):
    full = sparse.principal(noisy, rank, density=0.2)
    np.testing.assert_array_equal(full, sparse.top(np.abs(noisy), 0.2))


def test_trees_keep_vectors_out_and_views_have_batches():
  params = problems.tree(
    0, {"conv": (3, 3, 4, 8), "dense": {"kernel": (32, 10), "bias": (10,)}}
  )
  mask = sparse.principal(params, 2, count=17)
  assert sparse.counts(mask) == {
    "conv": 17,
    "dense/bias": 0,
    "dense/kernel": 17,
  }
  wanted = principal(params["conv"].reshape(36, 8), 2, 17)
  np.testing.assert_array_equal(mask["conv"].reshape(36, 8), wanted)
  layers = {"w": np.random.default_rng(2).normal(size=(4, 6, 5))}
  layers = {"w": layers["w"].astype(np.float32)}
  view = matrix_views.scanned("blocks")
  scanned = sparse.principal({"blocks": layers}, 2, count=8, view=view)
  scanned = scanned["blocks"]
  for layer, found in zip(layers["w"], scanned["w"]):
    np.testing.assert_array_equal(found, principal(layer, 2, 8))
  one = sparse.principal(params, 2, count=17, only="dense/kernel")
  assert sparse.counts(one)["conv"] == 0


def test_the_budget_of_an_adapter():
  params = {"a": np.eye(6, 10, dtype=np.float32), "b": np.eye(3, dtype="f")}
  counts = sparse.counts(sparse.principal(params, 1, adapter=2))
  assert counts == {"a": min(16 * 2, 60), "b": 9}


def test_low_precision_is_computed_in_float32():
  w = np.random.default_rng(0).normal(size=(8, 8)).astype(ml_dtypes.bfloat16)
  found = sparse.principal(jnp.asarray(w), 2, count=10)
  np.testing.assert_array_equal(
    found, sparse.principal(w.astype(np.float32), 2, count=10)
  )


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda w: sparse.principal(w, 0, count=1), "rank 0"),
    (lambda w: sparse.principal(w, 1), "one budget"),
    (lambda w: sparse.principal(w, 1, 0.5, count=3), "one budget"),
    (lambda w: sparse.principal({"w": w}, 1, count=13), "count 13 of 'w'"),
    (lambda w: sparse.principal({"w": w}, 1, count=0), "count 0 of 'w'"),
    (lambda w: sparse.principal(w, 1, 1.5), "density is 1.5"),
    (lambda w: sparse.principal({"b": w[0]}, 1, count=1), "no leaf has 2 axes"),
    (
      lambda w: sparse.principal({"bias": w}, 1, count=1, only="bias"),
      "'bias' .* is no matrix",
    ),
    (lambda w: sparse.principal({"w": w * np.nan}, 1, count=1), "NaN in 'w'"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call(np.ones((3, 4), np.float32))
