"""Populations as matrices and back; the exact basis of few directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weightspace as ws
from tests import problems


def test_columns_are_leaves_in_order():
  stack = problems.stack(3)
  rows, _ = ws.generate.flatten(stack)
  by_hand = np.concatenate(
    [np.asarray(x).reshape(3, -1) for x in ws.trees.named(stack).values()], 1
  )
  assert np.array_equal(rows, by_hand)


def test_a_round_trip_is_exact():
  stack = problems.stack(3)
  rows, unflatten = ws.generate.flatten(stack)
  problems.close(unflatten(rows), stack, 0, 0)
  problems.close(unflatten(rows[1]), ws.unstack(stack)[1], 0, 0)
  again = unflatten(rows.reshape(3, 1, -1))
  assert again["out"].shape == (3, 1, 4, 2)


@settings(max_examples=20, deadline=None)
@given(
  st.lists(
    st.lists(st.integers(0, 3), max_size=3).map(tuple), min_size=1, max_size=4
  ),
  st.integers(1, 4),
)
def test_any_shapes_round_trip(shapes, count):
  tree = {
    str(i): np.arange(count * int(np.prod(s)), dtype=np.float32).reshape(
      count, *s
    )
    for i, s in enumerate(shapes)
  }
  rows, unflatten = ws.generate.flatten(tree)
  assert rows.shape == (count, sum(int(np.prod(s)) for s in shapes))
  problems.close(unflatten(rows), tree, 0, 0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtypes_come_back(dtype):
  stack = {"a": jnp.ones((2, 3), dtype), "b": jnp.ones((2,), jnp.float32)}
  rows, unflatten = ws.generate.flatten(stack)
  assert rows.dtype == jnp.float32
  assert [x.dtype for x in jax.tree.leaves(unflatten(rows))] == [
    dtype,
    jnp.float32,
  ]


def test_it_runs_under_jit():
  stack = problems.stack(3)

  @jax.jit
  def doubled(stack):
    rows, unflatten = ws.generate.flatten(stack)
    return unflatten(2.0 * rows)

  expected = jax.tree.map(lambda x: 2 * x, stack)
  problems.close(doubled(stack), expected, 0, 0)


def test_what_cannot_be_flattened_is_named():
  with pytest.raises(ValueError, match="'step' is int32, expected floating"):
    ws.generate.flatten({"step": jnp.ones((2,), jnp.int32)})
  with pytest.raises(ValueError, match=r"NaN in 'a/w' of model 1"):
    ws.generate.flatten({"a": {"w": jnp.array([[0.0], [jnp.nan]])}})
  with pytest.raises(ValueError, match="'b' has 3 models, expected 2"):
    ws.generate.flatten({"a": jnp.ones((2, 1)), "b": jnp.ones((3, 1))})
  _, unflatten = ws.generate.flatten({"w": jnp.ones((2, 5))})
  with pytest.raises(ValueError, match=r"\(4,\), expected \[..., 5\]"):
    unflatten(jnp.ones(4))


def test_all_directions_reconstruct_all_members():
  stack = problems.stack(5)
  full = ws.generate.basis(stack, 4)
  problems.close(full.decode(full.encode(stack)), stack, 1e-5, 1e-5)
  assert np.isclose(full.explained.sum(), 1.0, atol=1e-6)
  gram = full.directions @ full.directions.T
  assert np.allclose(gram, np.eye(4), atol=1e-5)


def test_it_is_numpys_truncated_decomposition():
  stack = problems.stack(6)
  rows = np.asarray(ws.generate.flatten(stack)[0], np.float64)
  u, s, v = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
  expected = rows.mean(0) + u[:, :2] * s[:2] @ v[:2]
  found = ws.generate.basis(stack, 2)
  again = ws.generate.flatten(found.decode(found.encode(stack)))[0]
  assert np.allclose(again, expected, atol=1e-5)
  assert np.allclose(found.deviations, s[:2] / np.sqrt(5), rtol=1e-5)
  assert np.allclose(found.explained, (s**2 / (s**2).sum())[:2], rtol=1e-4)


def test_the_sign_of_a_direction_is_fixed():
  stack = problems.stack(5)
  flipped = jax.tree.map(lambda x: x[::-1], stack)
  a, b = (ws.generate.basis(s, 3).directions for s in (stack, flipped))
  assert np.allclose(a, b, atol=1e-4)
  assert (np.take_along_axis(a, np.abs(a).argmax(1)[:, None], 1) > 0).all()


def test_a_basis_keeps_dtypes_and_is_a_pytree():
  stack = problems.stack(4, np.float32)
  low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), stack)
  found = ws.generate.basis(low, 3)
  assert found.directions.dtype == jnp.float32
  back = jax.jit(lambda basis, z: basis.decode(z))(found, found.encode(low))
  for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(low)):
    assert x.dtype == jnp.bfloat16
    assert np.allclose(
      np.asarray(x, np.float32), np.asarray(y, np.float32), rtol=1e-2, atol=1e-2
    )


def test_equal_members_have_no_variance():
  stack = {"w": jnp.ones((3, 4))}
  found = ws.generate.basis(stack, 2)
  assert np.array_equal(found.explained, np.zeros(2))
  problems.close(found.decode(found.encode(stack)), stack)


@pytest.mark.parametrize("d", [0, 3, 9])
def test_too_many_directions_are_refused(d):
  with pytest.raises(ValueError, match=rf"d is {d}, expected 1 to 2 for 3"):
    ws.generate.basis({"w": jnp.ones((3, 4))}, d)


def test_models_of_another_size_are_refused():
  found = ws.generate.basis({"w": jnp.arange(12.0).reshape(3, 4)}, 1)
  with pytest.raises(ValueError, match="have 5 parameters, expected 4"):
    found.encode({"w": jnp.ones((2, 5))})
