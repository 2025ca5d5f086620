"""CKA, differences, laziness and gradient noise against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import problems
from weightspace import probe

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 5)).astype(np.float32)
Y = (X @ RANDOM.normal(size=(5, 40)) + RANDOM.normal(size=(24, 40))).astype(
  np.float32
)
DATA = problems.data()


def loss(params, data):
  return -problems.likelihood(params, data)


def hsic(k, other, debiased):
  n = len(k)
  if not debiased:
    centre = np.eye(n) - 1 / n
    return np.trace(k @ centre @ other @ centre)
  k, other = (a - np.diag(np.diag(a)) for a in (k, other))
  one = np.ones(n)
  total = np.trace(k @ other)
  total += one @ k @ one * (one @ other @ one) / ((n - 1) * (n - 2))
  return total - 2 / (n - 2) * one @ k @ other @ one


def reference(x, y, debiased):
  k, other = (np.asarray(a, float) @ np.asarray(a, float).T for a in (x, y))
  own = hsic(k, k, debiased) * hsic(other, other, debiased)
  return hsic(k, other, debiased) / np.sqrt(own)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_cka_is_its_definition_in_every_form(debiased, shift):
  """Narrow (features), wide (Gram), and in batches with a merge."""
  for a, b in ((X, X[:, :2] ** 2), (X, Y), (Y, X)):
    a, b = a + np.float32(shift), b - np.float32(shift)
    expected = reference(a, b, debiased)
    assert float(probe.cka(a, b, debiased)) == pytest.approx(expected, abs=2e-3)
    fold = probe.cka_fold(debiased)
    states = [fold.init((a, b)), fold.init((a, b))]
    for n, part in enumerate((slice(0, 1), slice(1, 9), slice(9, 24))):
      states[n % 2] = fold.update(states[n % 2], (a[part], b[part]))
    found = float(fold.value(fold.merge(*states)))
    assert found == pytest.approx(expected, abs=2e-3)


def test_cka_does_not_see_rotations_and_scales():
  basis, _ = np.linalg.qr(RANDOM.normal(size=(5, 5)))
  assert float(probe.cka(X, 3.0 * X @ basis + 1.0)) == pytest.approx(
    1.0, abs=1e-5
  )
  images = X.reshape(24, 5, 1)
  assert float(probe.cka(images, X)) == pytest.approx(1.0, abs=1e-5)
  noise = RANDOM.normal(size=(2, 20, 50))
  assert (
    float(probe.cka(*noise))
    > 0.5
    > abs(float(probe.cka(*noise, debiased=True)))
  )
  assert np.isnan(probe.cka(X, np.ones((24, 1))))
  with pytest.raises(ValueError, match="24 and 23 examples"):
    probe.cka(X, X[1:])
  with pytest.raises(ValueError, match="at least 4"):
    probe.cka(X[:3], X[:3], debiased=True)
  with pytest.raises(ValueError, match=r"x is \(24,\), expected"):
    probe.cka(X[:, 0], X)


def test_differences_of_answers_and_weights():
  a, b = RANDOM.normal(size=(2, 30, 4))
  assert float(probe.disagreement(a, b)) == pytest.approx(
    np.mean(a.argmax(1) != b.argmax(1))
  )
  p, q = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (a, b))
  m = (p + q) / 2
  expected = ((p * np.log(p / m) + q * np.log(q / m)).sum(1) / 2).mean()
  assert float(probe.js_divergence(a, b)) == pytest.approx(expected, 1e-4)
  one, two = problems.tree(0), problems.tree(1)
  flat = [
    np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)])
    for t in (one, two)
  ]
  assert float(probe.distance(one, two)) == pytest.approx(
    np.linalg.norm(flat[0] - flat[1]), 1e-5
  )
  expected = flat[0] @ flat[1] / np.prod([np.linalg.norm(f) for f in flat])
  assert float(probe.cosine(one, two)) == pytest.approx(expected, 1e-4)
  base = problems.tree(2)
  mirrored = jax.tree.map(lambda b, x: 2 * b - x, base, one)
  assert float(probe.cosine(one, mirrored, base)) == pytest.approx(
    -1.0, abs=1e-4
  )
  with pytest.raises(ValueError, match="'out' is missing"):
    probe.distance(one, {"dense": one["dense"], "gain": one["gain"]})
  with pytest.raises(ValueError, match="expected equal"):
    probe.disagreement(a, b[1:])


@pytest.mark.parametrize("full", [True, False])
def test_the_tangent_kernel_is_that_of_the_dense_jacobian(full):
  params, x = problems.tree(0), DATA["x"][:6]
  rows = jax.jacobian(lambda p: problems.apply(p, x))(params)
  flat = np.concatenate(
    [np.reshape(r, (6, 2, -1)) for r in jax.tree.leaves(rows)], -1
  )
  whole = np.einsum("nci,mdi->ncmd", flat, flat)
  expected = whole.reshape(12, 12) if full else np.einsum("ncmc->nm", whole) / 2
  found = probe.tangent_kernel(problems.apply, params, x, full=full)
  np.testing.assert_allclose(found, expected, 1e-4, 1e-4)
  part = probe.tangent_kernel(
    problems.apply, params, x, only=["out"], full=full
  )
  assert np.trace(part) < np.trace(found)
  other = problems.tree(1)
  same = probe.kernel_alignment(problems.apply, params, params, x, full=full)
  far = probe.kernel_alignment(problems.apply, params, other, x, full=full)
  assert float(same) == pytest.approx(1.0, abs=1e-5) and far < 0.99


def test_laziness_of_representations_and_ranks():
  h = np.abs(X)
  assert float(probe.representation_alignment(h, 2 * h)) == pytest.approx(1.0)
  k, other = X @ X.T, h @ h.T
  expected = (k * other).sum() / np.linalg.norm(k) / np.linalg.norm(other)
  assert float(probe.representation_alignment(X, h)) == pytest.approx(
    expected, 1e-5
  )
  assert float(probe.sign_agreement(X, h)) == pytest.approx((X > 0).mean())
  low = np.outer(np.arange(1.0, 5.0), np.ones(4))
  assert float(probe.effective_rank(low)) == pytest.approx(0.25, abs=1e-3)
  assert float(probe.effective_rank(low, "stable")) == pytest.approx(
    1.0, abs=1e-4
  )
  assert float(probe.effective_rank(low, "entropy")) == pytest.approx(
    1.0, abs=1e-2
  )
  with pytest.raises(ValueError, match="expected a square matrix"):
    probe.effective_rank(X)
  with pytest.raises(ValueError, match="kind: 'nuclear'"):
    probe.effective_rank(X, "nuclear")
  with pytest.raises(ValueError, match="with one N"):
    probe.representation_alignment(X, X[1:])


def test_the_noise_scale_is_that_of_the_gradients():
  params = problems.tree(0)
  rows = jax.jacobian(lambda p: loss(p, DATA))(params)
  flat = np.concatenate(
    [np.reshape(r, (24, -1)) for r in jax.tree.leaves(rows)], 1
  )

  def scale(g):
    spread = g.var(0, ddof=1).sum()
    return spread / ((g.mean(0) ** 2).sum() - spread / len(g))

  found = probe.noise_scale(loss, params, DATA, batch=5)
  assert float(found.value) == pytest.approx(scale(flat), 1e-3)
  left = [scale(np.delete(flat, n, 0)) for n in range(24)]
  error = np.sqrt(23 / 24 * ((left - np.mean(left)) ** 2).sum())
  assert float(found.stderr) == pytest.approx(error, 1e-2)
  with pytest.raises(ValueError, match="needs a loss that returns"):
    probe.noise_scale(lambda p, d: loss(p, d).mean(), params, DATA)
  with pytest.raises(ValueError, match="expected b < B"):
    probe.noise_scale_of_norms(1.0, 1.0, (4, 4))


def test_two_batch_sizes_estimate_without_bias():
  """Gradients with |G|^2 = 1 and tr(Sigma) = 4, over many batches."""
  mean = np.array([1.0, 0.0])
  draws = mean + RANDOM.normal(0, np.sqrt(2), size=(4000, 16, 2))
  small = (draws[:, :2].mean(1) ** 2).sum(1).mean()
  large = (draws.mean(1) ** 2).sum(1).mean()
  spread, square = probe.noise_scale_of_norms(small, large, (2, 16))
  assert spread == pytest.approx(4.0, rel=0.1)
  assert square == pytest.approx(1.0, rel=0.1)


SCALES = [1e-12, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e12]


def fold_of(x, y, debiased, size=7):
  fold = probe.cka_fold(debiased)
  state = fold.init((x[:size], y[:size]))
  for i in range(0, len(x), size):
    state = fold.update(state, (x[i : i + size], y[i : i + size]))
  return fold.value(state)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("debiased", [False, True])
def test_cka_does_not_see_24_decades(scale, debiased):
  y = np.asarray(X @ np.linspace(-1, 1, X.shape[1] * 3).reshape(-1, 3) ** 2)
  x, y = (np.asarray(z, np.float32) for z in (X, y))
  wanted = float(probe.cka(x, y, debiased))
  small = x * np.float32(scale), y / np.float32(scale)
  np.testing.assert_allclose(probe.cka(*small, debiased), wanted, 1e-4)
  np.testing.assert_allclose(fold_of(*small, debiased), wanted, 1e-4)
  wider = np.tile(x, 9), np.tile(y, 20)  # wider than N: through Gram matrices
  wanted = float(probe.cka(*wider, debiased))
  scaled = [z * np.float32(scale) for z in wider]
  np.testing.assert_allclose(probe.cka(*scaled, debiased), wanted, 1e-4)


def test_a_fold_whose_batches_grow_by_decades():
  x = X * 10.0 ** np.linspace(-9, 9, len(X))[:, None]
  x = np.asarray(x, np.float32)
  np.testing.assert_allclose(fold_of(x, 3 * x, False, 4), 1.0, 1e-4)
  fold = probe.cka_fold()
  parts = []
  for part in (x[:12], x[12:]):
    parts.append(fold.update(fold.init((x[:12], x[:12])), (part, part)))
  np.testing.assert_allclose(fold.value(fold.merge(*parts)), 1.0, 1e-4)


@pytest.mark.parametrize("constant", [0.0, 1e-12, 0.1, 1000.3, 1e12])
@pytest.mark.parametrize("debiased", [False, True])
def test_cka_of_constant_features_is_nan(constant, debiased):
  flat = np.full((24, 2), constant, np.float32)
  flat[::2] *= np.float32(1 + 1e-7)  # a unit of rounding
  x = np.asarray(X, np.float32)
  for pair in ((x, flat), (flat, x), (flat, flat)):
    assert np.isnan(probe.cka(*pair, debiased))
    assert np.isnan(fold_of(*pair, debiased))


def test_cka_of_raw_pixels():
  random = np.random.default_rng(0)
  x = random.integers(0, 256, (3000, 40)).astype(np.uint8)
  for debiased in (False, True):
    np.testing.assert_allclose(probe.cka(x[:500], x[:500], debiased), 1.0, 1e-5)
    np.testing.assert_allclose(fold_of(x, x, debiased, 1000), 1.0, 1e-5)


@pytest.mark.parametrize("scale", SCALES)
def test_cosines_and_alignments_do_not_see_24_decades(scale):
  a = {"w": jnp.full(10, scale)}
  b = {"w": jnp.full(10, scale).at[0].set(-scale)}
  np.testing.assert_allclose(probe.cosine(a, a), 1.0, 1e-6)
  np.testing.assert_allclose(probe.cosine(a, b), 0.8, 1e-6)
  np.testing.assert_allclose(probe.distance(a, b), 2 * scale, 1e-6)
  x = np.asarray(X, np.float32)
  wanted = probe.representation_alignment(x, x**2)
  found = probe.representation_alignment(x * scale, x**2 / scale)
  np.testing.assert_allclose(found, wanted, 1e-5)

  def apply(p, x):
    return jnp.tanh(x @ p) * scale

  p = jnp.full((x.shape[1], 2), 0.3)
  kernels = probe.kernel_alignment(apply, p, p, x)
  np.testing.assert_allclose(kernels, 1.0, 1e-5)
  for kind in ("stable", "participation", "entropy", "eigenvalues"):
    found = probe.effective_rank(scale * np.eye(4), kind)
    np.testing.assert_allclose(
      found, 1.0 if kind == "eigenvalues" else 4.0, 1e-5
    )
