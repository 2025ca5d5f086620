"""Balanced routing: its fixed point, a reference, and what is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weightspace import grow


def reference(table, temperature, threshold):
  z = np.exp(temperature * (table - table.max(1, keepdims=True)))
  p = z / z.sum(1, keepdims=True)
  for _ in range(1000):
    q = p.mean(0)
    if (q * np.log(q * len(q))).sum() < threshold:
      break
    p = p / q
    p = p / p.sum(1, keepdims=True)
  return p


@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_balance_against_numpy(temperature):
  table = np.random.default_rng(0).uniform(size=(36, 4))
  table[:, 1] += 0.3
  balanced = grow.balance(table, temperature, 1e-4)
  np.testing.assert_allclose(
    balanced, reference(table, temperature, 1e-4), rtol=1e-3, atol=1e-5
  )
  np.testing.assert_allclose(balanced.sum(1), 1, rtol=1e-5)
  jitted = jax.jit(grow.balance)(table, temperature, 1e-4)
  np.testing.assert_allclose(jitted, balanced, rtol=1e-5)
  many = jax.vmap(lambda t: grow.balance(t, temperature, 1e-4))
  np.testing.assert_allclose(many(table[None])[0], balanced, rtol=1e-5)
  tight = grow.balance(table, temperature, 1e-6)
  np.testing.assert_allclose(tight.mean(0), 1 / 4, atol=2e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 4))
def test_laws_of_balance(seed, rows, models):
  random = np.random.default_rng(seed)
  table = random.uniform(size=(rows, models))
  balanced = grow.balance(table, 5.0, 1e-4)
  q = np.asarray(balanced, np.float64).mean(0)
  assert (q * np.log(q * models)).sum() < 2e-4
  shifted = grow.balance(table + random.normal(size=(rows, 1)), 5.0, 1e-4)
  np.testing.assert_allclose(shifted, balanced, atol=1e-3)
  if models == 1:
    assert (balanced == 1).all()


def test_a_constant_table_is_uniform():
  np.testing.assert_allclose(grow.balance(np.ones((5, 4))), 0.25, rtol=1e-6)


BAD = {
  "vector": (np.ones(3), {}, r"expected \[A, M\]"),
  "empty": (np.ones((0, 2)), {}, r"expected \[A, M\]"),
  "temperature": (np.ones((2, 2)), {"temperature": 0.0}, "temperature is 0.0"),
  "threshold": (np.ones((2, 2)), {"threshold": -1.0}, "threshold is -1.0"),
  "nan": (np.full((2, 2), np.nan), {}, "table: NaN"),
  "far": (
    np.random.default_rng(0).uniform(size=(4, 4)) * 200,
    {"threshold": 1e-12},
    "after 1000 rounds",
  ),
}


@pytest.mark.parametrize("table, given, message", BAD.values(), ids=BAD)
def test_bad_tables_are_refused(table, given, message):
  with pytest.raises(ValueError, match=message):
    grow.balance(table, **given)


def test_pooling():
  assert len(grow.pooling(9, 2)) == 36
  assert grow.pooling(4, 2) == list(itertools.combinations(range(4), 2))
  assert grow.pooling(2, 0) == [()]
  for layers, pools in ((2, 3), (0, 0), (2, -1)):
    with pytest.raises(ValueError, match="pooling"):
      grow.pooling(layers, pools)


def test_routes_follow_the_table():
  table = jnp.array([[0.25, 0.75], [1.0, 0.0]])
  keys = jax.random.split(jax.random.key(0), 2000)
  drawn = jax.vmap(lambda key: grow.route(table, 0, key))(keys)
  np.testing.assert_allclose(drawn.mean(), 0.75, atol=0.04)
  assert not jax.vmap(lambda key: grow.route(table, 1, key))(keys).any()


def test_rewards_move_one_entry():
  table = grow.rewarded(jnp.ones((2, 3)), 1, 2, 0.5, 0.1)
  np.testing.assert_allclose(table, [[1, 1, 1], [1, 1, 0.95]], rtol=1e-6)
  with pytest.raises(ValueError, match="rate is 2"):
    grow.rewarded(jnp.ones((2, 3)), 1, 2, 0.5, 2)
