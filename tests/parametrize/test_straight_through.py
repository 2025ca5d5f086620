"""StatsQ and learned scales beside NumPy; queries and keys as one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import parametrize as p

RNG = np.random.default_rng(0)


def normal(*shape):
  return RNG.normal(size=shape).astype(np.float32)


def reference(w, bits):
  axes = tuple(range(w.ndim - 1)) if w.ndim > 1 else None
  s = 2 * np.abs(w).mean(axes, keepdims=True)
  n = 2 ** (bits - 1)
  share = np.clip(w / s, -1, 1 - 1e-6)
  return s * (np.round(share * n - 0.5) + 0.5) / n


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(40,), (30, 5), (3, 3, 4, 6)])
def test_levels_beside_numpy(bits, shape):
  w = normal(*shape)
  np.testing.assert_allclose(
    p.statsq(w, bits), reference(w, bits), rtol=1e-5, atol=1e-6
  )


def test_two_bits_have_four_exact_levels():
  w = normal(500, 3)
  s = 2 * np.abs(w).mean(0)
  shares = np.unique((np.asarray(p.statsq(w, bits=2)) / s).round(5))
  assert shares.tolist() == [-0.75, -0.25, 0.25, 0.75]
  zero = p.statsq(jnp.array([0.0, 1.0, -1.0]), 2)
  assert zero[0] > 0  # there is no level at zero


def test_scale_of_a_bell():
  w = normal(200_000)
  top = np.abs(p.statsq(0.5 * w, 2)).max() / 0.75
  np.testing.assert_allclose(top, 2 * 0.5 * np.sqrt(2 / np.pi), rtol=1e-2)


def test_levels_scale_with_the_weights():
  w = normal(20, 4)
  np.testing.assert_allclose(p.statsq(4 * w), 4 * p.statsq(w), rtol=1e-6)


def test_slopes_go_straight_through():
  w, slope = normal(6, 3), normal(6, 3)
  got = jax.grad(lambda w: jnp.sum(slope * p.statsq(w, 2)))(jnp.asarray(w))
  np.testing.assert_array_equal(got, slope)
  got = jax.jit(jax.vmap(lambda w: p.statsq(w, 2)))(np.stack([w, 2 * w]))
  np.testing.assert_allclose(got[1], 2 * got[0], rtol=1e-6)


def test_dtypes():
  w = jnp.asarray(normal(6, 3), "bfloat16")
  assert p.statsq(w).dtype == jnp.bfloat16
  made = p.attach({"w": w}, "w", p.stats_quantised(2))
  assert p.value(made)["w"].dtype == jnp.bfloat16
  assert made["w"].codes().dtype == jnp.int8


def test_codes_name_the_levels():
  for make in (p.stats_quantised(3), p.scale_learned(3)):
    one = make(None, jnp.asarray(normal(50, 2)))
    codes = np.asarray(one.codes(), np.float32)
    assert codes.min() >= -4 and codes.max() <= 3
    s = 2 * np.abs(np.asarray(one.w)).mean(0)
    np.testing.assert_allclose(one.value(), s * (codes + 0.5) / 4, rtol=1e-5)


def test_slopes_of_a_learned_scale():
  w = np.array([[0.3], [5.0], [-0.9]], np.float32)
  one = p.LearnedScale(jnp.asarray(w), jnp.ones((1, 1)), 2)
  got = jax.grad(lambda one: one.value().sum())(one)
  assert got.w.ravel().tolist() == [1.0, 0.0, 1.0]  # beyond the scale: none
  share = np.clip(w, -1, 1 - 1e-6)
  level = (np.round(share * 2 - 0.5) + 0.5) / 2
  inside = np.array([[1.0], [0.0], [1.0]])
  want = (level - inside * w).sum() / np.sqrt(3 * 2)
  np.testing.assert_allclose(got.scale.item(), want, rtol=1e-4)


@pytest.mark.parametrize("bits", [1, 9, 2.0, True])
def test_other_bits(bits):
  with pytest.raises(ValueError, match="bits is"):
    p.statsq(jnp.ones(3), bits)


def test_an_output_without_weights():
  for bad in (jnp.zeros((3, 2)).at[0, 0].set(1.0), jnp.full(3, jnp.nan)):
    with pytest.raises(ValueError, match="all zero or NaN"):
      p.statsq(bad)


def test_queries_and_keys_as_one():
  query, key = normal(8, 2, 4), normal(8, 2, 4)
  x = normal(5, 8)
  heads = p.query_key({"query": {"kernel": query}, "key": {"kernel": key}})
  assert heads.shape == (2, 8, 8)
  q, k = np.einsum("tc,chd->htd", x, query), np.einsum("tc,chd->htd", x, key)
  np.testing.assert_allclose(
    np.einsum("tc,hce,se->hts", x, heads, x),
    np.einsum("htd,hsd->hts", q, k),
    rtol=1e-3,
    atol=1e-4,
  )
  one = {"query": {"kernel": query}, "key": {"kernel": key[:, :1]}}
  grouped = p.query_key(one)  # one key for both queries
  np.testing.assert_allclose(grouped[1], query[:, 1] @ key[:, 0].T, rtol=1e-4)


def test_queries_and_keys_of_a_language_model():
  model = ws.models.build("lm", vocab=11, layers=1, width=16, heads=2)
  tokens = jnp.zeros((1, 3), jnp.int32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)
  params = jax.tree.map(lambda x: jnp.ones(x.shape), shapes)
  assert p.query_key(params["block_0"]["attention"]).shape == (2, 16, 16)


@pytest.mark.parametrize(
  ("attention", "message"),
  [
    ({"query": {"kernel": 0, "bias": 0}, "key": {"kernel": 0}}, "no bias"),
    ({"query": {"kernel": np.ones((2, 1, 3))}}, "'key' has"),
    (
      {
        "query": {"kernel": np.ones((2, 1, 3))},
        "key": {"kernel": np.ones((2, 1, 4))},
      },
      "of one C and size",
    ),
  ],
)
def test_what_query_key_refuses(attention, message):
  with pytest.raises(ValueError, match=message):
    p.query_key(attention)
