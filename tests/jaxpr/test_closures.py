"""Functions that close over values: used again after these were bound anew.

Every entry point that compiles is called twice with one function object whose
statistics have changed in between, and has to give the second model's numbers:
those of a function that was never seen before.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from weightspace import match, paths, probe, statistics
from weightspace.jaxpr import closures

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (8, 3))
DATA = {"x": X, "y": jnp.arange(8) % 2}
A, B = (
  {
    "u": 0.5 * jax.random.normal(jax.random.key(2 + n), (3, 4)),
    "v": 0.5 * jax.random.normal(jax.random.key(4 + n), (4, 2)),
  }
  for n in range(2)
)
STATS = [1.0, 3.0]
ends = paths.line(A, B)
SGD = optax.sgd(0.1)


def applied(held):
  """Return a model whose statistics are read where `held` keeps them."""

  def apply(p, x):
    return jnp.tanh(x @ p["u"] / held["scale"]) @ p["v"]

  return apply


def lossy(held):
  return ws.losses.of(applied(held), ws.losses.cross_entropy)


def of_loss(function):
  return lambda held: functools.partial(function, lossy(held))


def of_apply(function):
  return lambda held: functools.partial(function, applied(held))


def hessian(loss, **where):
  return probe.hessian(loss, A, DATA, **where)


ENTRIES = {
  "barrier": of_loss(lambda f: probe.barrier(f, DATA, A, B, 5).losses),
  "along": of_loss(lambda f: paths.along(ends, [0.3], f, DATA)),
  "plain path": of_loss(
    lambda f: paths.along(lambda t: ends(t), [0.3], f, DATA)
  ),
  "mixes": of_loss(
    lambda f: ws.mixes.evaluate_mixes(
      ws.stack([A, B]), jnp.ones((2, 2)) / 2, f, DATA
    )
  ),
  "surface": of_loss(
    lambda f: probe.surface(f, DATA, A, A, B, [0.0, 1.0], [0.5])
  ),
  "profile": of_apply(
    lambda f: probe.profile(f, ends, [DATA], classes=2, points=3).losses
  ),
  "summary": of_loss(lambda f: probe.summary(ends, f, DATA, 3).losses),
  "curve": of_loss(
    lambda f: probe.fit_curve(f, DATA, A, B, KEY, 3).points["u"]
  ),
  "product": of_loss(lambda f: hessian(f)(B)["u"]),
  "trace": of_loss(lambda f: probe.trace(hessian(f), KEY, 3)[0]),
  "batched": of_loss(
    lambda f: probe.trace(hessian(f, batch_size=4), KEY, 3)[0]
  ),
  "eigenpairs": of_loss(
    lambda f: probe.top_eigenpairs(hessian(f), 1, 3, KEY)[0]
  ),
  "ritz": of_loss(lambda f: probe.ritz(hessian(f), 3, KEY).values),
  "density": of_loss(lambda f: probe.density(hessian(f), KEY, 3, 2)[0]),
  "streamed": of_loss(
    lambda f: probe.trace(
      probe.streamed(lambda d: probe.hessian(f, A, d), [DATA]), KEY, 2
    )[0]
  ),
  "ggn": of_loss(lambda f: probe.trace(probe.ggn(f, A, DATA), KEY, 3)[0]),
  "ggn apply": of_apply(
    lambda f: probe.trace(
      probe.ggn(ws.losses.cross_entropy, A, DATA, apply=f), KEY, 3
    )[0]
  ),
  "fisher": of_apply(
    lambda f: probe.trace(probe.fisher(f, A, DATA), KEY, 3)[0]
  ),
  "empirical": of_loss(
    lambda f: probe.trace(probe.empirical_fisher(f, A, DATA), KEY, 3)[0]
  ),
  "function": of_loss(
    lambda f: probe.trace(
      probe.from_function(lambda v: jax.grad(lambda p: f(p, DATA).sum())(v), A),
      KEY,
      3,
    )[0]
  ),
  "noise": of_loss(lambda f: probe.noise_scale(f, A, DATA).trace),
  "average": of_loss(lambda f: probe.average_sharpness(f, A, DATA, KEY)[0]),
  "sam": of_loss(lambda f: probe.sam_sharpness(f, A, DATA)),
  "worst": of_loss(lambda f: probe.worst_sharpness(f, A, DATA, steps=3)),
  "keskar": of_loss(lambda f: probe.keskar_sharpness(f, A, DATA, key=KEY)),
  "radial": of_loss(lambda f: probe.radial_losses(f, A, DATA, KEY, [1.0], 2)),
  "coefficient": of_loss(
    lambda f: (
      probe.learning_coefficient(f, A, DATA, KEY, draws=4, burn_in=1).losses
    )
  ),
  "kernel": of_apply(lambda f: probe.tangent_kernel(f, A, X)),
  "diagonal": of_apply(lambda f: statistics.fisher(f, A, X)["u"]),
  "gram": of_apply(lambda f: statistics.gram(f, A, X)["v"]),
  "moments": of_apply(lambda f: statistics.moments(f, A, X)["v"]["var"]),
  "activations": of_apply(
    lambda f: (
      match.match_activations(
        match.trace_axes(f, A, X), f, A, B, X, similar="raw"
      ).objective
    )
  ),
  "repair": of_apply(lambda f: match.repair(f, [A, B], X, last=True)["v"]),
  "learned": of_loss(
    lambda f: (
      match.straight_through(
        match.trace_axes(lambda p, x: jnp.tanh(x @ p["u"]) @ p["v"], A, X),
        f,
        [A, B],
        DATA,
        key=KEY,
        steps=2,
        batch_size=4,
      ).loss
    )
  ),
  "fit": of_loss(
    lambda f: ws.train.fit_population(
      f, ws.stack([A]), SGD, DATA, key=KEY, epochs=1, batch_size=4
    ).params["u"]
  ),
  "replicas": of_loss(
    lambda f: ws.average.replicate(
      f,
      ws.stack([A, A]),
      SGD,
      jax.tree.map(lambda x: x[None], DATA),
      ws.average.diloco(1.0, 0.0),
      key=KEY,
      rounds=1,
      steps=2,
      batch_size=4,
      shared_data=True,
    ).params["u"]
  ),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_values_bound_anew_are_seen(name):
  held = {"scale": jnp.array(STATS[0])}
  call = ENTRIES[name](held)
  first = np.asarray(call())
  held["scale"] = jnp.array(STATS[1])
  second = np.asarray(call())
  held["scale"] = jnp.array(STATS[0])
  again = np.asarray(call())
  fresh = np.asarray(ENTRIES[name]({"scale": STATS[1] + 0.0})())
  np.testing.assert_allclose(second, fresh, 1e-4, 1e-6)
  np.testing.assert_array_equal(again, first)
  assert not np.allclose(first, second, 1e-4, 1e-7)


class Model:
  """An object with a method, as people write losses."""

  def __init__(self):
    self.scale = jnp.array(1.0)

  def loss(self, p, d):
    return (p["w"] * self.scale * d) ** 2


def nonlocal_variable():
  scale = jnp.array(1.0)

  def loss(p, d):
    return (p["w"] * scale * d) ** 2

  def bind(value):
    nonlocal scale
    scale = jnp.array(value)

  return loss, bind


def attribute():
  model = Model()
  return model.loss, lambda value: setattr(model, "scale", jnp.array(value))


def callable_object():
  class Loss:
    scale = jnp.array(1.0)

    def __call__(self, p, d):
      return (p["w"] * self.scale * d) ** 2

  def bind(value):
    Loss.scale = jnp.array(value)

  return Loss(), bind


def number():
  box = [1.0]

  def inner():
    return box[0]

  def loss(p, d):
    return (p["w"] * inner() * d) ** 2

  return loss, lambda value: box.__setitem__(0, value)


def in_a_module():
  settings = types.ModuleType("settings_of_a_test")
  settings.SCALE = 1.0
  scope = {"settings": settings}
  exec("def loss(p, d): return (p['w'] * settings.SCALE * d) ** 2", scope)
  return scope["loss"], lambda value: setattr(settings, "SCALE", value)


def a_global():
  scope = {"SCALE": jnp.array(1.0)}
  exec("def loss(p, d): return (p['w'] * SCALE * d) ** 2", scope)
  return scope["loss"], lambda value: scope.update(SCALE=jnp.array(value))


def partial():
  held = {"s": jnp.array(1.0)}
  loss = functools.partial(
    lambda held, p, d: (p["w"] * held["s"] * d) ** 2, held
  )
  return loss, lambda value: held.update(s=jnp.array(value))


KINDS = [
  nonlocal_variable,
  attribute,
  callable_object,
  number,
  in_a_module,
  a_global,
  partial,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_wherever_the_value_is_kept(kind):
  loss, bind = kind()
  a, b = {"w": jnp.array(1.0)}, {"w": jnp.array(2.0)}
  found = []
  for value in (1.0, 2.0, 1.0):
    bind(value)
    found.append(probe.barrier(loss, jnp.ones(3), a, b, 3).losses[0])
    found.append(float(probe.hessian(loss, a, jnp.ones(3))(a)["w"]) / 2)
  np.testing.assert_allclose(found, [1.0, 1.0, 4.0, 4.0, 1.0, 1.0])


def test_an_operator_is_of_the_values_at_its_use():
  loss, bind = nonlocal_variable()
  a = {"w": jnp.array(1.0)}
  operator = probe.hessian(loss, a, jnp.ones(3))
  found = []
  for value in (1.0, 2.0, 1.0):
    bind(value)
    found.append(float(operator(a)["w"]) / 2)
  assert found == [1.0, 4.0, 1.0]


def test_functions_alone_are_themselves_and_equal_values_share_a_program():
  def plain(p, d):
    return jnp.tanh(p["w"] * d)

  assert closures.fixed(plain) is plain
  count = []

  def made(scale):
    def loss(p, d):
      count.append(1)
      return (p["w"] * scale * d) ** 2

    return loss

  a, b = {"w": jnp.array(1.0)}, {"w": jnp.array(2.0)}
  shared = jnp.array(2.0)
  probe.barrier(made(shared), jnp.ones(3), a, b, 3)
  traced = len(count)
  probe.barrier(made(shared), jnp.ones(3), a, b, 3)
  assert len(count) == traced  # which the loss itself writes: no value of its


def test_values_of_an_outer_trace():
  def outer(scale):
    def loss(p, d):
      return (p["w"] * scale * d) ** 2

    path = paths.line({"w": jnp.array(1.0)}, {"w": jnp.array(2.0)})
    return paths.along(path, [0.0], loss, jnp.ones(3)).sum()

  for scale in (1.0, 3.0):
    np.testing.assert_allclose(jax.jit(outer)(scale), scale**2)
    np.testing.assert_allclose(jax.grad(outer)(scale), 2 * scale)
