"""Packed vectors: round trips bit by bit, sizes, sums, what is refused."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import parametrize, sparse

KEY = jax.random.key(0)


@pytest.mark.parametrize(
  ("dtype", "density"),
  [(np.float32, 0.1), (np.float32, 1.0), (ml_dtypes.bfloat16, 0.4)],
)
def test_unpacking_is_pruning_bit_for_bit(dtype, density):
  params = problems.tree(0, dtype=dtype)
  params["out"][0] = -0.0
  mask = sparse.random(KEY, params, density, only="*")
  packed = sparse.pack(params, mask)
  wanted = sparse.apply(params, mask)
  for found in (sparse.unpack(packed), jax.jit(sparse.unpack)(packed)):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
      assert a.dtype == dtype
      np.testing.assert_array_equal(np.asarray(a).tobytes(), b.tobytes())


def test_without_a_mask_what_is_zero_is_left_out():
  params = {"w": np.array([[0.0, 1.0, 0.0], [2.0, 0.0, np.nan]], np.float32)}
  packed = sparse.pack(params)
  assert len(packed["w"].values) == 3 and packed["w"].bits.nbytes == 1
  np.testing.assert_array_equal(sparse.unpack(packed)["w"], params["w"])
  none = sparse.pack({"w": np.zeros((2, 3), np.float32)})
  assert sparse.unpack(none)["w"].tolist() == [[0.0] * 3] * 2


def test_a_packed_tree_takes_bits_and_what_is_kept():
  params = {"w": np.random.default_rng(0).normal(size=(100, 80))}
  params = {"w": params["w"].astype(np.float32)}
  packed = sparse.pack(params, sparse.random(KEY, params, 0.05))
  held = sum(x.nbytes for x in jax.tree.leaves(packed))
  assert held == 8000 // 8 + 4 * 400


def test_packed_leaves_are_computed_leaves():
  packed = sparse.pack(problems.tree(0))
  problems.close(parametrize.value(packed), sparse.unpack(packed), 0, 0)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_merging_is_task_arithmetic(dtype):
  base = problems.tree(9, dtype=dtype)
  deltas = problems.models(3)
  keep = [
    sparse.random(jax.random.key(m), d, 0.3, only="*")
    for m, d in enumerate(deltas)
  ]
  cut = [sparse.apply(d, k) for d, k in zip(deltas, keep)]
  packed = [sparse.pack(d, k) for d, k in zip(deltas, keep)]
  weights = [0.5, -1.0, 2.0]
  found = sparse.merged(base, packed, weights)
  total = ws.weighted_sum(ws.stack(cut), jnp.asarray(weights))
  wanted = jax.tree.map(
    lambda x, d: (x.astype(np.float32) + d).astype(dtype), base, total
  )
  problems.close(found, wanted, 0 if dtype == np.float32 else 1e-2, 1e-5)
  inside = jax.jit(lambda b, p: sparse.merged(b, p, weights))(base, packed)
  problems.close(inside, found, 1e-2 if dtype != np.float32 else 1e-5)
  problems.close(
    sparse.merged(base, packed), sparse.merged(base, packed, [1, 1, 1]), 0, 0
  )


def test_integers_are_those_of_the_base():
  base = {"n": np.array([3, 4]), "w": np.ones(2, np.float32)}
  delta = sparse.pack({"n": np.array([1, 1]), "w": np.ones(2, np.float32)})
  found = sparse.merged(base, [delta])
  assert found["n"].tolist() == [3, 4] and found["w"].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda p: jax.jit(sparse.pack)(p), "traced values"),
    (lambda p: sparse.pack(p, {"v": np.ones(2, bool)}), "'w' is missing"),
    (lambda p: sparse.merged(p, []), "0 vectors"),
    (lambda p: sparse.merged(p, [sparse.pack(p)], [1.0, 2.0]), r"\(2,\)"),
    (lambda p: sparse.merged(p, [p]), "'w' of vector 0 is ndarray"),
    (
      lambda p: sparse.merged(p, [sparse.pack({"w": np.ones(3)})]),
      r"'w' of vector 0 is \(3,\)",
    ),
    (
      lambda p: sparse.merged(p, [sparse.pack({**p, "v": np.ones(3)})]),
      "'v' of vector 0 is unexpected",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call({"w": np.ones(2, np.float32)})
