"""Lanczos, traces and densities on matrices whose spectrum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import probe

KEY = jax.random.key(0)


def symmetric(size, seed=0, spectrum=None):
  random = np.random.default_rng(seed)
  basis, _ = np.linalg.qr(random.normal(size=(size, size)))
  values = random.normal(size=size) if spectrum is None else spectrum
  made = basis * np.asarray(values)[None] @ basis.T
  return jnp.asarray((made + made.T) / 2, jnp.float32)


MATRIX = symmetric(40)
VALUES, VECTORS = np.linalg.eigh(np.asarray(MATRIX, float))


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
@pytest.mark.parametrize("steps", [40, 99])
def test_top_pairs_are_those_of_eigh(which, steps):
  order = {
    "largest": np.argsort(-VALUES),
    "smallest": np.argsort(VALUES),
    "magnitude": np.argsort(-np.abs(VALUES)),
  }[which][:3]
  values, vectors = probe.top_eigenpairs(MATRIX, 3, steps, KEY, which=which)
  np.testing.assert_allclose(values, VALUES[order], 1e-4, 1e-5)
  overlap = np.abs((np.asarray(vectors) * VECTORS[:, order].T).sum(1))
  np.testing.assert_allclose(overlap, 1.0, atol=1e-3)


def test_few_steps_converge_at_the_edge_and_the_bound_holds():
  spectrum = np.r_[np.linspace(-1, 1, 97), 5.0, 7.0, 10.0]
  matrix = symmetric(100, spectrum=spectrum)
  values, vectors = probe.top_eigenpairs(matrix, 3, 20, KEY)
  np.testing.assert_allclose(values, [10.0, 7.0, 5.0], 1e-4)
  found = probe.ritz(matrix, 20, KEY)
  gaps = np.abs(np.asarray(found.values)[:, None] - spectrum[None]).min(1)
  assert (gaps <= np.asarray(found.residuals) + 1e-4).all()
  assert float(found.weights.sum()) == pytest.approx(1.0, abs=1e-5)
  np.testing.assert_allclose(matrix @ vectors[0], 10.0 * vectors[0], 1e-3, 1e-3)


def test_multiple_eigenvalues_and_exhausted_spaces():
  """A Krylov space of the identity has one dimension: it begins anew."""
  values, vectors = probe.top_eigenpairs(jnp.eye(5), 5, 5, KEY)
  np.testing.assert_allclose(values, 1.0, rtol=1e-5)
  np.testing.assert_allclose(vectors @ vectors.T, np.eye(5), atol=1e-5)
  values, _ = probe.top_eigenpairs(
    symmetric(8, spectrum=[3, 3, 3, 0, 0, 0, 0, -1]), 4, 8, KEY
  )
  np.testing.assert_allclose(values, [3, 3, 3, 0], atol=1e-4)
  values, _ = probe.top_eigenpairs(jnp.zeros((3, 3)), 2, 3, KEY)
  assert values.tolist() == [0.0, 0.0]
  assert probe.top_eigenpairs(jnp.full((1, 1), 4.0), 1, 9, KEY)[0].tolist() == [
    4.0
  ]


def test_a_warm_start_needs_fewer_steps():
  spectrum = np.r_[np.linspace(0, 1, 198), 1.02, 1.03]
  matrix = symmetric(200, spectrum=spectrum)
  _, vectors = probe.top_eigenpairs(matrix, 2, 60, KEY)
  moved = matrix + 1e-3 * symmetric(200, seed=9)
  exact = np.linalg.eigvalsh(np.asarray(moved, float))[-1]
  cold = probe.top_eigenpairs(moved, 1, 6, KEY)[0][0]
  warm = probe.top_eigenpairs(moved, 1, 6, KEY, start=vectors)[0][0]
  one = probe.top_eigenpairs(moved, 1, 6, KEY, start=vectors[0])[0][0]
  assert abs(warm - exact) < 1e-4 < abs(cold - exact)
  assert abs(one - exact) < 1e-3
  with pytest.raises(ValueError, match="start: a zero vector"):
    probe.top_eigenpairs(matrix, 1, 3, KEY, start=jnp.zeros(200))


def loss(params, data):
  return -problems.likelihood(params, data)


def test_vectors_are_trees_and_blocks_of_basis_agree():
  """20 steps cross a block of 16 basis vectors; 23 parameters in all."""
  params, data = problems.tree(0), problems.data()
  operator = probe.hessian(loss, params, data)
  values, vectors = probe.top_eigenpairs(operator, 2, 23, KEY)
  whole = np.linalg.eigvalsh(
    np.stack(
      [
        operator.flat(operator(operator.tree(e)))
        for e in jnp.eye(operator.size)
      ]
    )
  )
  np.testing.assert_allclose(values, whole[::-1][:2], 1e-4)
  top = jax.tree.map(lambda x: x[0], vectors)
  problems.close(
    operator(top), jax.tree.map(lambda x: values[0] * x, top), 1e-2, 1e-3
  )
  assert ws.trees.size(vectors) == 2


@pytest.mark.slow
def test_parts_streams_and_functions():
  params, data = problems.tree(0), problems.data()
  part = probe.hessian(loss, params, data, only=["out"])
  values, vectors = probe.top_eigenpairs(part, 1, 99, KEY)
  assert not np.asarray(vectors["dense"]["kernel"]).any()
  stream = probe.streamed(
    lambda b: probe.hessian(loss, params, b, only=["out"]),
    [jax.tree.map(lambda x, p=p: x[p], data) for p in (slice(8), slice(8, 24))],
  )
  for found in (
    probe.top_eigenpairs(stream, 1, 99, KEY)[0],
    probe.ritz(stream, 8, KEY).values[-1:],
  ):
    np.testing.assert_allclose(found, values, 1e-4)
  value, _ = probe.trace(part, KEY, 3)
  other, _ = probe.trace(stream, KEY, 3)
  np.testing.assert_allclose(other, value, 1e-3)
  nodes, weights = probe.density(stream, KEY, 3, 2)
  expected = probe.density(part, KEY, 3, 2)
  np.testing.assert_allclose(
    (nodes * weights).sum(), (expected[0] * expected[1]).sum(), 1e-3
  )
  function = probe.from_function(lambda v: MATRIX @ v, jnp.zeros(40))
  np.testing.assert_allclose(
    probe.top_eigenpairs(function, 1, 40, KEY)[0], VALUES[-1:], 1e-4
  )


def test_hutchinson_has_its_variance():
  """2 (|A|_F^2 - sum A_ii^2) for one probe, over many."""
  value, error = probe.trace(MATRIX, KEY, 4000)
  exact = np.trace(np.asarray(MATRIX))
  assert abs(value - exact) < 4 * error
  off = np.asarray(MATRIX) - np.diag(np.diag(MATRIX))
  np.testing.assert_allclose(error, np.sqrt(2 * (off**2).sum() / 4000), 0.05)
  value, error = probe.trace(jnp.diag(jnp.arange(4.0)), KEY, 2)
  assert (value, error) == (6.0, 0.0)
  assert np.isinf(probe.trace(MATRIX, KEY, 1)[1])


def test_hutch_plus_plus_is_closer_for_decaying_spectra():
  spectrum = 0.6 ** np.arange(60.0) * 100
  matrix = symmetric(60, spectrum=spectrum)
  gaps = {"hutchinson": [], "hutch++": []}
  for method, found in gaps.items():
    for seed in range(5):
      value, error = probe.trace(
        matrix, jax.random.key(seed), 30, method=method
      )
      found.append(abs(float(value) - spectrum.sum()))
      assert found[-1] < 6 * error + 0.1
  assert np.mean(gaps["hutch++"]) < 0.2 * np.mean(gaps["hutchinson"])
  value, error = probe.trace(MATRIX, KEY, 120, method="hutch++")
  np.testing.assert_allclose(value, np.trace(np.asarray(MATRIX)), atol=1e-3)
  assert error == 0.0
  low_rank = jnp.ones((6, 6))
  value, error = probe.trace(low_rank, KEY, 9, method="hutch++")
  np.testing.assert_allclose(value, 6.0, atol=1e-4)


def test_density_has_the_moments_of_the_spectrum():
  nodes, weights = probe.density(MATRIX, KEY, 10, 400)
  assert nodes.shape == weights.shape == (400, 10)
  assert float(weights.sum()) == pytest.approx(1.0, abs=1e-4)
  for power in (1, 2, 3):
    found = float((weights * nodes**power).sum())
    assert found == pytest.approx((VALUES**power).mean(), abs=0.1)
  nodes, weights = probe.density(
    jnp.diag(jnp.array([1.0, 1.0, 4.0])), KEY, 9, 1
  )
  assert nodes.shape == (1, 3)
  assert float((nodes * weights).sum()) == pytest.approx(2.0, abs=1e-4)
  assert ((nodes > 0.99) & (nodes < 4.01)).all()
  grid = np.linspace(-10, 10, 4001)
  curve = probe.smooth(nodes, weights, grid, width=0.1)
  assert curve.sum() * (grid[1] - grid[0]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
  "call",
  [
    lambda o: probe.top_eigenpairs(o, 1, 4, KEY),
    lambda o: probe.ritz(o, 4, KEY),
    lambda o: probe.density(o, KEY, 4, 2),
  ],
)
def test_an_asymmetric_operator_is_refused(call):
  skew = MATRIX + 0.01 * jnp.triu(jnp.ones((40, 40)))
  operator = probe.from_function(lambda v: skew @ v, jnp.zeros(40))
  with pytest.raises(ValueError, match="not symmetric"):
    call(operator)
  with pytest.raises(
    ValueError, match="from_matrix: differs from its transpose"
  ):
    call(skew)
  broken = probe.from_function(lambda v: v * jnp.nan, jnp.zeros(4))
  with pytest.raises(ValueError, match="not finite"):
    call(broken)


def test_bad_numbers_are_named():
  with pytest.raises(ValueError, match="k is 5 with 3 steps in dimension 40"):
    probe.top_eigenpairs(MATRIX, 5, 3, KEY)
  with pytest.raises(ValueError, match="steps is 0"):
    probe.top_eigenpairs(MATRIX, 1, 0, KEY)
  with pytest.raises(ValueError, match="which: 'top'"):
    probe.top_eigenpairs(MATRIX, 1, 2, KEY, which="top")
  with pytest.raises(ValueError, match="got a function, expected an operator"):
    probe.trace(lambda v: v, KEY, 2)
  with pytest.raises(ValueError, match="2 probes, expected at least 3"):
    probe.trace(MATRIX, KEY, 2, method="hutch++")
  with pytest.raises(ValueError, match="method: 'xtrace'"):
    probe.trace(MATRIX, KEY, 2, method="xtrace")
  with pytest.raises(ValueError, match="0 probes"):
    probe.density(MATRIX, KEY, 2, 0)
  with pytest.raises(ValueError, match=r"from_matrix: \(2, 3\)"):
    probe.trace(jnp.ones((2, 3)), KEY, 2)


def test_jit_is_eager_and_many_models_at_once():
  found = jax.jit(
    lambda m, key: probe.top_eigenpairs(probe.from_matrix(m), 2, 9, key)
  )(MATRIX, KEY)
  problems.close(found[0], probe.top_eigenpairs(MATRIX, 2, 9, KEY)[0], 1e-4)
