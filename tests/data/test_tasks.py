"""Tasks, spurious patches, batches: exact counts, partitions, closed forms."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from weightspace import data
from weightspace.data import spurious

KEY = jax.random.key(0)
CHEAP = hypothesis.settings(max_examples=15, deadline=None)
Y = np.random.default_rng(0).integers(0, 10, 1000).astype(np.int32)
COUNTS = np.bincount(Y)


def test_keep_classes_keeps_order_and_relabels():
  table = {"x": np.arange(6.0), "y": np.array([2, 0, 1, 2, 0, 5], np.int32)}
  kept = data.keep_classes(table, [2, 5])
  assert kept["x"].tolist() == [0, 3, 5] and kept["y"].tolist() == [2, 2, 5]
  relabelled = data.keep_classes(table, [5, 2], relabel=True)
  assert relabelled["x"].tolist() == [0, 3, 5]
  assert relabelled["y"].tolist() == [1, 1, 0]
  assert relabelled["y"].dtype == np.int32 and table["y"].tolist()[0] == 2


@pytest.mark.parametrize("classes", [[2, 3], [2, 2], [-1]])
def test_keep_classes_names_the_bad_class(classes):
  with pytest.raises(ValueError, match=f"classes: {classes[-1]} is named"):
    data.keep_classes({"y": np.array([0, 1, 2])}, classes)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.577, 1.0])
def test_flipped_share_is_exact_and_even(share):
  flip = functools.partial(data.flip_labels, share=share, classes=10)
  noisy = np.asarray(flip(KEY, Y))
  assert noisy.dtype == np.int32 and 0 <= noisy.min() and noisy.max() <= 9
  assert (noisy != Y).sum() == round(share * 1000)
  np.testing.assert_array_equal(jax.jit(flip)(KEY, Y), noisy)
  if share == 1:
    offsets = np.bincount((noisy - Y) % 10, minlength=10)
    # Binomial(1000, 1/9) has standard deviation 9.9.
    assert offsets[0] == 0 and np.abs(offsets[1:] - 1000 / 9).max() < 50
    other = data.flip_labels(jax.random.key(1), Y, share, 10)
    assert not np.array_equal(other, noisy)


@pytest.mark.parametrize(
  ("share", "classes"), [(1.1, 10), (-0.1, 10), (0.5, 1)]
)
def test_bad_label_noise(share, classes):
  with pytest.raises(ValueError, match=f"share {share} of {classes} classes"):
    data.flip_labels(KEY, Y, share, classes)


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 1.0, 1e4])
@pytest.mark.parametrize("clients", [1, 7])
def test_dirichlet_deals_every_example_once(clients, alpha):
  parts = data.dirichlet(KEY, Y, clients, alpha)
  assert len(parts) == clients
  assert sorted(np.concatenate(parts)) == list(range(1000))
  again = data.dirichlet(KEY, Y, clients, alpha)
  assert all(np.array_equal(a, b) for a, b in zip(parts, again))
  shares = np.array([np.bincount(Y[p], minlength=10) for p in parts]) / COUNTS
  if alpha == 1e4:
    np.testing.assert_allclose(shares, 1 / clients, atol=0.02)
  if alpha == 1e-3:
    np.testing.assert_allclose(shares.max(0), 1, atol=0.02)


def test_dirichlet_shares_have_their_variance():
  y = np.zeros(1000, int)
  shares = [
    len(data.dirichlet(jax.random.key(k), y, 4, 1.0)[0]) / 1000
    for k in range(150)
  ]
  # Dirichlet(1, 1, 1, 1): mean 1/4, variance (1/4)(3/4) / 5.
  assert abs(np.mean(shares) - 0.25) < 5 * (0.0375 / 150) ** 0.5
  assert abs(np.var(shares) / 0.0375 - 1) < 0.5


@pytest.mark.parametrize(("clients", "alpha"), [(0, 1.0), (3, 0.0), (3, -1.0)])
def test_bad_dirichlet(clients, alpha):
  with pytest.raises(ValueError, match=f"{clients} clients with alpha {alpha}"):
    data.dirichlet(KEY, Y, clients, alpha)


def test_few_shot_draws_without_replacement():
  chosen = data.few_shot(KEY, Y, 5)
  assert len(set(chosen.tolist())) == 50
  assert Y[chosen].tolist() == np.repeat(np.arange(10), 5).tolist()
  assert set(chosen) != set(data.few_shot(jax.random.key(1), Y, 5))
  for wrong in (0, COUNTS.max() + 1):
    with pytest.raises(ValueError, match=f"per_class {wrong}: class"):
      data.few_shot(KEY, Y, wrong)


def test_bootstrap_leaves_out_one_in_e():
  draws = np.asarray(data.bootstrap(KEY, 500, draws=20))
  assert draws.shape == (20, 500) and draws.min() >= 0 and draws.max() < 500
  distinct = np.mean([len(set(row)) for row in draws]) / 500
  np.testing.assert_allclose(distinct, 1 - np.exp(-1), atol=0.02)


@CHEAP
@hypothesis.given(
  st.integers(1, 30), st.integers(1, 30), st.integers(1, 8), st.integers(1, 9)
)
def test_the_ring_is_cut_evenly(height, width, border, per_side):
  per_side = min(per_side, height + border, width + border)
  patches = spurious.ring(height, width, border, 4 * per_side)
  inner = patches[border : border + height, border : border + width]
  assert np.all(inner == -1) and (patches == -1).sum() == height * width
  sizes = np.bincount(patches[patches >= 0], minlength=4 * per_side)
  assert sizes.min() > 0
  for side in (sizes[:per_side], sizes[-per_side:]):
    assert np.ptp(side) <= border
  np.testing.assert_array_equal(np.unique(patches[0])[:1], [0])


@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
def test_multicolor_agrees_as_often_as_told(correlation):
  x, y = jnp.full((500, 8, 8, 1), 0.25), jnp.asarray(Y[:500])
  images = data.multicolor(KEY, x, y, correlation)
  assert images.shape == (500, 12, 12, 3) and images.dtype == jnp.float32
  np.testing.assert_array_equal(
    images[:, 2:-2, 2:-2], jnp.full((8, 8, 3), 0.25)[None].repeat(500, 0)
  )
  where = spurious.ring(8, 8, 2, 32)
  agrees = []
  for patch in range(32):
    shown = np.asarray(images[:, where == patch])
    assert np.all(shown == shown[:, :1])
    told = spurious.PALETTE[(Y[:500] + patch) % 10]
    agrees.append((shown[:, 0] == told).all(-1))
  expected = correlation + (1 - correlation) / 10
  # 500 x 32 draws: 5 standard errors are at most 0.02.
  np.testing.assert_allclose(np.mean(agrees), expected, atol=0.02)
  # Patches fail independently of each other.
  spread = np.mean(agrees, 0).var() * 32
  np.testing.assert_allclose(spread, expected * (1 - expected), atol=0.05)


def test_multicolor_is_keyed_and_compiles():
  x, y = jnp.zeros((6, 28, 28, 1), jnp.bfloat16), jnp.arange(6)
  color = functools.partial(data.multicolor, correlation=0.5)
  images = color(KEY, x, y)
  assert images.shape == (6, 42, 42, 3) and images.dtype == jnp.bfloat16
  np.testing.assert_array_equal(jax.jit(color)(KEY, x, y), images)
  assert not np.array_equal(color(jax.random.key(1), x, y), images)


@pytest.mark.parametrize(
  ("shape", "correlation", "patches", "expected"),
  [
    ((2, 8, 8, 3), 0.5, 32, r"expected \[N, H, W, 1\]"),
    ((2, 8, 8), 0.5, 32, r"expected floats \[N, H, W, C\]"),
    ((2, 8, 8, 1), 0.5, 30, "30 patches"),
    ((2, 8, 8, 1), 0.5, 44, "44 patches, expected .* up to 40"),
    ((2, 8, 8, 1), 1.5, 32, "correlation 1.5, expected 0 to 1"),
  ],
)
def test_bad_multicolor(shape, correlation, patches, expected):
  with pytest.raises(ValueError, match=expected):
    data.multicolor(
      KEY, jnp.zeros(shape), jnp.zeros(2, int), correlation, patches
    )


@CHEAP
@hypothesis.given(st.integers(1, 40), st.integers(1, 15))
def test_batches_sum_exactly(count, size):
  table = {"x": np.arange(count * 2).reshape(count, 2), "y": np.arange(count)}
  parts = list(data.batches(table, size))
  assert len(parts) == -(-count // size)
  assert all(len(v) == size for part in parts for v in part.values())
  assert sum(part["weight"].sum() for part in parts) == count
  for name, whole in table.items():
    joined = np.concatenate([p[name][p["weight"] > 0] for p in parts])
    np.testing.assert_array_equal(joined, whole)
  assert np.all(np.isin(parts[-1]["y"], table["y"]))


@pytest.mark.parametrize(
  ("table", "size"),
  [
    ({}, 2),
    ({"x": np.ones(0)}, 2),
    ({"x": np.ones(3), "y": np.ones(2)}, 2),
    ({"x": np.ones(3), "weight": np.ones(3)}, 2),
    ({"x": np.ones(3)}, 0),
  ],
)
def test_bad_batches(table, size):
  with pytest.raises(ValueError, match=f"in batches of {size}, expected equal"):
    list(data.batches(table, size))


def test_one_hot_and_soft_labels():
  np.testing.assert_array_equal(data.one_hot(Y[:9], 10), np.eye(10)[Y[:9]])
  soft = jnp.full((3, 10), 0.1)
  assert data.one_hot(soft, 10) is soft
  with pytest.raises(ValueError, match=r"float32 of shape \(3, 10\), expected"):
    data.one_hot(soft, 9)


def test_smoothing_in_closed_form():
  batch = {"x": Y[:4], "y": Y[:4]}
  result = data.smooth_labels(0.2, 10)(KEY, batch)
  expected = np.where(np.eye(10)[Y[:4]] > 0, 0.82, 0.02)
  np.testing.assert_allclose(result["y"], expected, atol=1e-6)
  assert result["x"] is batch["x"] and batch["y"].ndim == 1


def test_mixup_mixes_images_as_labels():
  prepare = data.mixup(0.4, 10)
  batch = {"x": jnp.asarray(np.eye(10, dtype=np.float32)[Y[:64]]), "y": Y[:64]}
  result = prepare(KEY, batch)
  np.testing.assert_allclose(result["x"], result["y"], atol=1e-6)
  np.testing.assert_allclose(result["y"].sum(1), 1, atol=1e-6)
  np.testing.assert_allclose(result["x"].sum(0), batch["x"].sum(0), atol=1e-4)
  shares = np.unique(np.asarray(result["y"]).round(5))
  assert len(shares) <= 4  # 0, 1, lambda and 1 - lambda: one for the batch
  jitted = jax.jit(prepare)(KEY, batch)
  np.testing.assert_allclose(jitted["x"], result["x"], atol=1e-6)
  both = data.smooth_labels(0.1, 10)(KEY, result)["y"]
  np.testing.assert_allclose(both, 0.9 * result["y"] + 0.01, atol=1e-6)
  narrow = prepare(KEY, {**batch, "x": batch["x"].astype(jnp.bfloat16)})
  assert narrow["x"].dtype == jnp.bfloat16


def test_mixup_shares_are_beta():
  prepare = data.mixup(0.5, 2)
  batch = {"x": jnp.zeros((2, 1)), "y": jnp.arange(2)}
  keys = jax.random.split(KEY, 2000)
  mixed = jax.vmap(lambda key: prepare(key, batch)["y"])(keys)
  # Var Beta(a, a) = 1 / (4 (2 a + 1)); identity or swap leave |y - 1/2| alike.
  spread = np.mean((np.asarray(mixed[:, 0, 0]) - 0.5) ** 2)
  moved = np.mean(np.asarray(mixed[:, 0, 0]) != 1)
  np.testing.assert_allclose(moved, 0.5, atol=0.06)
  np.testing.assert_allclose(spread, (0.25 + 1 / 8) / 2, atol=0.02)


@pytest.mark.parametrize(
  ("build", "expected"),
  [
    (lambda: data.mixup(0.0, 10), "alpha 0.0, expected above 0"),
    (lambda: data.smooth_labels(1.5, 10), "epsilon 1.5, expected 0 to 1"),
    (
      lambda: data.mixup(1.0, 10)(KEY, {"x": Y[:4], "y": Y[:4]}),
      "x: int32, expected floats",
    ),
  ],
)
def test_bad_transforms(build, expected):
  with pytest.raises(ValueError, match=expected):
    build()
