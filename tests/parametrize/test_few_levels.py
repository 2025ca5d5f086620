"""Few levels beside NumPy: codes, scales, curves, packing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weightspace import merge
from weightspace import parametrize as p

RNG = np.random.default_rng(0)


def normal(*shape):
  return RNG.normal(size=shape).astype(np.float32)


def reference(w, bits, scope, power=None):
  y = w if power is None else np.sign(w) * np.abs(w) ** np.float32(power)
  axes = tuple(range(w.ndim - 1)) if scope == "row" and w.ndim > 1 else None
  scale = np.abs(y).max(axes, keepdims=True) / np.float32(2 ** (bits - 1) - 1)
  codes = np.round(y / np.where(scale == 0, 1, scale))
  found = codes * scale
  if power is not None:
    found = np.sign(found) * np.abs(found) ** (1 / power)
  return codes, found


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("scope", ["row", "leaf"])
@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 3, 2, 4)])
def test_codes_beside_numpy(bits, scope, shape):
  w = normal(*shape)
  codes, found = reference(w, bits, scope)
  kept = p.quantise(w, bits=bits, scope=scope)
  np.testing.assert_array_equal(kept.codes, codes)
  np.testing.assert_allclose(kept.value(), found, rtol=1e-6)
  assert kept.codes.dtype == jnp.int8 and kept.value().dtype == jnp.float32


def test_power_curve_beside_numpy():
  w = normal(200)
  codes, found = reference(w, 4, "leaf", 0.5)
  kept = p.quantise(w, bits=4, scope="leaf", curve="power", power=0.5)
  assert (np.asarray(kept.codes) != codes).mean() < 0.01  # roots round apart
  np.testing.assert_allclose(kept.value(), found, atol=2e-2)
  linear = p.quantise(w, bits=4, scope="leaf", curve="power", power=1.0)
  np.testing.assert_array_equal(linear.codes, p.quantise(w, 4, "leaf").codes)


@pytest.mark.parametrize("curve", ["log2", "tanh"])
@pytest.mark.parametrize("bits", [3, 8])
def test_curves_of_a_leaf_are_those_of_merge(curve, bits):
  w = normal(30, 4)
  kept = p.quantise(w, bits, "leaf", curve)
  other = merge.quantise({"w": w}, bits, curve)
  np.testing.assert_array_equal(kept.codes, other.codes["w"])
  want = merge.dequantise(other)["w"]
  np.testing.assert_allclose(kept.value(), want, rtol=1e-5, atol=1e-6)
  rows = p.quantise(w, bits, "row", curve)
  each = [p.quantise(w[:, n], bits, "leaf", curve).value() for n in range(4)]
  np.testing.assert_allclose(rows.value(), np.stack(each, 1), rtol=1e-5)


def test_two_bits_have_no_use_for_a_curve():
  w = normal(1000)
  plain = np.square(p.quantise(w, 2, "leaf").value() - w).sum()
  for power in (0.3, 0.6, 1.4):
    bent = p.quantise(w, 2, "leaf", "power", power).value()
    assert np.square(bent - w).sum() >= plain - 1e-3


def test_halves_round_to_even():
  w = jnp.array([7.0, 0.5, 1.5, 2.5, -0.5, -1.5])
  assert p.quantise(w, 4).codes.tolist() == [7, 0, 2, 2, 0, -2]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 4, 5, 8]))
def test_laws_of_the_grid(seed, bits):
  w = np.random.default_rng(seed).normal(size=(6, 5)).astype(np.float32)
  kept = p.quantise(w, bits)
  found = np.asarray(kept.value())
  assert (np.abs(found - w) <= np.asarray(kept.scale) * (0.5 + 1e-5)).all()
  assert (found * w >= 0).all()
  np.testing.assert_array_equal(p.quantise(found, bits).codes, kept.codes)
  np.testing.assert_array_equal(p.quantise(4 * w, bits).codes, kept.codes)
  order = np.random.default_rng(seed).permutation(5)
  np.testing.assert_array_equal(
    p.quantise(w[:, order], bits).codes, np.asarray(kept.codes)[:, order]
  )
  top = np.abs(w).argmax(0)
  np.testing.assert_allclose(found[top, range(5)], w[top, range(5)], rtol=1e-6)


def test_error_is_that_of_even_rounding():
  w = RNG.uniform(-1, 1, size=(50_000,)).astype(np.float32)
  kept = p.quantise(w, 6)
  error = np.square(kept.value() - w).mean()
  np.testing.assert_allclose(error, kept.scale[0] ** 2 / 12, rtol=0.03)


def test_empty_rows_and_zeros():
  w = jnp.zeros((3, 2)).at[0, 0].set(1.0)
  kept = p.quantise(w, 4)
  np.testing.assert_array_equal(kept.value(), w)
  assert np.isfinite(p.quantise(jnp.zeros(3), 8).value()).all()


def test_trees_and_dtypes():
  tree = {
    "a": {"kernel": normal(4, 3).astype(jnp.bfloat16), "bias": normal(3)},
    "steps": jnp.int32(3),
  }
  kept = p.quantise(tree, 8, only="*kernel")
  assert kept["a"]["bias"] is tree["a"]["bias"]
  assert p.value(kept)["a"]["kernel"].dtype == jnp.bfloat16
  everything = p.quantise(tree, 8)
  assert p.is_leaf(everything["a"]["bias"]) and everything["steps"] == 3
  assert p.count(everything) == 0


def test_powers_by_leaf():
  tree = {"a": normal(20), "b": normal(20)}
  kept = p.quantise(tree, 4, "leaf", "power", {"a": 0.5, "b": 1.0})
  np.testing.assert_array_equal(
    kept["b"].codes, p.quantise(tree["b"], 4, "leaf").codes
  )
  assert float(kept["a"].power) == 0.5


def test_under_jit_and_vmap():
  w = normal(3, 4, 5)
  each = [p.quantise(one, 4).codes for one in w]
  stacked = jax.vmap(lambda x: p.quantise(x, 4))(w)
  np.testing.assert_array_equal(stacked.codes, np.stack(each))
  np.testing.assert_array_equal(
    jax.jit(lambda x: p.quantise(x, 4).value())(w[0]),
    p.quantise(w[0], 4).value(),
  )


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("count", [1, 7, 16])
def test_packed_codes_come_back(bits, count):
  kept = p.quantise(normal(count, 3), bits)
  packed = p.pack(kept)
  assert packed.dtype == np.uint8 and len(packed) == -(-count * 3 * bits // 8)
  np.testing.assert_array_equal(p.unpack(packed, bits, (count, 3)), kept.codes)


@pytest.mark.parametrize(
  ("x", "settings", "message"),
  [
    (np.ones(2), {"bits": 1}, "bits is 1, expected 2 to 8"),
    (np.ones(2), {"bits": 9}, "bits is 9"),
    (np.ones(2), {"bits": 4.0}, "bits is 4.0"),
    (np.ones(2), {"scope": "column"}, "scope is 'column'"),
    (np.ones(2), {"curve": "square"}, "curve is 'square'"),
    (np.ones(2), {"curve": "power"}, "power is None with curve='power'"),
    (np.ones(2), {"power": 0.5}, "power is 0.5 with curve='linear'"),
    (np.ones(2), {"curve": "power", "power": 0.0}, "power is 0.0"),
    ({"a": np.array([1.0, np.nan])}, {}, "'a' holds NaN"),
    ({"a": np.array([1.0, np.inf])}, {}, "'a' holds NaN or an infinity"),
    ({"a": np.zeros((0, 2))}, {}, "'a' is empty"),
    ({"a": np.ones(2, np.complex64)}, {}, "'a' is complex64"),
    ({"a": np.ones(2)}, {"only": "b"}, "'b' fits no path"),
    ({"a": np.ones(2, np.int32)}, {"only": "a"}, "'a' is int32"),
  ],
)
def test_what_quantise_refuses(x, settings, message):
  with pytest.raises(ValueError, match=message):
    p.quantise(x, **settings)


def test_double_precision_stays():
  with jax.enable_x64(True):
    w = jnp.asarray(RNG.normal(size=(5, 3)))
    kept = p.quantise(w, 8, curve="power", power=0.7)
    assert kept.value().dtype == jnp.float64
    again = p.quantise(kept.value(), 8, curve="power", power=0.7)
    np.testing.assert_allclose(again.value(), kept.value(), rtol=1e-12)


def test_unpack_refuses_other_sizes():
  with pytest.raises(ValueError, match="expected 2 bytes"):
    p.unpack(np.zeros(3, np.uint8), 4, (4,))
