"""Learned gates: values and gradients in closed form, chances by sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import problems
from weightspace import sparse

KEY = jax.random.key(0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_forward_is_the_mask_and_backward_the_identity(dtype):
  scores = jax.tree.map(
    lambda x: jnp.asarray(x, dtype), problems.tree(0, {"a": (5, 6), "b": (7,)})
  )
  gates = jax.jit(lambda s: sparse.straight_through(s, 0.3))(scores)
  mask = sparse.top(scores, 0.3)
  assert jax.tree.all(jax.tree.map(lambda g: g.dtype == dtype, gates))
  problems.close(gates, jax.tree.map(lambda m: m.astype(dtype), mask), 0, 0)
  weight = jax.tree.map(jnp.ones_like, scores)
  gradient = jax.grad(
    lambda s: sum(
      (w * g * 2).sum()
      for w, g in zip(
        jax.tree.leaves(weight),
        jax.tree.leaves(sparse.straight_through(s, 0.3)),
      )
    )
  )(scores)
  problems.close(gradient, jax.tree.map(lambda w: 2 * w, weight), 0, 0)


def test_supermasks_rank_magnitudes_and_the_gradient_has_the_sign():
  scores = jnp.array([-3.0, 1.0, 2.0, -0.5])
  assert sparse.supermask(scores, 0.5).tolist() == [1.0, 0.0, 1.0, 0.0]
  found = jax.grad(lambda s: (sparse.supermask(s, 0.5) * 2.0).sum())(scores)
  assert found.tolist() == [-2.0, 2.0, 2.0, -2.0]


def test_the_gradient_of_frozen_weights_is_theirs_times_the_gates():
  """dL/ds = dL/d(w m) w, kept or not: what Lottery Jackpots train by."""
  weights = jnp.array([2.0, -1.0, 4.0])
  x = jnp.array([1.0, 10.0, 100.0])
  found = jax.grad(
    lambda s: (weights * sparse.straight_through(s, 0.34) * x).sum()
  )(jnp.array([0.1, 0.2, 0.3]))
  np.testing.assert_allclose(found, weights * x)


def gate(log_alpha, u, temperature=2 / 3, low=-0.1, high=1.1):
  s = 1 / (1 + np.exp(-(np.log(u) - np.log1p(-u) + log_alpha) / temperature))
  return np.clip(s * (high - low) + low, 0, 1)


@pytest.mark.parametrize("options", [{}, dict(temperature=0.3, low=-1, high=2)])
def test_hard_concrete_is_the_formula(options):
  random = np.random.default_rng(0)
  tree = problems.tree(1, {"a": (5, 6), "b": ()})
  u = jax.tree.map(lambda x: random.random(x.shape).astype(np.float32), tree)
  given = {}
  if options:
    ends = options["low"], options["high"]
    given = dict(temperature=options["temperature"], stretch=ends)
  found = sparse.hard_concrete(tree, u, **given)
  wanted = jax.tree.map(lambda x, v: gate(x, v, **options), tree, u)
  problems.close(found, wanted, 1e-5, 1e-6)
  problems.close(
    jax.jit(lambda a, b: sparse.hard_concrete(a, b, **given))(tree, u), found
  )


def test_gates_are_exactly_open_or_shut_and_keep_a_gradient_inside():
  location = jnp.array([-9.0, 0.0, 9.0])
  ends = jnp.array([0.0, 1.0, 0.5])
  found = sparse.hard_concrete(location, ends)
  assert found.tolist() == [0.0, 1.0, 1.0]
  slope = jax.grad(
    lambda a: sparse.hard_concrete(a, jnp.array([0.0, 0.5, 1.0])).sum()
  )(location)
  # sigmoid'(0) / temperature, stretched by 1.2; outside it is cut.
  np.testing.assert_allclose(slope, [0.0, 1.2 * 0.25 * 1.5, 0.0], rtol=1e-5)


@pytest.mark.parametrize("location", [-1.0, 0.0, 2.0])
def test_the_chance_to_be_open_is_the_share_of_open_gates(location):
  u = jax.random.uniform(KEY, (40_000,))
  gates = sparse.hard_concrete(jnp.full(u.shape, location), u)
  chance = float(sparse.open_chance(jnp.array(location)))
  # A share of 40,000: a standard deviation of 0.0025 at most.
  np.testing.assert_allclose(float((gates > 0).mean()), chance, atol=0.01)


def test_low_precision_is_within_an_ulp():
  x = jnp.linspace(-4, 4, 200).astype(jnp.bfloat16)
  u = jax.random.uniform(KEY, (200,)).astype(jnp.bfloat16)
  low = sparse.hard_concrete(x, u)
  assert low.dtype == jnp.bfloat16
  high = sparse.hard_concrete(x.astype(jnp.float32), u.astype(jnp.float32))
  np.testing.assert_array_equal(low, high.astype(jnp.bfloat16))


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda x: sparse.hard_concrete(x, x, temperature=0.0), "temperature is 0"),
    (lambda x: sparse.hard_concrete(x, x, stretch=(0.1, 1.1)), "stretch is"),
    (lambda x: sparse.hard_concrete(x, x, stretch=(-0.1, 0.9)), "stretch is"),
    (lambda x: sparse.hard_concrete({"a": x}, {"a": x[:1]}), "'a' is"),
    (lambda x: sparse.hard_concrete({"a": x}, {"a": x + 2}), "'a' leaves"),
    (
      lambda x: sparse.hard_concrete({"a": x}, {"a": x * jnp.nan}),
      "'a' leaves",
    ),
    (lambda x: sparse.open_chance(x, temperature=-1.0), "temperature is -1"),
    (lambda x: sparse.straight_through(x, 0.0), "density is 0.0"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call(jnp.array([0.5, 0.25]))
