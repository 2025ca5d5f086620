"""Random bits by position: golden values, statistics, slices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from weightspace.numerics import random_bits as bits

KEY = jax.random.key(7)


def python_mix(x):
  x ^= x >> 16
  x = x * 0x85EBCA6B % 2**32
  x ^= x >> 13
  x = x * 0xC2B2AE35 % 2**32
  return x ^ x >> 16


def python_draw(words, model, leaf, position):
  first = python_mix((leaf + 0x9E3779B9) % 2**32)
  for word in words:
    first = (python_mix(first ^ word) + 0x9E3779B9) % 2**32
  first = python_mix((first + model) % 2**32)
  second = python_mix(first ^ 0x85A308D3)
  return python_mix((python_mix(position ^ first) + second) % 2**32)


def test_golden_values():
  drawn = bits.draw(jax.random.key(0), 0, 0, bits.positions((4,)))
  assert drawn.tolist() == [2529969561, 1863825805, 2055338109, 2770949957]


def test_the_hash_in_python_integers():
  drawn = bits.draw(KEY, 3, 12345, bits.positions((5,), start=10**9))
  words = [int(w) for w in jax.random.key_data(KEY)]
  want = [python_draw(words, 3, 12345, 10**9 + i) for i in range(5)]
  assert drawn.tolist() == want


def test_a_slice_has_the_bits_of_the_whole():
  drawn = bits.draw(KEY, 1, 5, bits.positions((6, 3, 4)))
  part = bits.draw(KEY, 1, 5, bits.positions((2, 3, 4), start=3 * 12))
  np.testing.assert_array_equal(drawn[3:5], part)


def test_model_index_does_not_depend_on_the_others():
  both = bits.uniform(KEY, 5, (3, 4))
  np.testing.assert_array_equal(both[:2], bits.uniform(KEY, 5, (2, 4)))


def test_scalars_and_typed_keys_of_other_kinds():
  assert bits.uniform(KEY, 5, (3,)).shape == (3,)
  rbg = jax.random.key(7, impl="rbg")
  assert bits.uniform(rbg, 5, (3, 2)).shape == (3, 2)


def test_jit_and_sharding_change_nothing():
  mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
  sharding = jax.NamedSharding(mesh, jax.P(None, "d"))

  def mask(x):
    return x * bits.uniform(KEY, 9, x.shape)

  x = jax.device_put(jnp.ones((2, 16)), sharding)
  np.testing.assert_array_equal(jax.jit(mask)(x), mask(jnp.ones((2, 16))))


@pytest.fixture(scope="module")
def drawn():
  return np.asarray(jax.jit(lambda: bits.uniform(KEY, 77, (8, 2**15)))())


def test_uniform(drawn):
  assert drawn.min() >= 0 and drawn.max() < 1
  assert stats.kstest(drawn.reshape(-1), "uniform").pvalue > 1e-3
  for bit in range(24):
    share = ((drawn * 2**24).astype(np.int64) >> bit & 1).mean()
    assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(drawn.size)


def test_neighbours_models_and_blocks_are_independent(drawn):
  pairs = [
    (drawn[:, 1:], drawn[:, :-1]),
    (drawn[1:], drawn[:-1]),
    (drawn[:, 4096:], drawn[:, :-4096]),
    (drawn[0::2], drawn[1::2]),
  ]
  for a, b in pairs:
    correlation = np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1]
    assert abs(correlation) < 5 / np.sqrt(a.size)
    cells = np.histogram2d(a.reshape(-1), b.reshape(-1), bins=16)[0]
    assert stats.chisquare(cells.reshape(-1)).pvalue > 1e-4


@pytest.mark.parametrize("what", ["key", "model", "leaf", "position"])
def test_one_bit_of_input_moves_half_of_the_output(what):
  base = {"key": 7, "model": 0, "leaf": 5, "position": 0}

  def drawn(given):
    position = bits.positions((4096,)) ^ np.uint32(given["position"])
    key = jax.random.key(given["key"])
    return bits.draw(key, given["model"], np.uint32(given["leaf"]), position)

  for bit in (0, 4):
    flipped = drawn(base | {what: base[what] ^ (1 << bit)})
    moved = jax.lax.population_count(drawn(base) ^ flipped)
    assert abs(float(moved.mean()) / 32 - 0.5) < 0.01


def test_masks_of_some_models_and_rows_are_those_of_the_whole():
  key = jax.random.key(5)
  whole = bits.uniform(key, 3, (4, 6, 5))
  part = bits.uniform(key, 3, (2, 3, 5), first=1, start=2 * 5)
  np.testing.assert_array_equal(part, whole[1:3, 2:5])
