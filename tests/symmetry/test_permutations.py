"""Permutations: group laws, what they act on, and what is refused."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import architectures, problems
from weightspace import match

NAMES = ["mlp", "grouped", "scanned", "lstm", "dense_net", "experts", "maxout"]


def setting(name):
  apply, params, x, _ = architectures.build(name)
  return apply, params, x, match.trace_axes(apply, params, x)


def draw(axes, params, seed):
  return match.random(axes, params, jax.random.key(seed))


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", NAMES)
def test_permutations_form_a_group(name):
  _, params, _, axes = setting(name)
  p, q, r = (draw(axes, params, seed) for seed in range(3))
  one = match.identity(axes, params)
  same(match.permute(axes, one, params), params)
  both = match.compose(p, q)
  same(
    match.permute(axes, both, params),
    match.permute(axes, q, match.permute(axes, p, params)),
  )
  same(match.compose(both, r), match.compose(p, match.compose(q, r)))
  same(match.compose(p, match.invert(p)), one)
  same(match.compose(match.invert(p), p), one)
  same(match.compose(one, p), p)


def test_rows_move_with_their_blocks():
  axes = match.Axes({"w": "2 h h>d"}, {"h": 3, "h>d": 4}, {"w:0": "input"})
  w = np.arange(24).reshape(2, 3, 4)
  perm = draw(axes, {"w": w}, 0)
  expected = np.empty_like(w)
  for block in range(3):
    for unit in range(4):
      source = perm["h"][block], perm["h>d"][block, unit]
      expected[:, block, unit] = w[:, *source]
  found = match.permute(axes, perm, {"w": w})["w"]
  np.testing.assert_array_equal(found, expected)
  assert isinstance(found, np.ndarray)
  flat = axes._replace(tree={"w": "2 (h h>d)"})
  flattened = match.permute(flat, perm, {"w": w.reshape(2, 12)})["w"]
  np.testing.assert_array_equal(flattened, expected.reshape(2, 12))


def test_under_jit_and_vmap():
  _, params, _, axes = setting("grouped")
  perm = draw(axes, params, 1)
  moved = jax.jit(lambda perm, p: match.permute(axes, perm, p))(perm, params)
  problems.close(moved, match.permute(axes, perm, params), 0, 0)
  fixed = jax.jit(lambda perm: match.permute(axes, perm, params))(perm)
  same(fixed, moved)  # NumPy parameters, and indices that are traced
  both = jax.jit(match.compose)(perm, perm)
  same(both, match.compose(perm, perm))
  same(jax.jit(match.invert)(perm), match.invert(perm))
  stack = ws.stack([params, params])
  twice = jax.vmap(lambda p: match.permute(axes, perm, p))(stack)
  problems.close(ws.unstack(twice)[1], moved, 0, 0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int8])
def test_dtypes_are_kept(dtype):
  _, params, _, axes = setting("mlp")
  params = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
  moved = match.permute(axes, draw(axes, params, 0), params)
  assert {x.dtype for x in jax.tree.leaves(moved)} == {jnp.dtype(dtype)}


def test_optimiser_state_moves_with_the_parameters():
  apply, params, x, axes = setting("mlp")
  params = jax.tree.map(jnp.asarray, params)
  perm, tx = draw(axes, params, 0), optax.adam(0.1)

  @jax.jit
  def step(params, state):
    gradient = jax.grad(lambda p: (apply(p, x) ** 2).sum())(params)
    updates, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  params, state = step(params, tx.init(params))
  there, _ = step(
    match.permute(axes, perm, params), match.permute(axes, perm, state)
  )
  here, _ = step(params, state)
  problems.close(there, match.permute(axes, perm, here), 1e-4, 1e-5)


def test_other_containers_and_one_array_move():
  _, params, _, axes = setting("mlp")
  perm = draw(axes, params, 0)
  frozen = match.permute(axes, perm, flax.core.freeze(params))
  same(frozen.unfreeze(), match.permute(axes, perm, params))
  axes = match.Axes("2 u", {"u": 3}, {":0": "input"})
  state = optax.adam(0.1).init(jnp.ones((2, 3)))
  state = state[0]._replace(mu=jnp.arange(6.0).reshape(2, 3)), *state[1:]
  moved = match.permute(axes, {"u": np.array([2, 0, 1])}, state)
  assert moved[0].mu.tolist() == [[2.0, 0.0, 1.0], [5.0, 3.0, 4.0]]


def test_states_that_hold_some_parameters_move():
  _, params, _, axes = setting("mlp")
  perm = draw(axes, params, 0)
  labels = {"a": "fast", "b": "slow", "c": "fast", "d": "slow"}
  tx = optax.multi_transform(
    {"fast": optax.trace(0.9), "slow": optax.trace(0.1)}, labels
  )
  state = tx.init(params)
  _, state = tx.update(params, state, params)
  moved, wanted = (
    ws.trees.named(tree)
    for tree in (match.permute(axes, perm, state),
                 match.permute(axes, perm, params))
  )  # fmt: skip
  assert len(moved) == 4
  for path, leaf in moved.items():
    np.testing.assert_array_equal(leaf, wanted[path.rpartition("/")[2]])


def test_batch_norm_statistics_move_with_their_layer():
  model = ws.models.build("resnet", depth=8, width=0.25, norm="batch")
  x = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
  params = model.init(jax.random.key(1), x)
  stats = ws.models.population(model, params, [x], passes=1)
  axes = match.trace_axes(model.apply, params, x)
  perm = draw(axes, params, 0)
  moved = match.permute(axes, perm, params), match.permute(axes, perm, stats)
  apply = jax.jit(model.apply)
  expected = apply(params, x, stats)
  found = apply(moved[0], x, moved[1])
  np.testing.assert_allclose(found, expected, 1e-3, 1e-4)
  stale = apply(moved[0], x, stats)
  assert jnp.abs(stale - expected).max() > 1e-2


def test_random_is_of_the_key_and_the_name():
  _, params, _, axes = setting("mlp")
  p, q = draw(axes, params, 0), draw(axes, params, 1)
  same(p, draw(axes, params, 0))
  assert any((p[name] != q[name]).any() for name in p)
  alone = match.Axes({"b": "b"}, {"b": 5}, {})
  expected = draw(axes, params, 0)["b"]
  np.testing.assert_array_equal(
    draw(alone, {"b": params["b"]}, 0)["b"], expected
  )


def test_bad_input_is_named():
  _, params, _, axes = setting("mlp")
  one = match.identity(axes, params)
  name = next(iter(one))
  before = jax.tree.map(np.array, params)
  with pytest.raises(ValueError, match=f"perm: '{name}' has shape"):
    match.permute(axes, {name: one[name][:-1]}, params)
  twice = one[name] * 0 + 1
  with pytest.raises(ValueError, match=f"perm: '{name}' holds 1 twice"):
    match.permute(axes, {name: twice}, params)
  with pytest.raises(ValueError, match="perm: 'other' is unknown"):
    match.permute(axes, {"other": twice}, params)
  with pytest.raises(ValueError, match="is float64, expected integers"):
    match.permute(axes, {name: one[name] * 1.0}, params)
  with pytest.raises(ValueError, match="permute: 'c' has 4 at axis 0, expect"):
    match.permute(axes, one, {**params, "c": params["c"][:4]})
  with pytest.raises(ValueError, match="'d' is missing"):
    match.identity(axes, {k: params[k] for k in "abc"})
  with pytest.raises(ValueError, match="'e' is unexpected"):
    match.identity(axes, {**params, "e": params["b"]})
  with pytest.raises(ValueError, match="'b' has shape"):
    match.identity(axes, {**params, "b": params["c"]})
  with pytest.raises(ValueError, match="permute: 'd' is missing"):
    match.permute(axes, one, {k: params[k] for k in "abc"})
  with pytest.raises(ValueError, match="is no parameter"):
    match.permute(axes, one, {"norm": {"mean": np.ones(77)}})
  with pytest.raises(ValueError, match="in one of the two only"):
    match.compose(one, {name: one[name]})
  with pytest.raises(ValueError, match="twice"):
    match.invert({name: twice})
  same(params, before)
