"""Gates of units: sizes, the pull towards one, and what is cut out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from weightspace import grow


def apply(p, x):
  return jnp.tanh(x @ p["u"]) @ p["v"]


def setting(n=8):
  random = np.random.default_rng(0)
  params = {
    "u": jnp.asarray(random.normal(size=(3, n)), jnp.float32),
    "v": jnp.asarray(random.normal(size=(n, 2)), jnp.float32),
  }
  x = jnp.asarray(random.normal(size=(64, 3)), jnp.float32)
  return params, x, ws.symmetry.trace_axes(apply, params, x)


def test_the_share_is_that_of_a_slice():
  params, _, axes = setting()
  (name,) = grow.sizes(axes, 1.0)
  alpha = {name: jnp.array([9.0] * 3 + [-20.0] * 5)}
  share = float(grow.kept_share(axes, alpha))
  small = grow.take(axes, {name: 3}, params)
  exact = ws.models.count(small) / ws.models.count(params)
  np.testing.assert_allclose(share, exact, rtol=1e-2)
  assert grow.open_units(alpha)[name].tolist() == [0, 1, 2]
  shut = {name: jnp.full(8, -20.0)}
  assert len(grow.open_units(shut)[name]) == 1


def test_sums_and_products_are_counted():
  axes = ws.symmetry.Axes({"w": "(2+a) (3 a)"}, {"a": 2}, {"w:0": "input"})
  alpha = {"a": jnp.array([30.0, -30.0])}
  share = grow.kept_share(axes, alpha)
  np.testing.assert_allclose(share, (3 * 3) / (4 * 6), rtol=1e-5)


def test_open_gates_leave_the_loss_as_it_is():
  params, x, axes = setting()
  loss = ws.losses.of(apply, ws.losses.cross_entropy)
  batch = {"x": x, "y": jnp.zeros(64, int)}
  gated = grow.gated_loss(axes, apply, x, loss, 1.0)
  tree = grow.gate_units(axes, params)
  found = jax.jit(gated)(tree, batch | {"key": jax.random.key(0)})
  expected = loss(params, batch).mean()
  np.testing.assert_allclose(found, expected, rtol=0.05)
  tree["log_alpha"] = jax.tree.map(lambda a: a - 30.0, tree["log_alpha"])
  shut = gated(tree, batch | {"key": jax.random.key(0)})
  nothing = loss(jax.tree.map(jnp.zeros_like, params), batch).mean()
  np.testing.assert_allclose(shut, nothing, rtol=0.3)


def test_training_reaches_the_size_and_keeps_what_matters():
  params, x, axes = setting()
  used = jnp.array([1.0, 0, 1, 0, 0, 1, 0, 0])[:, None]
  params["v"] = params["v"] * (used + 1e-3)
  labels = apply(params, x).argmax(-1)
  loss = ws.losses.of(apply, ws.losses.cross_entropy)
  fitted = ws.train.fit(
    grow.gated_loss(axes, apply, x, loss, 0.5),
    grow.gate_units(axes, params),
    grow.gate_optimiser(optax.sgd(0.0), 0.1),
    {"x": x, "y": labels}, key=jax.random.key(1), epochs=300, batch_size=64,
    prepare=grow.draw_gates,
  )  # fmt: skip
  alpha = fitted.params["log_alpha"]
  (name,) = alpha
  used_, idle = (np.asarray(alpha[name])[np.array(k)] for k in (
    [0, 2, 5], [1, 3, 4, 6, 7]))  # fmt: skip
  assert used_.min() > idle.max()
  student = grow.inherit(axes, params, grow.open_units(alpha))
  assert ws.models.count(student) < 0.7 * ws.models.count(params)
  assert (fitted.params["pull"] > 10).all()


@pytest.mark.parametrize("target", [0.0, 1.5, float("nan")])
def test_targets_out_of_range_are_refused(target):
  _, x, axes = setting()
  with pytest.raises(ValueError, match="target is"):
    grow.gated_loss(axes, apply, x, lambda p, b: 0.0, target)
