"""Bone, MiSS and Kronecker sums beside NumPy in torch's orientation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace import parametrize as p

RNG = np.random.default_rng(0)


def normal(*shape):
  return RNG.normal(size=shape).astype(np.float32)


def bone_in_torch(weight, b):
  """Return W' of W [out, in]: every r x r block W b_o + b_o, by loops."""
  r, changed = b.shape[-1], np.zeros_like(weight)
  for o in range(weight.shape[0] // r):
    for i in range(weight.shape[1] // r):
      at = np.s_[o * r : (o + 1) * r, i * r : (i + 1) * r]
      changed[at] = weight[at] + weight[at] @ b[o] + b[o]
  return changed


def test_bone_is_what_torch_has():
  kernel, b = normal(6, 4), 0.3 * normal(2, 2, 2)
  want = bone_in_torch(kernel.T, b).T
  np.testing.assert_allclose(p.Bone(b).value_of(kernel), want, atol=1e-6)
  for o in range(2):  # the blocks of the kernel: K + b' (K + I)
    block = kernel[2:4, 2 * o : 2 * o + 2]
    got = p.Bone(b).value_of(kernel)[2:4, 2 * o : 2 * o + 2]
    np.testing.assert_allclose(
      got, block + b[o].T @ (block + np.eye(2)), atol=1e-6
    )


def test_bone_of_nothing_is_its_blocks():
  b = normal(3, 2, 2)
  found = np.asarray(p.Bone(b).value_of(np.zeros((4, 6), np.float32)))
  for i in range(2):
    for o in range(3):
      np.testing.assert_allclose(
        found[2 * i : 2 * i + 2, 2 * o : 2 * o + 2], b[o].T, atol=1e-6
      )


def test_bone_is_not_of_low_rank():
  kernel = normal(8, 8)
  change = np.asarray(p.Bone(0.1 * normal(4, 2, 2)).value_of(kernel)) - kernel
  assert np.linalg.matrix_rank(change, tol=1e-4) == 8


@pytest.mark.parametrize("size", [1, 2, 3])
def test_bone_is_undone(size):
  kernel, b = normal(6, 6), 0.3 * normal(6 // size, size, size)
  changed = p.Bone(b).value_of(kernel)
  np.testing.assert_allclose(
    p.Bone(b).kernel_of(changed), kernel, rtol=1e-4, atol=1e-5
  )


def test_unmerge_refuses_singular_blocks():
  b = 0.1 * normal(3, 2, 2)
  b[1] = -np.eye(2)
  kernel = jnp.asarray(normal(4, 6))
  merged = p.merge({"w": p.Changed(kernel, p.Bone(jnp.asarray(b)))})
  with pytest.raises(ValueError, match=r"'w'.*group 1 is singular"):
    p.unmerge(merged)
  for bad in (np.array([[-1.0, 5.0], [0.0, 2.0]]), -np.ones((2, 2)) / 2):
    b[1] = bad
    with pytest.raises(ValueError, match="singular"):
      p.Bone(b).kernel_of(kernel)
  big = np.broadcast_to(-0.5 * np.eye(64, dtype=np.float32), (1, 64, 64))
  p.Bone(big).kernel_of(jnp.ones((64, 64)))  # det 5e-20, but regular


def test_miss_is_lora_with_stacked_identities():
  kernel, d = normal(6, 5), normal(2, 5)
  found = p.Miss(d).value_of(kernel)
  stacked = np.tile(np.eye(2, dtype=np.float32), (3, 1))
  np.testing.assert_allclose(
    found, p.Adapter(stacked, d).value_of(kernel), atol=1e-6
  )
  x = normal(7, 6)
  shards = sum(x[:, 2 * g : 2 * g + 2] for g in range(3)) @ d
  np.testing.assert_allclose(x @ found, x @ kernel + shards, atol=1e-4)


def test_miss_of_inputs_that_do_not_divide():
  d = normal(3, 2)
  found = p.Miss(d).value_of(np.zeros((5, 2), np.float32))
  np.testing.assert_array_equal(found, d[[0, 1, 2, 0, 1]])


def test_gradient_of_miss_at_zero():
  x, slope = normal(4), normal(3)

  def loss(d):
    return (x @ p.Miss(d).value_of(jnp.zeros((4, 3)))) @ slope

  got = jax.grad(loss)(jnp.zeros((2, 3)))
  want = np.outer(x[:2] + x[2:], slope)
  np.testing.assert_allclose(got, want, atol=1e-6)


def test_counts_are_r_times_out():
  kernel = jnp.zeros((8, 12))
  for make in (p.bone(4), p.miss(4)):
    assert p.count(p.attach({"w": kernel}, "w", make)) == 4 * 12


def test_kronecker_beside_numpy():
  n, k = 3, 2
  rules, left, right = normal(n, n, n), normal(n, 2, k), normal(n, k, 4)
  want = sum(np.kron(rules[i], left[i] @ right[i]) for i in range(n))
  got = p.Kronecker(rules, left, right).value()
  assert got.shape == (6, 12)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
  norm = np.linalg.norm(
    p.Kronecker(rules[:1, :1, :1], left[:1], right[:1]).value()
  )
  product = np.abs(rules[0, 0, 0]) * np.linalg.norm(left[0] @ right[0])
  np.testing.assert_allclose(norm, product, rtol=1e-5)


def test_kronecker_of_one_is_an_adapter():
  left, right = normal(1, 5, 2), normal(1, 2, 3)
  got = p.Kronecker(np.full((1, 1, 1), 0.5, np.float32), left, right).value()
  np.testing.assert_allclose(got, 0.5 * left[0] @ right[0], atol=1e-6)


def test_shared_rules_are_one_array():
  tree = {"a": jnp.ones((4, 6)), "b": jnp.ones((6, 4))}
  made = p.attach(tree, "*", p.kronecker(2, shared=True), jax.random.key(0))
  whole = {"rules": p.rules(jax.random.key(1), 2), "model": made}
  # n k (in / n + out / n) = k (in + out) for each, and the rules once.
  assert p.count(whole) == 2 * (4 + 6) + 2**3
  with pytest.raises(ValueError, match=r"'a'.*rules are None"):
    p.value(made)

  def total(whole):
    found = p.value(p.share(whole["model"], whole["rules"]))
    return found["a"].sum() + found["b"].sum()

  assert total(whole) == 48.0  # zero at the start
  moved = p.attach(
    tree,
    "*",
    lambda k, x: p.Kronecker(
      None, jnp.ones((2, x.shape[0] // 2, 1)), jnp.ones((2, 1, x.shape[1] // 2))
    ),
  )
  slope = jax.grad(total)({"rules": whole["rules"], "model": moved})["rules"]
  np.testing.assert_allclose(slope, np.full((2, 2, 2), 2 * 6.0), rtol=1e-5)


@pytest.mark.parametrize(
  ("one", "kernel", "message"),
  [
    (p.Bone(np.ones((2, 2))), np.ones((4, 4)), r"b is \(2, 2\)"),
    (p.Bone(np.ones((2, 2, 2))), np.ones((3, 4)), "divisor of the 3 inputs"),
    (p.Bone(np.ones((2, 2, 2))), np.ones((4, 6)), r"expected \[in, 4\]"),
    (p.Miss(np.ones(4)), np.ones((4, 4)), r"d is \(4,\)"),
    (p.Miss(np.ones((2, 3))), np.ones((4, 4)), r"expected \[in, 3\]"),
    (
      p.Kronecker(np.ones((2, 2, 2)), np.ones((3, 2, 1)), np.ones((2, 1, 2))),
      np.ones((4, 4)),
      r"left \(3, 2, 1\)",
    ),
  ],
)
def test_what_blocks_refuse(one, kernel, message):
  with pytest.raises(ValueError, match=message):
    one.value_of(kernel)


def test_kronecker_refuses_settings():
  for settings in ({"rank": 0}, {"init": "ones"}):
    with pytest.raises(ValueError, match="kronecker: rank"):
      p.kronecker(2, **settings)
