"""Exact order statistics: counting, brackets, rows; shares; trims."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace.merge.core.steps import At
from weightspace.merge.methods import trims
from weightspace.merge.order_statistics import in_numpy, in_xla, quantiles
from weightspace.numerics import counts

X = np.random.default_rng(0).standard_normal((2, 999)).astype(np.float32)
X[1, :300] = 0  # zeros, and ties
X[1, 300:400] = 0.5
DENSITIES = [0.0, 0.2, 0.55, 0.7, 1.0]

by_counting = jax.jit(
  lambda x, k: jax.vmap(
    lambda one: in_xla.kth_largest([one[:500], one[500:]], k)
  )(x)
)


def whole(count):
  return int(count.high) * counts.BASE + int(count.low)


def kth(x, density):
  k = max(1, int(density * x.shape[-1] + 1e-6))
  return np.sort(np.abs(x), -1)[..., -k]


@pytest.mark.parametrize("density", DENSITIES)
def test_counting_and_bracket_are_the_sorted_entry(density):
  k = jax.tree.map(np.uint32, counts.kept(density, X.shape[1]))
  np.testing.assert_array_equal(by_counting(X, k), kth(X, density))
  np.testing.assert_array_equal(in_xla.of_leaf(X, density), kth(X, density))


def test_counting_vmaps_over_the_density():
  found = jax.jit(jax.vmap(lambda d: in_xla.of_leaf(jnp.asarray(X), d)))(
    jnp.array(DENSITIES)
  )
  np.testing.assert_array_equal(found, [kth(X, d) for d in DENSITIES])


@pytest.mark.parametrize("density", [1e-6, 0.01, 0.5, 0.99])
def test_sampled_bracket_is_exact(density):
  x = np.random.default_rng(1).standard_t(2, (1, 2**18)).astype(np.float32)
  np.testing.assert_array_equal(in_xla.of_leaf(x, density), kth(x, density))


@pytest.mark.parametrize("density", [0.001, 0.5])
def test_a_sample_that_misled_is_found_out(density, monkeypatch):
  def misleading(x):
    few = np.full((len(x), 50), 1e6 if density > 0.1 else 1e-6, x.dtype)
    return few, x.shape[1:]

  monkeypatch.setattr(in_numpy, "thin", misleading)
  monkeypatch.setattr(in_numpy.math, "sqrt", lambda _: 0.0)
  np.testing.assert_array_equal(in_xla.of_leaf(X, density), kth(X, density))


@pytest.mark.parametrize("kind", ["normal", "periodic", "zero"])
def test_a_sample_narrows_the_counting_and_may_mislead(kind, monkeypatch):
  monkeypatch.setattr(in_xla, "SAMPLED", 1000)
  monkeypatch.setattr(in_numpy, "STRIDE", 10)
  x = np.random.default_rng(2).standard_normal((2, 2010)).astype(np.float32)
  x = {"normal": x, "periodic": np.tile(x[:, :10], 201), "zero": 0 * x}[kind]
  found = jax.jit(jax.vmap(lambda d: in_xla.of_leaf(jnp.asarray(x), d)))(
    jnp.array(DENSITIES)
  )
  np.testing.assert_array_equal(found, [kth(x, d) for d in DENSITIES])


@pytest.mark.parametrize("signed", [False, True])
def test_signed_order(signed):
  x = np.array([[-3.0, -1.0, -2.0, 0.0]], np.float32)
  folds = in_xla.measures(lambda n: counts.Count(0, 2), signed=signed)
  traced = jax.jit(lambda x: in_xla.through(folds, x))(x)
  want = [-1.0] if signed else [2.0]
  assert in_xla.through(folds, x).tolist() == traced.tolist() == want


def test_rows_on_the_host_and_compiled():
  rows = X.reshape(2, 27, 37)
  want = np.sort(np.abs(rows), -1)[..., -5, None]
  np.testing.assert_array_equal(in_xla.of_rows(rows, 5), want)
  np.testing.assert_array_equal(jax.jit(in_xla.of_rows)(rows, 5), want)


def test_sharded_is_single():
  mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
  x = jnp.asarray(X[:, :992])
  spread = jax.device_put(x, jax.NamedSharding(mesh, jax.P(None, "d")))
  of = jax.jit(functools.partial(in_xla.of_leaf, density=0.2))
  np.testing.assert_array_equal(of(spread), kth(X[:, :992], 0.2))
  np.testing.assert_array_equal(
    in_xla.of_leaf(spread, 0.2), kth(X[:, :992], 0.2)
  )


SHARES = np.array([0, 10**5, 3 * 10**5, 7 * 10**5, 999_999, 10**6])


@pytest.mark.parametrize("n", [1, 7, 10, 999_999, 10**6, 2**31 + 7, 10**11])
def test_kept_is_the_floor_traced_or_not(n):
  want = [max(1, int(parts) * n // 10**6) for parts in SHARES]
  shares = np.float32(SHARES / 10**6)
  traced = jax.vmap(lambda share: counts.kept(share, n))(shares)
  assert [whole(counts.kept(parts / 10**6, n)) for parts in SHARES] == want
  assert [whole(counts.kept(share, n)) for share in shares] == want
  assert [whole(k) for k in map(counts.Count, *traced)] == want


def test_kept_of_a_traced_number_of_entries():
  found = jax.vmap(lambda n: counts.kept(0.3, n))(
    jnp.uint32([1, 10, 4_000_001])
  )
  assert (found.high * counts.BASE + found.low).tolist() == [1, 3, 1_200_000]


def test_counts_carry_beyond_32_bits():
  a = counts.Count(jnp.uint32(4000), jnp.uint32(999_999))
  b = counts.add(a, counts.Count(jnp.uint32(500), jnp.uint32(2)))
  assert whole(b) == 4_500_000_000 + 999_999 + 2 - 0
  assert bool(counts.at_least(b, a)) and not bool(counts.at_least(a, b))
  assert int(counts.excess(b, a)) == 500_000_002
  assert int(counts.excess(a, b)) == 0


def test_long_arrays_are_counted_in_halves(monkeypatch):
  monkeypatch.setattr(counts, "LIMIT", 100)
  (found,) = counts.count([lambda x: x > 0], jnp.asarray(X).reshape(54, 37))
  assert whole(found) == (X > 0).sum()


def test_counts_of_several_tests_are_each_ones():
  tests = [lambda v, t=t: v > t for t in (-1.0, 0.0, 1.0)]
  found = counts.count(tests, jnp.asarray(X))
  assert [whole(c) for c in found] == [(X > t).sum() for t in (-1.0, 0.0, 1.0)]


@pytest.mark.parametrize("share", [0.05, 0.25, 0.9])
def test_quantile_is_numpys(share):
  x = X[0, :200]
  folds = quantiles.quantile(share, signed=True)
  want = np.quantile(x, 1 - share)
  for run in (
    in_xla.through,
    jax.jit(in_xla.through, static_argnums=0),
  ):
    found = run(folds, jnp.asarray(x)[None])
    np.testing.assert_allclose(quantiles.between(found), [want], rtol=1e-5)


TREE = {
  "a": jnp.asarray(X[:, :12].reshape(2, 3, 4)),
  "b": jnp.asarray(np.float32([[1, 1, 1, 0], [0, 0, 0, 0]])),
  "c": jnp.float32([3, 0]),
}


def trimmed(rows, density, exact):
  k = max(1, int(density * rows.shape[-1] + 1e-6))
  order = np.argsort(-np.abs(rows), -1, kind="stable")
  limit = np.take_along_axis(np.abs(rows), order[..., k - 1 : k], -1)
  first = np.zeros(rows.shape, bool)
  np.put_along_axis(first, order[..., :k], True, -1)
  return np.where(first if exact else np.abs(rows) >= limit, rows, 0)


def reference_trim(density, scope, exact):
  leaves = [np.asarray(x) for x in TREE.values()]
  if scope == "global":
    flat = np.concatenate([x.reshape(2, -1) for x in leaves], 1)
    parts = np.split(trimmed(flat, density, exact), [12, 16], 1)
  else:
    views = [
      x.reshape(-1, x.shape[-1] if x.ndim > 1 else 1)
      if scope == "row"
      else x.reshape(2, -1)
      for x in leaves
    ]
    parts = [trimmed(x, density, exact) for x in views]
  return [p.reshape(x.shape) for p, x in zip(parts, leaves)]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("scope", trims.SCOPES)
@pytest.mark.parametrize("density", [0.01, 0.3])
def test_trim(scope, exact, density):
  recipe = ws.merge.chain(trims.trim(density, scope=scope, exact=exact))
  want = reference_trim(density, scope, exact)
  for run in (recipe, jax.jit(lambda x: recipe(x))):
    for got, leaf in zip(jax.tree.leaves(run(TREE)), want):
      np.testing.assert_array_equal(got, leaf)


def test_exact_keeps_the_share_exactly():
  recipe = ws.merge.chain(trims.trim(0.4, exact=True))
  kept = sum((np.asarray(x[0]) != 0).sum() for x in recipe(TREE).values())
  assert kept == int(0.4 * 17)


def test_a_threshold_of_zero_keeps_all_and_density_one_needs_no_pass():
  step = trims.trim(0.5, scope="tensor")
  zeros = jnp.zeros((2, 6))
  np.testing.assert_array_equal(
    step.edit(zeros, At(local=in_xla.through(step.local, zeros))), zeros
  )
  assert not trims.trim(1.0).measures


def test_tie_share():
  share = trims.tie_share(TREE["b"], jnp.array([1.0, 0.0]))
  assert share.tolist() == [0.75, 1.0]


@pytest.mark.parametrize("density", [-0.1, 1.5, np.nan])
def test_density_out_of_range_is_named(density):
  with pytest.raises(ValueError, match=r"density is .*expected a number in"):
    trims.trim(density)


def test_unknown_scope_is_named():
  with pytest.raises(ValueError, match="scope is 'layer'"):
    trims.trim(0.5, scope="layer")


@pytest.mark.parametrize("density", [0.01, 0.3, 0.6, 0.999])
def test_exact_trims_of_a_leaf_keep_the_first_ties(density):
  """On the host, under jit, and with one density for each of a batch."""
  rng = np.random.default_rng(0)
  x = rng.integers(-3, 4, (2, 7, 30)).astype(np.float32)
  k = max(1, int(density * 210 + 1e-6))
  expected = np.zeros((2, 210), np.float32)
  for row, values in zip(expected, x.reshape(2, -1)):
    kept = np.argsort(-np.abs(values), kind="stable")[:k]
    row[kept] = values[kept]

  def trimmed(density, x):
    step = trims.trim(density, scope="tensor", exact=True)
    return ws.merge.chain(step)({"w": x})["w"]

  for got in (
    trimmed(density, x),
    jax.jit(lambda x: trimmed(density, x))(x),
    jax.jit(jax.vmap(trimmed, (0, None)))(jnp.array([density, 0.5]), x)[0],
  ):
    np.testing.assert_array_equal(np.reshape(got, (2, -1)), expected)
