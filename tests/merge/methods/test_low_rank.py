"""Task vectors of low rank."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import merge
from weightspace.merge.core import steps


def make(seed=0):
  rng = np.random.default_rng(seed)
  return {
    "w": jnp.asarray(rng.normal(size=(8, 6)), jnp.float32),
    "conv": {"kernel": jnp.asarray(rng.normal(size=(2, 2, 3, 4)), "f4")},
    "bias": jnp.asarray(rng.normal(size=6), jnp.float32),
  }


def reference(x, share):
  u, s, vt = np.linalg.svd(np.asarray(x, np.float64), full_matrices=False)
  k = max(1, int(share * len(s)))
  error = np.sqrt((s[k:] ** 2).sum() / (s**2).sum())
  return u[:, :k] * s[:k] @ vt[:k], error


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_it_is_the_truncated_svd(share):
  delta = make()
  kept = merge.compress(delta, share)
  found = merge.expand(kept, delta)
  for path, shape in {"w": (8, 6), "conv/kernel": (12, 4)}.items():
    x = np.asarray(ws.trees.named(delta)[path]).reshape(shape)
    expected, error = reference(x, share)
    y = np.asarray(ws.trees.named(found)[path]).reshape(shape)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(
      ws.trees.named(kept.error)[path], error, atol=1e-5
    )
  np.testing.assert_array_equal(found["bias"], delta["bias"])


def test_a_random_sketch_finds_what_is_there_and_says_what_it_missed():
  rng = np.random.default_rng(0)
  low = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 30))
  noisy = low + 0.1 * rng.normal(size=low.shape)
  key = jax.random.key(0)
  exact = merge.compress({"w": jnp.asarray(low, "f4")}, 0.1, "random", key)
  assert exact.error["w"] < 1e-5
  delta = {"w": jnp.asarray(noisy, "f4")}
  best = float(merge.compress(delta, 0.1).error["w"])
  found = merge.compress(delta, 0.1, "random", key)
  assert best - 1e-5 <= float(found.error["w"]) <= 1.05 * best
  missed = np.linalg.norm(merge.expand(found, delta)["w"] - noisy)
  np.testing.assert_allclose(
    found.error["w"], missed / np.linalg.norm(noisy), rtol=1e-4
  )


def test_truncation_composes_with_a_merge_in_every_way():
  delta = make()
  base = jax.tree.map(lambda x: 0.5 * x, make(1))
  stack = jax.tree.map(lambda b, d: jnp.stack([b + d, b - 2 * d]), base, delta)
  recipe = merge.on_deltas(merge.chain(merge.truncated(0.5), steps.mean))
  found = recipe(stack, base=base)
  expected = base["w"] - 0.5 * reference(delta["w"], 0.5)[0]
  np.testing.assert_allclose(found["w"], expected, atol=1e-5)
  for other in (
    jax.jit(lambda s, b: recipe(s, base=b))(stack, base),
    merge.run(recipe, ws.unstack(stack), base),
  ):
    for x, y in zip(jax.tree.leaves(other), jax.tree.leaves(found)):
      np.testing.assert_allclose(x, y, atol=1e-5)


def test_zero_bfloat16_and_integers():
  delta = {"w": jnp.zeros((3, 2)), "n": jnp.asarray(3), "s": jnp.ones(())}
  kept = merge.compress(delta, 0.5)
  assert float(kept.error["w"]) == 0.0
  assert merge.expand(kept, delta)["n"] == 3
  narrow = {"w": make()["w"].astype(jnp.bfloat16)}
  found = merge.expand(merge.compress(narrow, 1.0), narrow)["w"]
  assert found.dtype == jnp.bfloat16
  wide = np.asarray(narrow["w"], np.float32)
  np.testing.assert_allclose(np.asarray(found, np.float32), wide, atol=0.05)


@pytest.mark.parametrize(
  "call,message",
  [
    (lambda d: merge.compress(d, 1.5), r"share is 1\.5"),
    (lambda d: merge.compress(d, 0.5, "sketch"), "method is 'sketch'"),
    (lambda d: merge.compress(d, 0.5, "random"), "needs key="),
    (lambda d: merge.truncated(-0.1), r"share is -0\.1"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call(make())
