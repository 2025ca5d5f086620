"""The Gauss-Newton matrix of losses that are more than a criterion of outputs.

Each case is (loss, outputs, criterion, what is added): the matrix is J' H J of
the parts, written apart by hand, plus the Hessian of what is added.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace import losses, probe

KEYS = jax.random.split(jax.random.key(3), 8)
DATA = {
  "x": jax.random.normal(KEYS[0], (6, 3)),
  "y": jnp.array([0, 1, 2, 1, 0, 2]),
  "t": jax.random.normal(KEYS[1], (6, 2)),
}
PARAMS = {
  "u": 0.5 * jax.random.normal(KEYS[2], (3, 4)),
  "v": 0.5 * jax.random.normal(KEYS[3], (4, 3)),
  "b": 0.1 * jax.random.normal(KEYS[4], (3,)),
  "s": jnp.array(0.3),
  "k": jnp.array([0.2, -0.1]),
}
ANCHOR = jax.tree.map(lambda x: 0.9 * x + 0.01, PARAMS)


def features(p, d):
  return jnp.tanh(d["x"] @ p["u"])


def net(p, d):
  return features(p, d) @ p["v"] + p["b"][None]


def both(p, d):
  return jnp.concatenate([net(p, d), features(p, d) @ p["v"][:, :2]], 1)


def cross(z, d):
  return losses.cross_entropy(z, d["y"])


def square(z, d):
  return ((z[:, :2] - d["t"]) ** 2).sum(1)


def ridge(p):
  return 0.1 * sum((x**2).sum() for x in jax.tree.leaves(p))


def lasso(p):
  return 0.1 * sum(jnp.abs(x).sum() for x in jax.tree.leaves(p))


def ewc(p):
  return sum(
    (3.0 * (x - y) ** 2).sum()
    for x, y in zip(jax.tree.leaves(p), jax.tree.leaves(ANCHOR))
  )


def nothing(p):
  return 0.0 * p["s"]


def two(z, d):
  return cross(z[:, :3], d) + square(z[:, 3:], d)


def tasks(p, d):
  z = features(p, d) @ p["v"]
  each = [cross(z, d).mean(), square(z, d).mean()]
  return (jnp.exp(-p["k"]) * jnp.stack(each)).sum() + p["k"].sum()


CASES = {
  "plain": (lambda p, d: cross(net(p, d), d), net, cross, nothing),
  "ridge": (lambda p, d: cross(net(p, d), d) + ridge(p), net, cross, ridge),
  "first": (lambda p, d: ridge(p) + cross(net(p, d), d), net, cross, ridge),
  "lasso": (lambda p, d: cross(net(p, d), d) + lasso(p), net, cross, lasso),
  "ewc": (lambda p, d: cross(net(p, d), d) + ewc(p), net, cross, ewc),
  "one number": (
    lambda p, d: cross(net(p, d), d).mean() + ridge(p),
    net,
    cross,
    ridge,
  ),
  "temperature": (
    lambda p, d: cross(net(p, d) / jnp.exp(p["s"]), d),
    lambda p, d: net(p, d) / jnp.exp(p["s"]),
    cross,
    nothing,
  ),
  "two heads": (
    lambda p, d: (
      cross(net(p, d), d) + square(features(p, d) @ p["v"][:, :2], d)
    ),
    both,
    two,
    nothing,
  ),
}


def dense(operator, params):
  flat, unravel = jax.flatten_util.ravel_pytree(params)
  rows = [operator(unravel(e)) for e in jnp.eye(len(flat))]
  return np.stack([jax.flatten_util.ravel_pytree(r)[0] for r in rows])


def reference(outputs, criterion, added, params, data):
  flat, unravel = jax.flatten_util.ravel_pytree(params)

  def head(w):
    return outputs(unravel(w), data)

  jacobian = jax.jacobian(head)(flat)
  jacobian = jacobian.reshape(-1, len(flat))
  bend = jax.hessian(lambda z: criterion(z, data).mean())(head(flat))
  bend = bend.reshape(len(jacobian), -1)
  return jacobian.T @ bend @ jacobian + jax.hessian(
    lambda w: added(unravel(w))
  )(flat)


@pytest.mark.parametrize("name", CASES)
def test_of_parts_written_apart(name):
  loss, outputs, criterion, added = CASES[name]
  wanted = reference(outputs, criterion, added, PARAMS, DATA)
  found = dense(probe.ggn(loss, PARAMS, DATA), PARAMS)
  np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_of_learned_weights_of_tasks():
  """The network's block is that of the weighed criterion."""
  found = dense(probe.ggn(tasks, PARAMS, DATA), PARAMS)
  shares = jnp.exp(-PARAMS["k"])
  wanted = reference(
    lambda p, d: features(p, d) @ p["v"],
    lambda z, d: shares[0] * cross(z, d) + shares[1] * square(z, d),
    nothing,
    PARAMS,
    DATA,
  )
  start = jax.flatten_util.ravel_pytree(
    {n: jnp.full(x.shape, n in "uv") for n, x in PARAMS.items()}
  )[0].astype(bool)
  block = np.ix_(start, start)
  np.testing.assert_allclose(found[block], wanted[block], atol=2e-6)


def test_batches_and_masks_keep_the_penalty():
  loss = CASES["ridge"][0]
  whole = dense(probe.ggn(loss, PARAMS, DATA), PARAMS)
  parts = dense(probe.ggn(loss, PARAMS, DATA, batch_size=2), PARAMS)
  np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_data_that_are_closed_over():
  def loss(p, _):
    return ((net(p, DATA)[:, :2] - DATA["t"]) ** 2).mean() + ridge(p)

  def criterion(z, d):
    return ((z[:, :2] - d["t"]) ** 2).mean(1)

  wanted = reference(net, criterion, ridge, PARAMS, DATA)
  found = dense(probe.ggn(loss, PARAMS, jnp.zeros(())), PARAMS)
  np.testing.assert_allclose(found, wanted, atol=2e-6)


AFFINE = {
  "linear": lambda p, d: net(p, d).sum(1),
  "absolute": lambda p, d: jnp.abs(net(p, d)[:, :2] - d["t"]).sum(1),
  "hinge": lambda p, d: jax.nn.relu(1.0 - net(p, d)[:, 0]),
  "penalised": lambda p, d: net(p, d).sum(1) + ridge(p),
  "no data": lambda p, d: ridge(p),
}


@pytest.mark.parametrize("name", AFFINE)
def test_affine_criteria_are_refused(name):
  with pytest.raises(ValueError, match="apply="):
    probe.ggn(AFFINE[name], PARAMS, DATA)


def test_an_affine_criterion_of_apply_is_refused():
  data = {"x": DATA["x"], "y": DATA["y"]}

  def apply(p, x):
    return net(p, {"x": x})

  with pytest.raises(ValueError, match="affine"):
    probe.ggn(lambda z, y: z.sum(1), PARAMS, data, apply=apply)
  made = probe.ggn(losses.cross_entropy, PARAMS, data, apply=apply)
  wanted = reference(net, cross, nothing, PARAMS, DATA)
  np.testing.assert_allclose(dense(made, PARAMS), wanted, atol=2e-6)


def test_half_precision_parameters():
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
  loss, *parts = CASES["ridge"]
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), params)
  found = dense(probe.ggn(loss, params, DATA), wide)
  np.testing.assert_allclose(found, reference(*parts, wide, DATA), atol=2e-6)
