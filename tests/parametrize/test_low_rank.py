"""Changes of low rank beside NumPy, and their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace import parametrize as p

RNG = np.random.default_rng(0)


def normal(*shape):
  return RNG.normal(size=shape).astype(np.float32)


def test_values_beside_numpy():
  kernel, a, b = normal(5, 4), normal(5, 2), normal(2, 4)
  e, inner, outer = normal(2), normal(2), normal(4)
  close = lambda got, want: np.testing.assert_allclose(got, want, atol=1e-5)  # noqa: E731
  close(p.Adapter(a, b, 0.5).value(), 0.5 * a @ b)
  close(p.SvdLora(a, e, b, 2.0).value(), 2.0 * a @ np.diag(e) @ b)
  vera = p.Vera(a, b, inner, outer)
  close(vera.value(), a @ np.diag(inner) @ b @ np.diag(outer))
  close(vera.value_of(kernel), kernel + vera.value())
  size, moved = normal(4), kernel + 0.5 * a @ b
  want = size * moved / np.linalg.norm(moved, axis=0)
  close(p.Dora(a, b, size, 0.5).value_of(kernel), want)


def test_an_adapter_has_rank_r():
  found = np.asarray(p.Adapter(normal(9, 3), normal(3, 7)).value())
  values = np.linalg.svd(found, compute_uv=False)
  assert values[2] > 0.1 and values[3] < 1e-5


def test_a_pruned_triplet_is_none():
  a, b = normal(5, 3), normal(3, 4)
  e = np.array([1.0, 0.0, 2.0], np.float32)
  kept = p.SvdLora(a[:, [0, 2]], e[[0, 2]], b[[0, 2]]).value()
  np.testing.assert_allclose(p.SvdLora(a, e, b).value(), kept, atol=1e-6)
  kernel = jnp.asarray(normal(5, 4))
  none = p.SvdLora(a, np.zeros(3, np.float32), b)
  np.testing.assert_array_equal(none.value_of(kernel), kernel)


def test_permuting_triplets_permutes_nothing_else():
  a, e, b, order = normal(5, 3), normal(3), normal(3, 4), [2, 0, 1]
  np.testing.assert_allclose(
    p.SvdLora(a[:, order], e[order], b[order]).value(),
    p.SvdLora(a, e, b).value(),
    atol=1e-6,
  )


def test_dora_keeps_column_norms_at_its_sizes():
  kernel = jnp.asarray(normal(6, 4))
  one = p.dora(2)(jax.random.key(0), kernel).replace(b=normal(2, 4))
  norms = np.linalg.norm(one.value_of(kernel), axis=0)
  np.testing.assert_allclose(norms, np.linalg.norm(kernel, axis=0), rtol=1e-5)
  zero = p.dora(1)(jax.random.key(0), jnp.zeros((2, 2)))
  assert np.isfinite(zero.value_of(jnp.zeros((2, 2)))).all()


def test_no_gradient_passes_the_norm_of_dora():
  kernel = jnp.asarray(normal(6, 4))
  one = p.dora(2)(jax.random.key(0), kernel)

  def total(b):
    return one.replace(b=b).value_of(kernel).sum()

  moved = kernel + one.a @ one.b
  factor = one.size / np.linalg.norm(moved, axis=0)
  want = np.asarray(one.a).sum(0)[:, None] * factor[None]
  np.testing.assert_allclose(jax.grad(total)(one.b), want, rtol=1e-4)


def test_counts():
  kernel, key = jnp.zeros((6, 4)), jax.random.key(0)
  sizes = {
    p.lora(2): 2 * (6 + 4),
    p.svd_lora(2): 2 * (6 + 4 + 1),
    p.dora(2): 2 * (6 + 4) + 4,
    p.vera(2, key): 2 + 4,
  }
  for make, size in sizes.items():
    assert p.count(p.attach({"w": kernel}, "w", make, key)) == size


def test_vera_shares_its_factors():
  key = jax.random.key(0)
  tree = {"a": jnp.ones((4, 4)), "b": jnp.ones((4, 4)), "c": jnp.ones((4, 2))}
  found = p.attach(tree, "*", p.vera(2, key), jax.random.key(1))
  np.testing.assert_array_equal(found["a"].change.a, found["b"].change.a)
  slope = jax.grad(lambda t: p.value(t)["a"].sum())(found)
  assert not slope["a"].change.a.any() and not slope["a"].change.b.any()
  assert slope["a"].change.outer.any()


def test_lora_starts_within_its_bound():
  a = p.lora(8)(jax.random.key(0), jnp.zeros((400, 9))).a
  assert np.abs(a).max() <= 0.05 and np.std(a) > 0.02


@pytest.mark.parametrize(
  ("one", "message"),
  [
    (p.Adapter(np.ones(3), np.ones((1, 2))), r"factors \(3,\)"),
    (p.SvdLora(np.ones((3, 2)), np.ones(3), np.ones((2, 2))), "e is"),
    (p.Vera(np.ones((3, 2)), np.ones((1, 2)), 1.0, 1.0), "factors"),
  ],
)
def test_factors_that_do_not_fit(one, message):
  with pytest.raises(ValueError, match=message):
    one.value()


def test_a_change_of_another_shape_is_refused():
  one = p.Adapter(np.ones((3, 1)), np.ones((1, 2)))
  with pytest.raises(ValueError, match=r"\(3, 2\), expected the kernel's"):
    one.value_of(np.ones((3, 3)))


MAKES = (p.lora(2), p.dora(2), p.svd_lora(2), p.miss(2), p.bone(2))


@pytest.mark.parametrize("make", MAKES)
def test_low_precision_rounds_once(make):
  kernel = jnp.asarray(normal(6, 4), "bfloat16")
  one = make(jax.random.key(0), kernel)
  one = jax.tree.map(
    lambda x: x + jnp.asarray(0.3 * normal(*jnp.shape(x)), "bfloat16"), one
  )
  widened = jax.tree.map(lambda x: jnp.asarray(x, "float32"), one)
  want = widened.value_of(kernel.astype("float32")).astype("bfloat16")
  np.testing.assert_array_equal(one.value_of(kernel), want)
