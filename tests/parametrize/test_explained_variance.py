"""EVA: principal directions of exact covariances, and ranks dealt out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import parametrize as p

RNG = np.random.default_rng(0)


def planted(count=4000):
  """Return inputs whose principal axes and variances are known."""
  axes = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
  spread = np.array([5.0, 3.0, 1.0, 0.5, 0.2, 0.1])
  x = RNG.normal(size=(count, 6)) * spread @ axes.T + 10.0
  return x.astype(np.float32), axes


def test_directions_are_those_of_the_covariance():
  x, axes = planted()
  gram, mean = x.T @ x / len(x), x.mean(0)
  one = p.eva({"w": gram}, {"w": mean}, 2, 1.0)["w"]
  np.testing.assert_allclose(one.a.T @ one.a, np.eye(2), atol=1e-5)
  cosines = np.abs(np.sum(np.asarray(one.a) * axes[:, :2], 0))
  assert (cosines > 0.99).all()
  # What the first axis of raw second moments sees is the mean.
  raw = p.eva({"w": gram}, None, 1, 1.0)["w"].a[:, 0]
  assert abs(raw @ mean) / np.linalg.norm(mean) > 0.99


def test_no_projection_of_that_rank_loses_less():
  x, _ = planted()
  centred = x - x.mean(0)
  gram = centred.T @ centred / len(x)
  a = np.asarray(p.eva({"w": gram}, None, 3, 1.0)["w"].a)
  lost = np.square(centred - centred @ a @ a.T).sum(1).mean()
  values = np.linalg.eigvalsh(gram)
  np.testing.assert_allclose(lost, values[:3].sum(), rtol=1e-2)
  other = np.linalg.qr(RNG.normal(size=(6, 3)))[0]
  assert np.square(centred - centred @ other @ other.T).sum(1).mean() > lost


def test_of_a_model_by_the_statistics_of_its_inputs():
  model = ws.models.build("mlp", hidden=(8, 8), classes=5)
  x = jnp.asarray(RNG.normal(size=(64, 3, 3, 1)), "float32")
  params = model.init(jax.random.key(0), x)
  gram = ws.statistics.gram(model.apply, params, x)
  mean = ws.statistics.moments(model.apply, params, x)
  found = p.eva(gram, mean, 3, 2.0, params=params, alpha=6.0)
  assert sum(one.a.shape[1] for one in found.values()) == 9
  flat = np.asarray(x).reshape(64, -1)
  values = np.linalg.eigvalsh(np.cov(flat.T, bias=True))[::-1]
  first = np.asarray(found["Dense_0/kernel"].a)
  explained = np.var(flat @ first, axis=0)
  np.testing.assert_allclose(explained, values[: first.shape[1]], rtol=1e-3)
  tree = p.with_changes(params, found)
  for path, leaf in ws.trees.named(p.value(tree)).items():
    np.testing.assert_array_equal(leaf, ws.trees.named(params)[path])
  assert found["Dense_0/kernel"].scale == 2.0


def test_convolutions_and_scanned_layers():
  apply = lambda w, x: jax.lax.conv_general_dilated(  # noqa: E731
    x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  w, x = (
    jnp.ones((3, 3, 2, 4)),
    jnp.asarray(RNG.normal(size=(5, 6, 6, 2)), "f4"),
  )
  gram = ws.statistics.gram(apply, {"k": w}["k"], x)
  mean = ws.statistics.moments(apply, w, x)
  one = p.eva(gram, mean, 2, 1.0, params=w)[""]
  assert one.a.shape == (18, 2) and one.b.shape == (2, 4)
  batch = jnp.stack([jnp.diag(jnp.array([3.0, 1.0])), jnp.eye(2)])
  two = p.eva({"w": batch}, {"w": jnp.zeros((2, 2))}, 1, 1.0)["w"]
  assert two.a.shape == (2, 2, 1)


def ranks(ratios, rank, rho):
  """Deal out ranks one at a time, to whoever has the largest ratio left."""
  dealt = dict.fromkeys(ratios, 0)
  for _ in range(rank * len(ratios)):
    open_ = [
      n for n in ratios if dealt[n] < min(round(rho * rank), len(ratios[n]))
    ]
    best = max(open_, key=lambda n: ratios[n][dealt[n]])
    dealt[best] += 1
  return dealt


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rho", [1.0, 1.5, 2.0, 3.0])
def test_ranks_beside_dealing_one_at_a_time(seed, rho):
  rng = np.random.default_rng(seed)
  ratios = {}
  for name in "abcde":
    shares = np.sort(rng.dirichlet(np.full(12, 0.3)))[::-1]
    ratios[name] = shares
  found = p.explained_ranks(ratios, 3, rho)
  assert found == ranks(ratios, 3, rho)
  assert sum(found.values()) == 15 and max(found.values()) <= round(3 * rho)
  if rho == 1.0:
    assert set(found.values()) == {3}


def test_equal_ratios_go_to_the_earlier_layer():
  even = {"b": [0.5, 0.5], "a": [0.5, 0.5]}
  assert p.explained_ranks(even, 1, 2.0) == {"b": 2, "a": 0}


def test_a_layer_of_rank_none_has_no_adapter():
  gram = {"flat": jnp.eye(8), "sharp": jnp.diag(jnp.array([9.0, 5.0, 0, 0]))}
  assert list(p.eva(gram, None, 1, 2.0)) == ["sharp"]


@pytest.mark.parametrize(
  ("gram", "mean", "rank", "rho", "message"),
  [
    ({"w": np.eye(3)}, None, 0, 2.0, "rank is 0"),
    ({"w": np.eye(3)}, None, 1, 0.5, "rho 0.5"),
    (
      {"w": np.eye(3)},
      None,
      4,
      1.0,
      "3 directions in all, expected",
    ),
    ({"w": np.eye(3)}, {"v": np.zeros(3)}, 1, 2.0, "no mean of 'w'"),
    ({"w": np.eye(3)}, {"w": np.zeros(2)}, 1, 2.0, r"mean of 'w' is \(2,\)"),
    ({"w": np.ones((3, 2))}, None, 1, 2.0, r"gram of 'w' is \(3, 2\)"),
    ({"w": np.eye(2) * np.nan}, None, 1, 2.0, "NaN in 'w'"),
    ({}, None, 1, 2.0, "no layers"),
  ],
)
def test_what_eva_refuses(gram, mean, rank, rho, message):
  with pytest.raises(ValueError, match=message):
    p.eva(gram, mean, rank, rho)


def test_ratios_must_fall():
  with pytest.raises(ValueError, match=r"'a'.*largest first"):
    p.explained_ranks({"a": [0.1, 0.9]}, 1)
