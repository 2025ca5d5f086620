"""Numbers, reductions, labels and masks that people bring to probes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import probe

KEY = jax.random.key(0)
X = jnp.arange(12.0)


def each(w, x):
  return 0.5 * (w**2).sum() + 0.0 * x


def total(w, d):
  return 0.5 * ((d * w) ** 2).sum()


def mean(w, d):
  return 0.5 * ((d * w) ** 2).mean()


def coefficient(loss=each, **numbers):
  return probe.learning_coefficient(
    loss, jnp.ones(()), X, KEY, **({"draws": 6} | numbers)
  )


@pytest.mark.parametrize(
  "numbers",
  [
    {"temperature": 0.0},
    {"temperature": -1.0},
    {"temperature": np.nan},
    {"burn_in": -10},
    {"burn_in": 1.5},
    {"localization": -5.0},
    {"localization": np.inf},
    {"step_size": np.nan},
    {"step_size": -1e-3},
    {"draws": 0},
    {"draws": 2.5},
    {"chains": 0},
    {"batch_size": 0},
  ],
  ids=str,
)
def test_numbers_out_of_range_are_named(numbers):
  (name,) = numbers
  with pytest.raises(ValueError, match=f"learning_coefficient: {name} is"):
    coefficient(**numbers)


def test_other_sharpnesses_name_theirs_too():
  with pytest.raises(ValueError, match="eta is -1"):
    probe.sam_sharpness(each, jnp.ones(2), X, eta=-1.0)
  with pytest.raises(ValueError, match="radii are"):
    probe.radial_losses(each, jnp.ones(2), X, KEY, [1.0, np.nan])


def test_nothing_is_healthy_that_was_not_compared():
  for numbers in ({"draws": 1}, {"chains": 1}, {"draws": 1, "chains": 1}):
    assert not coefficient(**numbers).healthy
  found = probe.learning_coefficient(
    each, jnp.zeros(4), X, KEY, draws=400, step_size=0.02, localization=0.0
  )
  assert found.healthy


@pytest.mark.parametrize("size", [6, 4, 3, 1])
def test_a_summed_loss_is_found_out(size):
  w = jnp.ones(())
  with pytest.raises(ValueError, match="not 'sum'"):
    probe.hessian(total, w, X, batch_size=size)
  with pytest.raises(ValueError, match="not 'sum'"):
    coefficient(total, batch_size=size)
  with pytest.raises(ValueError, match="not 'sum'"):
    probe.fit_curve(total, X, w, 2 * w, KEY, 2, batch_size=size)
  whole = float(probe.hessian(mean, w, X)(w))
  parts = float(probe.hessian(mean, w, X, batch_size=size)(w))
  np.testing.assert_allclose(parts, whole, 1e-6)
  assert float(probe.hessian(total, w, X)(w)) == float((X**2).sum())
  penalised = lambda w, d: mean(w, d) + 3.0 * w**2  # noqa: E731
  assert np.isfinite(probe.hessian(penalised, w, X, batch_size=size)(w))


def test_products_that_are_no_numbers():
  bad = probe.from_function(lambda v: v * jnp.nan, jnp.ones(3))
  for method in ("hutchinson", "hutch++"):
    with pytest.raises(ValueError, match="a product of the operator is not"):
      probe.trace(bad, KEY, 6, method=method)


@pytest.mark.parametrize("matrix", [[1.0, 1.0], [0.0, 0.0], [1.0, 100.0]])
def test_densities_are_smoothed_to_what_a_grid_shows(matrix):
  found = probe.density(jnp.diag(jnp.array(matrix * 4)), KEY, 4, 3)
  grid = np.linspace(-300.0, 400.0, 141)
  np.testing.assert_allclose(probe.smooth(*found, grid).sum() * 5.0, 1.0, 1e-3)
  with pytest.raises(ValueError, match="smooth: nodes"):
    probe.smooth([], [], grid)


LOGITS = jax.random.normal(KEY, (3, 4, 5))
LABELS = jnp.array([[0, 1, 2, 4], [3, -100, 1, -100], [-100] * 4])


@pytest.mark.parametrize("name", ["cross_entropy", "accuracy", "entropy"])
def test_labels_that_are_none_do_not_count(name):
  metric = getattr(ws.losses, name)
  found = metric(LOGITS, LABELS)
  np.testing.assert_allclose(found[0], metric(LOGITS[:1], LABELS[:1])[0])
  kept = metric(LOGITS[1:2, ::2], LABELS[1:2, ::2])[0]
  np.testing.assert_allclose(found[1:], [kept, 0.0], 1e-6)
  other = jnp.where(LABELS == -100, 7, LABELS)
  np.testing.assert_array_equal(metric(LOGITS, other, ignore=7), found)
  one = metric(LOGITS[0], LABELS[1])  # [B] labels
  np.testing.assert_allclose(one[1::2], 0.0)


def test_labels_that_are_no_class_are_no_numbers():
  for label in (-1, 5):
    assert np.isnan(
      ws.losses.cross_entropy(LOGITS[0], jnp.array([0, 1, 2, label]))[3]
    )


def masked(z):
  return jnp.concatenate([z, jnp.full((*z.shape[:-1], 2), -jnp.inf)], -1)


@pytest.mark.parametrize("name", ["cross_entropy", "accuracy", "entropy"])
def test_classes_that_are_masked_out_do_not_count(name):
  metric, z = getattr(ws.losses, name), LOGITS[0]
  shares = jax.nn.softmax(LOGITS[1])
  wide = jnp.pad(shares, ((0, 0), (0, 2)))
  for labels in ((LABELS[0], LABELS[0]), (shares, wide)):
    wanted, found = metric(z, labels[0]), metric(masked(z), labels[1])
    np.testing.assert_allclose(found, wanted, 1e-6)
  if name != "accuracy":
    slope = jax.grad(lambda z: metric(masked(z), wide).sum())(z)
    wanted = jax.grad(lambda z: metric(z, shares).sum())(z)
    np.testing.assert_allclose(slope, wanted, 1e-5, 1e-6)


def test_divergences_of_masked_classes():
  a, b = LOGITS[:2]
  pairs = [
    probe.js_divergence,
    ws.average.divergence,
    lambda a, b: ws.average.regularised(a, b, jnp.arange(1.0 * a.shape[-1]), 1),
  ]
  for function in pairs:
    found = function(masked(a), masked(b))
    np.testing.assert_allclose(found, function(a, b), 1e-5, 1e-6)
  with pytest.raises(ValueError, match="js_divergence"):
    probe.js_divergence(jnp.ones((2, 3)), jnp.ones(3))


def test_temperature_of_masked_classes():
  labels = LABELS[0]
  found = probe.temperature(masked(LOGITS[0]), labels)
  np.testing.assert_allclose(found, probe.temperature(LOGITS[0], labels), 1e-4)


TOKENS = {
  "x": jax.random.normal(jax.random.key(1), (3, 4, 2)),
  "y": jnp.array([[0, 1, 2, 1], [3, 0, 1, 2], [1, 1, 2, 0]]),
}
WEIGHTS = {"v": jax.random.normal(jax.random.key(2), (2, 5))}


def network(p, x):
  return jnp.tanh(x) @ p["v"]


def diagonal(operator):
  flat, unravel = jax.flatten_util.ravel_pytree(WEIGHTS)
  rows = [operator(unravel(e))["v"].ravel() for e in jnp.eye(len(flat))]
  return np.diagonal(np.stack(rows)).reshape(2, 5)


def test_fisher_and_gauss_newton_count_tokens_alike():
  loss = ws.losses.of(network, ws.losses.cross_entropy)
  for labels in (TOKENS["y"], jnp.where(TOKENS["x"][..., 0] > 0.5, -100, 1)):
    data = TOKENS | {"y": labels}
    wanted = diagonal(probe.ggn(loss, WEIGHTS, data))
    exact = diagonal(probe.fisher(network, WEIGHTS, data))
    np.testing.assert_allclose(exact, wanted, 1e-5)
    own = ws.statistics.fisher(network, WEIGHTS, data)["v"]
    np.testing.assert_allclose(own, wanted, 1e-5)
  sums = diagonal(probe.fisher(network, WEIGHTS, TOKENS, tokens="sum"))
  own = ws.statistics.fisher(network, WEIGHTS, TOKENS, tokens="sum")["v"]
  np.testing.assert_allclose(own, sums, 1e-5)
  np.testing.assert_allclose(
    sums, 4 * ws.statistics.fisher(network, WEIGHTS, TOKENS)["v"], 1e-5
  )
  for function in (probe.fisher, ws.statistics.fisher):
    with pytest.raises(ValueError, match="tokens"):
      function(network, WEIGHTS, TOKENS, tokens="all")


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
def test_fisher_of_padded_and_masked_tokens(kind):
  """A padded place, or a masked class, is as if it were not there."""
  short = {name: leaf[:, :3] for name, leaf in TOKENS.items()}
  padded = TOKENS | {"y": TOKENS["y"].at[:, 3].set(-100)}
  given = () if kind != "sampled" else (KEY,)
  found = ws.statistics.fisher(network, WEIGHTS, padded, kind, *given)["v"]
  if kind != "sampled":
    wanted = ws.statistics.fisher(network, WEIGHTS, short, kind)["v"]
    np.testing.assert_allclose(found, wanted, 1e-5)

    def hidden(p, x):
      return masked(network(p, x))

    wide = ws.statistics.fisher(hidden, WEIGHTS, padded, kind)["v"]
    np.testing.assert_allclose(wide, wanted, 1e-5)
  assert np.isfinite(found).all()


def test_float64_stays_float64():
  with jax.enable_x64(True):
    p = {"v": jnp.asarray(np.asarray(WEIGHTS["v"], np.float64))}
    data = {"x": jnp.asarray(np.asarray(TOKENS["x"], np.float64))}
    data["y"] = TOKENS["y"]
    loss = ws.losses.of(network, ws.losses.cross_entropy)
    weights = np.array([1.0, 2.0, 4.0]) / 7
    value = ws.losses.cross_entropy(network(p, data["x"]), data["y"]) * weights
    hessian = jax.hessian(lambda v: (loss({"v": v}, data) * weights).sum())(
      p["v"]
    )
    product = probe.hessian(loss, p, data, weights=weights)(p)["v"]
    wanted = jnp.einsum("abcd,cd->ab", hessian, p["v"])
    np.testing.assert_allclose(product, wanted, 1e-13)
    gauss = probe.ggn(loss, p, data, weights=weights)(p)["v"]
    np.testing.assert_allclose(gauss, wanted, 1e-12)
    path = ws.paths.line(p, jax.tree.map(lambda x: 2 * x, p))
    along = ws.paths.along(path, [0.0], loss, data, weights=weights)
    np.testing.assert_allclose(along[0], value.sum(), 1e-14)
    grid = probe.surface(loss, data, p, p, p, [0.1], [0.3], weights=weights)
    at = jax.tree.map(lambda x: 1.4 * x, p)
    np.testing.assert_allclose(
      grid[0, 0], (loss(at, data) * weights).sum(), 1e-14
    )
    fisher = ws.statistics.fisher(network, p, data)["v"]
    exact = probe.fisher(network, p, data)
    one = exact({"v": jnp.zeros((2, 5)).at[0, 0].set(1.0)})["v"][0, 0]
    assert fisher.dtype == jnp.float64
    np.testing.assert_allclose(fisher[0, 0], one, 1e-13)
    gram = ws.statistics.gram(network, p, data["x"])["v"]
    rows = np.tanh(data["x"]).reshape(-1, 2)
    np.testing.assert_allclose(
      gram.reshape(2, 2), rows.T @ rows / len(rows), 1e-14
    )
    radial = probe.radial_losses(loss, p, data, KEY, [0.1], 2)
    assert radial.dtype == jnp.float64
    x = np.asarray(data["x"][:, 0])
    assert probe.js_divergence(x, 2 * x).dtype == jnp.float64
    assert probe.cka(x, x).dtype == jnp.float64
