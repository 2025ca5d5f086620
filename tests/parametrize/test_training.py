"""What is trained: labels, counts, parts, and optimisers that keep still."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from weightspace import parametrize as p
from weightspace import train


def tree():
  params = {
    "a": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)},
    "b": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)},
    "steps": jnp.int32(1),
  }
  made = p.attach(params, "a/kernel", p.lora(2), jax.random.key(0))
  return p.attach(made, "a/bias", p.freeze)


def test_labels_and_counts():
  labels = p.trainable(tree())
  change = labels["a"]["kernel"].change
  assert change.a and change.b and not change.scale
  assert not labels["a"]["kernel"].base and not labels["a"]["bias"].x
  assert labels["b"]["kernel"] and not labels["steps"]
  assert p.count(tree()) == 2 * (4 + 3) + 6 + 2
  assert p.count({}) == 0
  learned = p.companded(1.0, 1.0, learned=True)(None, jnp.ones(3))
  assert p.count(learned) == 5
  assert p.count(p.companded(1.0, 1.0)(None, jnp.ones(3))) == 3
  assert p.count(p.Masked(jnp.ones(4), jnp.ones(4, bool))) == 4


def test_parts_and_whole():
  trained, rest = p.split(tree())
  assert len(jax.tree.leaves(trained)) == 4
  joined = p.join(trained, rest)
  for a, b in zip(jax.tree.leaves(joined), jax.tree.leaves(tree())):
    np.testing.assert_array_equal(a, b)
  assert jax.tree.structure(joined) == jax.tree.structure(tree())
  with pytest.raises(ValueError, match="'a' is in both parts"):
    p.join({"a": 1.0}, {"a": 1.0})


@pytest.mark.parametrize("tx", [optax.adamw(0.1), optax.sgd(0.1, 0.9)])
def test_frozen_arrays_stay_to_the_bit(tx):
  given = tree() | {"steps": jnp.float32(1)}
  tx = optax.chain(p.only_trainable(tx))
  state, moved = tx.init(given), given
  for _ in range(3):
    slope = jax.tree.map(lambda x: jnp.full(jnp.shape(x), 0.3), moved)
    updates, state = tx.update(slope, state, moved)
    moved = optax.apply_updates(moved, updates)
  labels = jax.tree.leaves(p.trainable(given))
  for trains, a, b in zip(
    labels, jax.tree.leaves(given), jax.tree.leaves(moved)
  ):
    assert bool((a == b).all()) != trains


def test_training_moves_only_the_change():
  target = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), "f4")
  x = jnp.asarray(np.random.default_rng(1).normal(size=(64, 4)), "f4")
  start = p.attach({"w": jnp.zeros((4, 3))}, "w", p.lora(3), jax.random.key(0))

  def loss(tree, batch):
    return ((batch["x"] @ p.value(tree)["w"] - batch["y"]) ** 2).sum(-1)

  fitted = train.fit(
    loss,
    start,
    p.only_trainable(optax.adam(0.05)),
    {"x": x, "y": x @ target},
    key=jax.random.key(1),
    epochs=60,
    batch_size=32,
  )
  assert not fitted.params["w"].base.any()
  np.testing.assert_allclose(p.value(fitted.params)["w"], target, atol=0.05)


def test_a_mask_trains_by_parts():
  mask = jnp.array([True, False, True])
  trained, rest = p.split({"w": p.Masked(jnp.ones(3), mask)})

  def loss(trained):
    return p.value(p.join(trained, rest))["w"].sum()

  assert jax.grad(loss)(trained)["w"].w.tolist() == [1.0, 0.0, 1.0]
