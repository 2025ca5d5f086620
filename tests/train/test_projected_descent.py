"""AdamP and SGDP: the projection, the rule that fires it, the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weightspace as ws
from weightspace import matrix_views

RANDOM = np.random.default_rng(0)


def cosines(g, w, eps):
  norms = [np.maximum(np.linalg.norm(x, axis=1), eps) for x in (g, w)]
  return np.abs((g * w).sum(1)) / norms[0] / norms[1]


def projected(d, g, w, delta, ratio, eps):
  """The rule on a matrix whose rows are output units, in NumPy."""
  for rows in (lambda x: x, lambda x: x.reshape(1, -1)):
    a, b, c = rows(g), rows(w), rows(d)
    if cosines(a, b, eps).max() < delta / np.sqrt(b.shape[1]):
      unit = b / (np.linalg.norm(b, axis=1, keepdims=True) + eps)
      c = c - unit * (unit * c).sum(1, keepdims=True)
      return c.reshape(d.shape), ratio
  return d, 1.0


def adamp_by_hand(w, gradients, rate, decay=0.0, nesterov=False, delta=0.1):
  m, v, b1, b2, eps, fired = 0.0, 0.0, 0.9, 0.999, 1e-8, []
  for t, g in enumerate(gradients, 1):
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
    down = np.sqrt(v) / np.sqrt(1 - b2**t) + eps
    d = (b1 * m + (1 - b1) * g if nesterov else m) / down
    ratio = 1.0
    if w.ndim > 1:
      d, ratio = projected(d, g, w, delta, 0.1, eps)
    fired.append(ratio < 1)
    w = w * (1 - rate * decay * ratio) - rate / (1 - b1**t) * d
  return w, fired


def sgdp_by_hand(w, gradients, rate, decay, momentum, dampening, nesterov):
  m = 0.0
  for g in gradients:
    m = momentum * m + (1 - dampening) * g
    d, ratio = (g + momentum * m if nesterov else m), 1.0
    if w.ndim > 1:
      d, ratio = projected(d, g, w, 0.1, 0.1, 1e-8)
    w = w * (1 - rate * decay * ratio / (1 - momentum)) - rate * d
  return w


def problem(kind, steps=6, shape=(4, 3)):
  """Return weights (out, in) and gradients that fire all, one, or no rule."""
  random = np.random.default_rng(len(kind))
  w, gradients = random.normal(size=shape), []
  for _ in range(steps):
    g = random.normal(size=shape) + (w if kind == "neither" else 0.0)
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    if kind == "units":
      g = g - unit * (unit * g).sum(1, keepdims=True)
    if kind == "layer":
      g = g - w * (w * g).sum() / (w * w).sum()
    gradients.append(g)
  return w, gradients


def run(tx, w, gradients):
  """Take the same gradients through optax, on kernels [in, out]."""
  params = {"kernel": jnp.asarray(w.T, jnp.float32)}
  state = tx.init(params)
  for g in gradients:
    gradient = {"kernel": jnp.asarray(g.T, jnp.float32)}
    updates, state = tx.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
  return np.asarray(params["kernel"]).T


@pytest.mark.parametrize("kind", ["units", "layer", "neither"])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adamp_is_the_authors_rule(kind, nesterov, decay):
  # Small steps: the gradients stay nearly orthogonal to the moving weights.
  w, gradients = problem(kind)
  expected, fired = adamp_by_hand(w, gradients, 1e-3, decay, nesterov)
  assert any(fired) == (kind != "neither")
  tx = ws.train.adamp(1e-3, weight_decay=decay, nesterov=nesterov)
  assert np.allclose(run(tx, w, gradients), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["units", "layer", "neither"])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum,dampening", [(0.0, 0.0), (0.9, 0.2)])
def test_sgdp_is_the_authors_rule(kind, nesterov, momentum, dampening):
  w, gradients = problem(kind)
  settings = 0.1, momentum, dampening, nesterov
  expected = sgdp_by_hand(w, gradients, 1e-3, *settings)
  tx = ws.train.sgdp(1e-3, momentum, dampening, 0.1, nesterov=nesterov)
  assert np.allclose(run(tx, w, gradients), expected, atol=1e-6)


def stepped(tx, params, gradient):
  updates, _ = tx.update(gradient, tx.init(params), params)
  return updates


def test_without_delta_it_is_adam_bit_by_bit():
  params = {"w": jnp.asarray(RANDOM.normal(size=(5, 4)), jnp.float32)}
  gradients = [
    {"w": jnp.asarray(RANDOM.normal(size=(5, 4)), jnp.float32)}
    for _ in range(3)
  ]
  for ours, theirs in (
    (ws.train.adamp(0.01, delta=0.0), optax.adam(0.01)),
    (
      ws.train.adamp(0.01, weight_decay=0.1, delta=0.0),
      optax.adamw(0.01, weight_decay=0.1),
    ),
    (ws.train.sgdp(0.01, 0.9, delta=0.0), optax.sgd(0.01, 0.9)),
  ):
    states, models = [tx.init(params) for tx in (ours, theirs)], [params] * 2
    for g in gradients:
      for i, tx in enumerate((ours, theirs)):
        updates, states[i] = tx.update(g, states[i], models[i])
        models[i] = optax.apply_updates(models[i], updates)
    assert np.array_equal(models[0]["w"], models[1]["w"])


def test_norms_grow_as_pythagoras_has_it():
  """|w'|^2 = |w|^2 + lr^2 |d|^2 for a loss that is free of scale."""
  target = jnp.asarray(RANDOM.normal(size=(6, 3)), jnp.float32)

  def loss(w):
    unit = w / jnp.linalg.norm(w, axis=0, keepdims=True)
    return -(unit * target).sum()

  w = jnp.asarray(RANDOM.normal(size=(6, 3)), jnp.float32)
  tx = ws.train.adamp(0.05)
  state = tx.init(w)
  for _ in range(5):
    updates, state = tx.update(jax.grad(loss)(w), state, w)
    along = jnp.abs((w * updates).sum(0))
    sizes = [jnp.linalg.norm(x, axis=0) for x in (w, updates)]
    assert (along <= 1e-6 * sizes[0] * sizes[1] + 1e-7).all()
    moved = optax.apply_updates(w, updates)
    assert np.allclose(
      jnp.linalg.norm(moved, axis=0) ** 2, sizes[0] ** 2 + sizes[1] ** 2
    )
    w = moved


def test_one_unit_that_is_not_orthogonal_leaves_it_to_the_layer():
  w, (g, *_) = problem("units")
  g[0] = w[0]
  assert cosines(g, w, 1e-8).max() > 0.9
  expected, _ = adamp_by_hand(w, [g], 1e-3)
  assert np.allclose(run(ws.train.adamp(1e-3), w, [g]), expected, atol=1e-7)


def kernel(shape, units):
  """Return weights and a gradient orthogonal to each output unit's weights."""
  w, g = RANDOM.normal(size=(2, *shape))
  rows = [units(x) for x in (w, g)]
  unit = rows[0] / np.linalg.norm(rows[0], axis=1, keepdims=True)
  flat = rows[1] - unit * (unit * rows[1]).sum(1, keepdims=True)
  return jnp.asarray(w), jnp.asarray(flat), unit


@pytest.mark.parametrize(
  "path,shape,units,back",
  [
    (
      "conv/kernel",
      (3, 3, 4, 5),
      lambda x: x.reshape(-1, 5).T,
      lambda r: r.T.reshape(3, 3, 4, 5),
    ),
    (
      "query/kernel",
      (6, 2, 4),
      lambda x: x.reshape(6, 8).T,
      lambda r: r.T.reshape(6, 2, 4),
    ),
    (
      "out/kernel",
      (2, 4, 6),
      lambda x: x.reshape(8, 6).T,
      lambda r: r.T.reshape(2, 4, 6),
    ),
  ],
)
def test_convolutions_and_heads_have_their_own_units(path, shape, units, back):
  w, rows, unit = kernel(shape, units)
  # A momentum of another direction: what is projected is not the gradient.
  tree = {path.split("/")[0]: {path.split("/")[1]: w.astype(jnp.float32)}}
  gradient = jax.tree.map(lambda _: jnp.asarray(back(rows), jnp.float32), tree)
  updates = stepped(ws.train.adamp(1.0), tree, gradient)
  found = units(np.asarray(jax.tree.leaves(updates)[0]))
  assert np.allclose((found * unit).sum(1), 0.0, atol=1e-5)
  plain = units(-np.sign(back(np.asarray(rows))))
  assert not np.allclose((plain * unit).sum(1), 0.0, atol=1e-2)


def test_scanned_layers_are_judged_each_by_itself():
  view = matrix_views.scanned("blocks")
  ws_, gs = zip(*(problem(k, 1, (8, 6)) for k in ("units", "neither")))
  stacked = {"blocks": {"kernel": jnp.stack([w.T for w in ws_])}}
  gradient = {"blocks": {"kernel": jnp.stack([g[0].T for g in gs])}}
  tx = ws.train.adamp(0.1, weight_decay=0.1, view=view)
  together = stepped(tx, stacked, gradient)["blocks"]["kernel"]
  alone = [
    stepped(ws.train.adamp(0.1, weight_decay=0.1), w.T, g[0].T)
    for w, g in zip(map(jnp.asarray, ws_), gs)
  ]
  assert np.allclose(together, jnp.stack(alone), atol=1e-6)


def test_vectors_are_never_projected():
  for tree in ({"bias": jnp.ones((2, 3))}, {"w": jnp.ones(4)}):
    # Orthogonal to the weights, which are ones.
    g = jax.tree.map(lambda x: x - 2.0 * (jnp.cumsum(x, -1) > 2), tree)
    ours = stepped(ws.train.adamp(0.1), tree, g)
    theirs = stepped(optax.adam(0.1), tree, g)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs)):
      assert np.array_equal(a, b)


def test_low_precision_weights_have_wide_moments():
  w = jnp.asarray(RANDOM.normal(size=(4, 3)), jnp.bfloat16)
  g = jnp.asarray(RANDOM.normal(size=(4, 3)), jnp.bfloat16)
  low, high = (
    optax.apply_updates(x, stepped(ws.train.adamp(0.1), x, g.astype(x.dtype)))
    for x in (w, w.astype(jnp.float32))
  )
  assert low.dtype == jnp.bfloat16
  assert np.array_equal(low, high.astype(jnp.bfloat16))


def test_jit_vmap_and_schedules():
  w, gradients = problem("units", 2)
  schedule = optax.linear_schedule(0.1, 0.0, 2)
  params = jnp.asarray(w.T, jnp.float32)
  g = jnp.asarray(gradients[0].T, jnp.float32)
  eager = stepped(ws.train.adamp(schedule), params, g)
  assert np.allclose(eager, stepped(ws.train.adamp(0.1), params, g))

  @jax.jit
  def at(rate):
    return stepped(ws.train.adamp(rate), params, g)

  each = jax.vmap(at)(jnp.array([0.1, 0.2]))
  assert np.allclose(each[0], eager, atol=1e-6)
  assert np.allclose(each[1], 2 * eager, atol=1e-6)


def test_it_trains_a_population_by_name():
  data = {"x": jnp.eye(3), "y": jnp.eye(3)}

  def loss(params, batch):
    return ((batch["x"] @ params["w"] - batch["y"]) ** 2).sum(-1)

  fitted = ws.train.fit_population(
    loss,
    {"w": 0.1 * jnp.ones((2, 3, 3))},
    ws.train.adamp,
    data,
    key=jax.random.key(0),
    epochs=3,
    batch_size=3,
    hyper={"learning_rate": jnp.array([0.0, 0.1])},
  )
  assert np.allclose(fitted.params["w"][0], 0.1)
  assert fitted.losses[-1, 0, 1] < fitted.losses[0, 0, 1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.floats(-12, 12))
def test_a_projection_is_orthogonal_and_idempotent(seed, n, power):
  random = np.random.default_rng(seed)
  u = jnp.asarray(random.normal(size=n), jnp.float32)
  w = jnp.asarray(10.0**power * random.normal(size=n), jnp.float32)
  found = ws.train.project_radial(u, w)
  scale = float(jnp.linalg.norm(u) * jnp.linalg.norm(w))
  assert abs(float(found @ w)) <= 1e-6 * scale * n**0.5
  again = ws.train.project_radial(found, w)
  assert np.allclose(again, found, atol=1e-5)


def test_a_projection_by_hand():
  u, w = RANDOM.normal(size=(2, 3, 4))
  expected = u - w * (u * w).sum() / (w * w).sum()
  found = ws.train.project_radial(jnp.asarray(u), jnp.asarray(w))
  assert np.allclose(found, expected, atol=1e-6)
  tree = ws.train.project_radial({"a": u, "b": u[0]}, {"a": w, "b": w[0]})
  assert np.allclose(tree["a"], expected, atol=1e-6)
  assert abs((np.asarray(tree["b"]) * w[0]).sum()) < 1e-5


def test_weights_of_zero_length_project_nothing():
  u = jnp.ones((2, 3))
  assert np.array_equal(ws.train.project_radial(u, 0 * u), u)
  zero = stepped(ws.train.adamp(0.1), jnp.zeros((2, 3)), u)
  assert np.allclose(zero, -0.1)
  none = stepped(ws.train.adamp(0.1), u, jnp.zeros((2, 3)))
  assert np.array_equal(none, jnp.zeros((2, 3)))


def test_a_projection_keeps_the_dtype_of_the_update():
  u, w = jnp.ones(3, jnp.bfloat16), jnp.arange(3.0)
  assert ws.train.project_radial(u, w).dtype == jnp.bfloat16
  whole = {"n": jnp.array(2)}
  assert ws.train.project_radial(whole, whole)["n"] == 2


def test_bad_input_is_refused():
  w = jnp.ones((2, 2))
  tx = ws.train.adamp(0.1)
  with pytest.raises(ValueError, match="adamp: params are None"):
    tx.update(w, tx.init(w))
  with pytest.raises(ValueError, match=r"update of 'a' is None, expected \(2"):
    tx.update({"b": w}, tx.init({"b": w}), {"a": w})
  with pytest.raises(ValueError, match=r"is \(3,\), expected \(2,\)"):
    ws.train.project_radial(jnp.ones(3), jnp.ones(2))


@pytest.mark.parametrize(
  "name,value",
  [
    ("delta", -0.1),
    ("eps", -1.0),
    ("weight_decay", -1.0),
    ("wd_ratio", 1.5),
    ("learning_rate", float("nan")),
  ],
)
@pytest.mark.parametrize("make", ["adamp", "sgdp"])
def test_numbers_out_of_range_are_named(make, name, value):
  given = {"learning_rate": 0.1} | {name: value}
  with pytest.raises(ValueError, match=f"{make}: {name} is"):
    getattr(ws.train, make)(**given)


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_decays_are_below_one(value):
  for make, name in (("adamp", "b1"), ("adamp", "b2"), ("sgdp", "momentum")):
    with pytest.raises(ValueError, match=f"{make}: {name} is"):
      getattr(ws.train, make)(0.1, **{name: value})


@pytest.mark.parametrize("cosine,fires", [(0.02, True), (0.05, False)])
def test_the_bound_falls_with_the_root_of_the_row(cosine, fires):
  """0.1 / sqrt(16) = 0.025: chance cosines of longer rows are smaller."""
  w = jnp.zeros((16, 1)).at[0].set(1.0)
  g = jnp.zeros((16, 1)).at[0].set(cosine).at[1].set((1 - cosine**2) ** 0.5)
  updates = stepped(ws.train.sgdp(1.0), w, g)
  assert (abs(float(updates[0, 0])) < 1e-6) == fires
