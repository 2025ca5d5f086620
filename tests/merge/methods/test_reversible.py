"""Reversible merging of low-rank factors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace import merge

COUNT, RANK = 5, 3
SHAPES = {"dense": {"a": (8, RANK), "b": (RANK, 6)}, "gain": (4,), "s": ()}


def make(seed=0, dtype=jnp.float32):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda shape: jnp.asarray(rng.normal(size=(COUNT, *shape)), dtype),
    SHAPES,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def reference(vectors, p):
  """[P, r, M] -> the closest with p basis vectors a position, and the error."""
  found, lost = [], 0.0
  for x in np.asarray(vectors, np.float64):
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    found.append(u[:, :p] * s[:p] @ vt[:p])
    lost += (s[p:] ** 2).sum()
  return np.stack(found), lost


@pytest.mark.parametrize("p", [1, 2, 3])
def test_positions_are_the_reference(p):
  stack = make()
  kept = merge.rmm(p)(stack)
  found = merge.reconstruct(kept)["dense"]
  a, lost = reference(np.moveaxis(stack["dense"]["a"], 0, -1), p)
  np.testing.assert_allclose(np.moveaxis(found["a"], 0, -1), a, atol=1e-5)
  np.testing.assert_allclose(kept.lost["dense"]["a"], lost, atol=1e-4)
  columns = np.asarray(stack["dense"]["b"]).transpose(2, 1, 0)
  b, lost = reference(columns, p)
  np.testing.assert_allclose(found["b"].transpose(2, 1, 0), b, atol=1e-5)
  np.testing.assert_allclose(kept.lost["dense"]["b"], lost, atol=1e-4)


@pytest.mark.parametrize("scope", ["position", "layer"])
def test_the_error_is_the_tail_and_falls_to_zero(scope):
  stack = make()
  last = np.inf
  for p in range(1, COUNT + 1):
    kept = merge.rmm(p, scope)(stack)
    errors = jax.tree.map(
      lambda x, y: float(((x - y) ** 2).sum()), stack, merge.reconstruct(kept)
    )
    for error, lost in zip(jax.tree.leaves(errors), jax.tree.leaves(kept.lost)):
      np.testing.assert_allclose(error, lost, atol=1e-4)
    total = sum(jax.tree.leaves(errors))
    assert total <= last
    last = total
  assert last < 1e-9
  for x, y in zip(
    jax.tree.leaves(stack), jax.tree.leaves(merge.reconstruct(kept))
  ):
    np.testing.assert_allclose(x, y, atol=1e-5)


def test_positions_lose_no_more_than_layers():
  stack = make()
  for p in (1, 2, 3):
    own, shared = merge.rmm(p)(stack).lost, merge.rmm(p, "layer")(stack).lost
    for x, y in zip(jax.tree.leaves(own), jax.tree.leaves(shared)):
      assert x <= y + 1e-5


def test_layers_share_their_coefficients():
  stack = {"a": make()["dense"]["a"]}
  kept = merge.rmm(2, "layer")(stack)
  assert kept.coefficients["a"].shape == (1, 1, 2, COUNT)
  vectors = np.asarray(stack["a"]).reshape(1, COUNT, -1).swapaxes(1, 2)
  expected = reference(vectors, 2)[0][0].T.reshape(COUNT, 8, RANK)
  np.testing.assert_allclose(merge.reconstruct(kept)["a"], expected, atol=1e-5)


def test_one_model_alone_and_what_is_stored():
  stack = make()
  kept = merge.rmm(2)(stack)
  every = merge.reconstruct(kept)
  for x, y in zip(
    jax.tree.leaves(merge.reconstruct(kept, 3)), jax.tree.leaves(every)
  ):
    np.testing.assert_allclose(x, y[3], atol=1e-5)
  factors = merge.rmm(2)({"a": stack["dense"]["a"]})
  share = 2 * (RANK + COUNT) / (RANK * COUNT)
  np.testing.assert_allclose(merge.stored_share(factors), share)


def test_the_published_share():
  factors = {"a": jnp.zeros((6, 2, 16))}  # M = 6, r = 16, p = 3
  kept = merge.rmm(3)(factors)
  assert merge.stored_share(kept) == 0.6875
  assert float(kept.lost["a"]) == 0.0


def test_jit_and_bfloat16():
  stack = make(dtype=jnp.bfloat16)
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), stack)
  kept = jax.jit(merge.rmm(4))(stack)
  found = merge.reconstruct(kept)
  for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wide)):
    np.testing.assert_allclose(x, y, atol=2e-5)


@pytest.mark.parametrize(
  "call,message",
  [
    (lambda s: merge.rmm(0), "basis is 0"),
    (lambda s: merge.rmm(1, "row"), "scope is 'row'"),
    (lambda s: merge.rmm(1)({"n": jnp.arange(3)}), "'n' is int32"),
    (lambda s: merge.reconstruct(merge.rmm(1)(s), 9), "expected 0 to 4"),
    (lambda s: merge.rmm(1)({"a": jnp.full((2, 2), jnp.nan)}), "NaN in 'a'"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call(make())
