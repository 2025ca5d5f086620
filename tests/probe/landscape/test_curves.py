"""Trained curves: where they go, what stays, and many at once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import problems
from weightspace import paths, probe
from weightspace.probe.landscape import bending, curves

KEY = jax.random.key(0)
LEFT, RIGHT = {"w": jnp.array([-1.0, 0.0])}, {"w": jnp.array([1.0, 0.05])}


def ring(p, radius):
  return (jnp.sqrt((p["w"] ** 2).sum() + 1e-6) - radius) ** 2


def barrier(path):
  return paths.barrier_on(path, ring, jnp.array(1.0)).chord


@pytest.mark.parametrize(
  ("kind", "bends", "strata"),
  [("bezier", 1, 1), ("bezier", 3, 1), ("polyline", 2, 2)],
)
def test_a_curve_goes_around_the_hill(kind, bends, strata):
  path = probe.fit_curve(
    ring,
    jnp.array(1.0),
    LEFT,
    RIGHT,
    KEY,
    400,
    0.03,
    kind=kind,
    bends=bends,
    strata=strata,
  )
  assert isinstance(path, bending.KINDS[kind])
  assert ws.trees.size(path.points) == bends + 2
  assert barrier(path) < 0.1 * barrier(ws.line(LEFT, RIGHT))
  problems.close(path(0.0), LEFT, 0, 0)
  problems.close(path(1.0), RIGHT, 0, 0)


def test_one_step_is_the_gradient_at_one_t():
  """SGD without momentum: theta_1 -= lr c_1(t) grad L(theta(t))."""
  start = {"w": jnp.array([0.2, 0.7])}
  tx = optax.sgd(0.5)
  path = probe.fit_curve(
    ring, jnp.array(1.0), LEFT, RIGHT, KEY, 1, init=start, tx=tx
  )
  key = jax.random.split(jax.random.fold_in(KEY, 0), 1)[0]
  t = float(jax.random.uniform(jax.random.split(key)[0], (1,))[0])
  share = 2 * t * (1 - t)
  point = {
    "w": (1 - t) ** 2 * LEFT["w"] + share * start["w"] + t**2 * RIGHT["w"]
  }
  slope = jax.grad(ring)(point, 1.0)["w"]
  np.testing.assert_allclose(
    path.points["w"][1], start["w"] - 0.5 * share * slope, 1e-5, 1e-6
  )


def test_weight_decay_is_that_of_the_point_on_the_curve():
  def flat(p, x):
    return 0.0 * (p["w"] * x).sum()

  start, tx = {"w": jnp.array([3.0, 3.0])}, optax.sgd(1.0)
  path = probe.fit_curve(
    flat,
    jnp.array(1.0),
    LEFT,
    RIGHT,
    KEY,
    1,
    init=start,
    tx=tx,
    weight_decay=0.1,
  )
  key = jax.random.split(jax.random.fold_in(KEY, 0), 1)[0]
  t = float(jax.random.uniform(jax.random.split(key)[0], (1,))[0])
  share = 2 * t * (1 - t)
  point = (1 - t) ** 2 * LEFT["w"] + share * start["w"] + t**2 * RIGHT["w"]
  np.testing.assert_allclose(
    path.points["w"][1], start["w"] - 0.1 * share * point, 1e-5
  )


def test_many_pairs_are_the_single_ones():
  a = ws.stack([LEFT, RIGHT])
  b = ws.stack([RIGHT, LEFT])
  many = probe.fit_curves(ring, jnp.array(1.0), a, b, KEY, 20)
  assert len(many) == 2
  alone = probe.fit_curve(ring, jnp.array(1.0), LEFT, RIGHT, KEY, 20)
  problems.close(many[0].points, alone.points, 1e-6, 1e-7)
  state = [
    jax.tree.map(lambda x, m=m: x[m], ws.stack([p.points for p in many]))
    for m in range(2)
  ]
  problems.close(state[1], many[1].points, 0, 0)


def test_curves_side_by_side_train_the_same(monkeypatch):
  a, b = ws.stack([LEFT, RIGHT]), ws.stack([RIGHT, LEFT])
  expected = probe.fit_curves(ring, jnp.array(1.0), a, b, KEY, 6)
  choice = bending.placement.choose("vmap")
  monkeypatch.setattr(bending.placement, "choose", lambda *_: choice)
  found = probe.fit_curves(ring, jnp.array(1.0), a, b, KEY, 6)
  for one, other in zip(found, expected):
    problems.close(one.points, other.points, 1e-5, 1e-6)


def test_batches_of_examples_and_integer_leaves():
  data = problems.data()
  a, b = (problems.tree(s) | {"step": np.array(s)} for s in (0, 1))

  def loss(params, d):
    return -problems.likelihood(
      {k: params[k] for k in ("dense", "out", "gain")}, d
    )

  # The ends share all integer leaves' first value along the path.
  b["step"] = a["step"]
  path = probe.fit_curve(loss, data, a, b, KEY, 40, 0.1, batch_size=8)
  line = ws.line(a, b)
  found = probe.summary(path, loss, data, 21)
  assert found.mean < probe.summary(line, loss, data, 21).mean
  assert path(0.5)["step"] == 0
  assert found.smallest <= found.by_length <= found.largest


def test_lengths_and_integrals():
  path = probe.bezier([LEFT, {"w": jnp.array([0.0, 2.0])}, RIGHT])
  dense = np.stack([path(t)["w"] for t in np.linspace(0, 1, 61)])
  length = np.linalg.norm(np.diff(dense, axis=0), axis=1).sum()
  found = probe.summary(path, ring, jnp.array(1.0))
  assert found.length == pytest.approx(length, 1e-4)
  plain = probe.summary(lambda t: path(t), ring, jnp.array(1.0))
  assert plain.length == pytest.approx(length, 1e-4)
  assert plain.by_length == pytest.approx(found.by_length, 1e-3)


def test_bad_input_is_named():
  other = {"v": LEFT["w"]}
  with pytest.raises(ValueError, match="fit_curve: model 1: 'w' is missing"):
    probe.fit_curve(ring, jnp.array(1.0), LEFT, other, KEY, 3)
  with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
    probe.fit_curve(ring, jnp.array(1.0), LEFT, RIGHT, KEY, 0)
  with pytest.raises(ValueError, match="kind: 'spline'"):
    probe.fit_curve(ring, jnp.array(1.0), LEFT, RIGHT, KEY, 1, kind="spline")
  with pytest.raises(ValueError, match="init: 'w' is missing"):
    probe.fit_curve(ring, jnp.array(1.0), LEFT, RIGHT, KEY, 1, init=other)
  with pytest.raises(
    ValueError, match="init has 1 points, expected one for each of 2"
  ):
    probe.fit_curve(
      ring, jnp.array(1.0), LEFT, RIGHT, KEY, 1, init=LEFT, bends=2
    )
  with pytest.raises(ValueError, match="batch_size is 4 for data"):
    probe.fit_curve(ring, jnp.ones(3), LEFT, RIGHT, KEY, 1, batch_size=4)
  with pytest.raises(ValueError, match="returned a tuple"):
    probe.fit_curve(lambda p, d: (0.0, 1), None, LEFT, RIGHT, KEY, 1)
  with pytest.raises(ValueError, match="not finite at step 0"):
    probe.fit_curve(
      lambda p, d: jnp.log(-(p["w"] ** 2).sum()), None, LEFT, RIGHT, KEY, 2
    )
  assert curves.fit_curve is probe.fit_curve
