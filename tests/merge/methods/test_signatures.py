"""Robust weight signatures, and task vectors in a few bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace import merge
from weightspace.merge.methods import signatures


def make(seed, dtype=jnp.float32):
  rng = np.random.default_rng(seed)
  shapes = {
    "conv_0": {"kernel": (3, 3, 2, 4), "bias": (4,)},
    "head": {"kernel": (8, 6)},
    "norm": {"scale": (4,)},
  }
  return jax.tree.map(
    lambda shape: jnp.asarray(rng.normal(size=shape), dtype),
    shapes,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def reference(robust, clean, base):
  change = np.asarray(robust, np.float64) - np.asarray(base, np.float64)
  along = np.asarray(clean, np.float64) - np.asarray(base, np.float64)
  return change - (change * along).sum() / (along**2).sum() * along


@pytest.fixture(scope="module")
def found():
  return signatures.extract(
    make(0), make(1), make(2), layers=["conv_0/*"], norms=["norm/*"]
  )


def test_extraction_is_the_reference(found):
  robust, clean, base = make(0), make(1), make(2)
  assert sorted(found.added) == ["conv_0/bias", "conv_0/kernel"]
  for name in ("kernel", "bias"):
    leaves = [tree["conv_0"][name] for tree in (robust, clean, base)]
    value = found.added[f"conv_0/{name}"]
    np.testing.assert_allclose(value, reference(*leaves), atol=1e-5)
    along = leaves[1] - leaves[2]
    assert abs(float((value * along).sum())) < 1e-4
  np.testing.assert_array_equal(
    found.replaced["norm/scale"], robust["norm"]["scale"]
  )


def test_without_a_base_it_is_the_difference():
  found = signatures.extract(make(0), make(1), layers=["head/*"])
  expected = make(0)["head"]["kernel"] - make(1)["head"]["kernel"]
  np.testing.assert_array_equal(found.added["head/kernel"], expected)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_adding_scales_and_keeps_the_rest(found, dtype):
  clean = make(1, dtype)
  patched = signatures.add(signatures.Patched(clean), "fog", found, 0.5)
  merged = signatures.patch(patched)
  kernel = clean["conv_0"]["kernel"].astype(jnp.float32)
  expected = kernel + 0.5 * found.added["conv_0/kernel"]
  np.testing.assert_array_equal(
    merged["conv_0"]["kernel"], expected.astype(dtype)
  )
  np.testing.assert_array_equal(
    merged["head"]["kernel"], clean["head"]["kernel"]
  )
  assert merged["norm"]["scale"].dtype == dtype


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_removing_is_exact_in_any_order(found, dtype):
  clean = signatures.Patched(make(1, dtype))
  parts = {
    "fog": (found, 0.3),
    "blur": (signatures.extract(make(3), make(1), make(2)), 0.7),
    "noise": (signatures.extract(make(4), make(1), make(2)), 1.1),
  }

  def with_parts(*names):
    patched = clean
    for name in names:
      patched = signatures.add(patched, name, *parts[name])
    return patched

  def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
      np.testing.assert_array_equal(x, y)

  every = with_parts("fog", "blur", "noise")
  turned = with_parts("noise", "fog", "blur")
  same(signatures.patch(every), signatures.patch(turned))
  two = signatures.patch(with_parts("blur", "noise"))
  same(signatures.patch(signatures.remove(every, "fog")), two)
  for name in parts:
    every = signatures.remove(every, name)
  same(signatures.patch(every), clean.clean)


def test_composing_divides_by_the_number_of_signatures(found):
  other = signatures.extract(make(3), make(1), make(2), norms=["norm/*"])
  both = signatures.compose(
    {"fog": found, "noise": other}, {"fog": 0.4, "noise": 2}
  )
  np.testing.assert_allclose(
    both.added["conv_0/bias"],
    0.2 * found.added["conv_0/bias"] + other.added["conv_0/bias"],
    atol=1e-6,
  )
  np.testing.assert_allclose(
    both.replaced["norm/scale"],
    (make(0)["norm"]["scale"] + make(3)["norm"]["scale"]) / 2,
    atol=1e-6,
  )


def test_patching_under_jit(found):
  def patched(model, scale):
    start = signatures.Patched(model)
    return signatures.patch(signatures.add(start, "fog", found, scale))

  eager = patched(make(1), 0.7)
  for x, y in zip(
    jax.tree.leaves(jax.jit(patched)(make(1), 0.7)), jax.tree.leaves(eager)
  ):
    np.testing.assert_allclose(x, y, atol=1e-6)


@pytest.mark.parametrize(
  "call,message",
  [
    (
      lambda f: signatures.extract(make(0), {"w": 1.0}),
      "is missing|unexpected",
    ),
    (
      lambda f: signatures.extract(make(0), make(1), layers=["dense*"]),
      "dense.* matches nothing",
    ),
    (
      lambda f: signatures.add(signatures.Patched({"w": 1.0}), "fog", f),
      "'conv_0/bias' has shape .*missing",
    ),
    (
      lambda f: signatures.remove(signatures.Patched(make(1)), "fog"),
      "'fog' is not there",
    ),
    (
      lambda f: signatures.add(
        signatures.Patched(make(1), {"fog": f}, {"fog": 1.0}), "fog", f
      ),
      "there already",
    ),
    (
      lambda f: signatures.compose({"fog": f, "rain": f}, {"fog": 1.0}),
      "no scale for 'rain'",
    ),
    (
      lambda f: signatures.compose(
        {
          "fog": signatures.Signature({"w": jnp.ones(2)}, {}),
          "rain": signatures.Signature({"w": jnp.ones(3)}, {}),
        }
      ),
      r"compose: 'w' of 'rain' has shape \(3,\), expected \(2,\)",
    ),
    (lambda f: merge.quantise(f.added, 9), "bits is 9"),
    (lambda f: merge.quantise(f.added, 4, "cubic"), "curve is 'cubic'"),
    (lambda f: merge.quantise({"n": jnp.arange(3)}), "'n' is int32"),
  ],
)
def test_bad_input_is_named(found, call, message):
  with pytest.raises(ValueError, match=message):
    call(found)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_linear_codes_are_within_half_a_step(bits):
  x = np.random.default_rng(0).normal(size=(40, 5)).astype("f4")
  kept = merge.quantise({"w": x}, bits)
  step = np.abs(x).max() / (2 ** (bits - 1) - 1)
  error = np.abs(merge.dequantise(kept)["w"] - x)
  assert error.max() <= step / 2 + 1e-6
  assert merge.smaller(kept, {"w": x}) == 32 / bits


def test_powers_of_two_are_exact_and_the_rest_within_a_factor():
  x = jnp.array([1.0, -0.5, 0.02, 0.0, 0.01])
  kept = merge.quantise({"w": x}, 4, "log2")
  found = merge.dequantise(kept)["w"]
  np.testing.assert_allclose(found, [1.0, -0.5, 2**-6, 0.0, 0.0], rtol=1e-6)
  x = np.random.default_rng(0).normal(size=1000)
  found = merge.dequantise(merge.quantise({"w": x}, 8, "log2"))["w"]
  ratio = np.asarray(found) / x.astype("f4")
  assert ratio.min() > 0.7 and ratio.max() < 1.42


def test_the_tanh_curve_is_finest_around_zero():
  x = np.random.default_rng(0).normal(size=20_000).astype("f4")
  error = {
    curve: np.abs(merge.dequantise(merge.quantise({"w": x}, 8, curve))["w"] - x)
    for curve in ("linear", "tanh")
  }
  small = np.abs(x) < 0.5
  assert error["tanh"][small].mean() < error["linear"][small].mean()
  assert error["tanh"].max() < 0.5 * np.abs(x).max()


@pytest.mark.parametrize("curve", ["linear", "log2", "tanh"])
def test_zeros_and_signs_survive(curve):
  x = jnp.array([0.0, 3.0, -3.0])
  kept = merge.quantise(
    {"w": x, "z": jnp.zeros(3), "s": jnp.asarray(-2.0)}, 5, curve
  )
  found = merge.dequantise(kept)
  np.testing.assert_allclose(found["w"], x, rtol=1e-6)
  np.testing.assert_array_equal(found["z"], 0.0)
  np.testing.assert_allclose(found["s"], -2.0, rtol=1e-6)
