"""The loss of a supernet: its terms, its gradients, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from weightspace import grow

SIZES = ({}, {"a": 3, "b": 2}, {"a": 2, "b": 2}, {"a": 1, "b": 1})


def apply(p, x):
  return jnp.tanh(jnp.tanh(x @ p["u"]) @ p["v"]) @ p["w"]


def setting(n=5):
  random = np.random.default_rng(0)
  shapes = {"u": (3, 4), "v": (4, 3), "w": (3, 2)}
  params = {
    k: jnp.asarray(random.normal(size=s), jnp.float32)
    for k, s in shapes.items()
  }
  tree = {"u": "3 a", "v": "a b", "w": "b 2"}
  axes = ws.symmetry.Axes(tree, {"a": 4, "b": 3}, {"u:0": "input"})
  x = jnp.asarray(random.normal(size=(n, 3)), jnp.float32)
  return axes, params, {"x": x, "y": jnp.arange(n) % 2}


def softmax(z):
  z = np.exp(np.float64(z))
  return z / z.sum(-1, keepdims=True)


def reference(params, batch, children, smoothing, distil):
  def probabilities(child):
    a, b = child.get("a", 4), child.get("b", 3)
    p = {k: np.float64(v) for k, v in params.items()}
    h = np.tanh(np.float64(batch["x"]) @ p["u"][:, :a])
    return softmax(np.tanh(h @ p["v"][:a, :b]) @ p["w"][:b])

  labels = np.eye(2)[np.asarray(batch["y"])]
  smooth = (1 - smoothing) * labels + smoothing / 2
  teacher = probabilities(children[0])
  total = -(smooth * np.log(teacher)).sum(-1).mean()
  for child in children[1:]:
    target = teacher if distil else labels
    total -= (target * np.log(probabilities(child))).sum(-1).mean()
  return total


@pytest.mark.parametrize("distil", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_against_numpy(distil, smoothing):
  axes, params, batch = setting()
  for children in (SIZES, SIZES[::-1]):  # which is which is read off the sizes
    loss = grow.sandwich(
      apply, axes, children, smoothing=smoothing, distil=distil
    )
    expected = reference(params, batch, SIZES, smoothing, distil)
    for function in (loss, jax.jit(loss)):
      np.testing.assert_allclose(function(params, batch), expected, rtol=1e-5)


def test_children_may_be_shares_of_the_width():
  axes, params, batch = setting()
  shares = grow.sandwich(apply, axes, (1.0, 0.5))
  sizes = grow.sandwich(apply, axes, ({}, grow.sizes(axes, 0.5)))
  assert shares(params, batch) == sizes(params, batch)


def test_drawn_children_take_part_alone():
  axes, params, batch = setting()
  loss = grow.sandwich(apply, axes, SIZES)
  # Between the smallest and the largest, in order of size.
  for numbers, between in (([0], [2]), ([1, 1], [1, 1]), (1, [1])):
    children = [SIZES[0], *(SIZES[k] for k in between), SIZES[3]]
    found = jax.jit(loss)(params, batch | {"child": jnp.array(numbers)})
    expected = reference(params, batch, children, 0.1, True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_key_draws_the_children_in_the_loss():
  axes, params, batch = setting()
  loss = grow.sandwich(apply, axes, SIZES)
  key = jax.random.key(3)
  prepared = grow.draw_children(SIZES)(key, batch)
  np.testing.assert_allclose(
    jax.jit(loss)(params, batch, key), loss(params, prepared), rtol=1e-6
  )


def test_draws_cover_all_children_between():
  prepare = grow.draw_children(SIZES, 3)
  drawn = [
    prepare(jax.random.key(k), {"x": 0})["child"].tolist() for k in range(20)
  ]
  assert {n for draw in drawn for n in draw} == {0, 1}
  with pytest.raises(ValueError, match="draw_children: 2 of 0"):
    grow.draw_children(SIZES[:2])


def test_gradients_add_up_where_children_overlap():
  axes, params, batch = setting()
  gradient = jax.grad(grow.sandwich(apply, axes, SIZES, distil=False))(
    params, batch
  )
  parts = [
    jax.grad(
      lambda p, c=child, s=smoothing: ws.losses.cross_entropy(
        apply(grow.take(axes, c, p), batch["x"]),
        jax.nn.one_hot(batch["y"], 2) * (1 - s) + s / 2,
      ).mean()
    )(params)
    for child, smoothing in zip(SIZES, (0.1, 0.0, 0.0, 0.0))
  ]
  total = jax.tree.map(lambda *g: sum(g), *parts)
  for path, leaf in gradient.items():
    np.testing.assert_allclose(leaf, total[path], 1e-5, 1e-6)
  # Beyond the second child only the whole model has a say.
  np.testing.assert_allclose(
    gradient["v"][3:, 2:], parts[0]["v"][3:, 2:], 1e-5, 1e-6
  )


def test_the_teacher_gets_no_gradient_from_its_children():
  axes, params, batch = setting()
  loss = grow.sandwich(apply, axes, [{}, {"a": 1, "b": 1}])
  alone = jax.grad(
    lambda p: ws.losses.cross_entropy(
      apply(p, batch["x"]), jax.nn.one_hot(batch["y"], 2) * 0.9 + 0.05
    ).mean()
  )(params)
  np.testing.assert_allclose(
    jax.grad(loss)(params, batch)["v"][1:], alone["v"][1:], 1e-5, 1e-6
  )


def test_modules_of_their_own_sizes_and_training():
  shares = (1.0, 0.5, 0.25)
  models = [
    ws.models.build("mlp", hidden=(int(8 * s),), classes=3) for s in shares
  ]
  x = jax.random.normal(jax.random.key(1), (48, 4))
  data = {"x": x, "y": x[:, :3].argmax(1)}
  params = models[0].init(jax.random.key(0), x)
  axes = ws.symmetry.trace_axes(models[0].apply, params, x)
  children = [grow.sizes(axes, share) for share in shares]
  loss = grow.sandwich([m.apply for m in models], axes, children)
  fitted = ws.train.fit(
    loss, params, optax.adam(0.01), data, key=jax.random.key(2), epochs=60,
    batch_size=16, prepare=grow.draw_children(children, 1),
  )  # fmt: skip
  assert fitted.losses[-1].mean() < 0.7 * fitted.losses[0].mean()


def test_children_that_are_none_are_refused():
  axes, _, _ = setting()
  with pytest.raises(ValueError, match="has all units"):
    grow.sandwich(apply, axes, [{"a": 3}, {"a": 2}])
  with pytest.raises(ValueError, match="1 children, expected two"):
    grow.sandwich(apply, axes, [{}])
  with pytest.raises(ValueError, match="'a' has 4 units"):
    grow.sandwich(apply, axes, [{}, {"a": 5}])
  with pytest.raises(ValueError, match="'c' is unknown"):
    grow.sandwich(apply, axes, [{}, {"c": 1}])
  with pytest.raises(ValueError, match="1 functions for 2 children"):
    grow.sandwich([apply], axes, [{}, {"a": 1}])
