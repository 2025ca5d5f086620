"""Units in groups, ReLU scaling, and singular directions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import architectures, problems
from weightspace import match
from weightspace.match.repairs import zip_units
from weightspace.match.solvers import activations

X = np.random.default_rng(0).normal(size=(30, 6)).astype("f")


def models(name, count=2):
  apply, params, x, _ = architectures.build(name)
  result = []
  for seed in range(count):
    random = np.random.default_rng(seed)
    leaves = [random.normal(size=w.shape) for w in jax.tree.leaves(params)]
    leaves = [w.astype("f") for w in leaves]
    result.append(jax.tree.unflatten(jax.tree.structure(params), leaves))
  x = np.random.default_rng(9).normal(size=(30, *x.shape[1:])).astype("f")
  return apply, result, x, match.trace_axes(apply, params, x)


@pytest.mark.parametrize("name", ["mlp", "conv_flatten"])
def test_nothing_apart_is_the_mean_of_the_matched_models(name):
  apply, (a, b), x, axes = models(name)
  found = match.match_activations(axes, apply, a, b, x)
  groups = {}
  for n, place in found.perm.items():
    alike = np.eye(len(place))[np.argsort(place)].T
    groups[n] = match.partial_groups(alike, 0.0)
    assert groups[n].number == len(place)
  merged = match.merge_units(axes, apply, a, b, x, groups)
  moved = match.permute(axes, found.perm, b)
  mean = jax.tree.map(lambda u, v: (u + v) / 2, a, moved)
  problems.close(jax.tree.map(np.asarray, merged), mean, 1e-4, 1e-5)


@pytest.mark.parametrize("name", ["mlp", "conv_flatten"])
def test_all_apart_is_the_mean_of_the_outputs(name):
  apply, (a, b), x, axes = models(name)
  groups = {
    n: match.partial_groups(np.random.default_rng(0).random((k, k)), 1.0)
    for n, k in axes.sizes.items()
  }
  wide = match.merge_units(axes, apply, a, b, x, groups)
  expected = (apply(a, x) + apply(b, x)) / 2
  np.testing.assert_allclose(apply(wide, x), expected, 1e-3, 1e-3)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_equal_models_partly_merged_are_the_same_function(share):
  apply, (a, _), x, axes = models("mlp")
  groups = {
    n: match.partial_groups(np.eye(k), share) for n, k in axes.sizes.items()
  }
  merged = match.merge_units(axes, apply, a, a, x, groups)
  np.testing.assert_allclose(apply(merged, x), apply(a, x), 1e-3, 1e-3)
  for n, k in axes.sizes.items():
    assert groups[n].number == k + int(share * k + 1e-6)


def test_zip_joins_the_most_alike():
  alike = np.eye(6)
  for i, j, value in ((0, 1, 0.9), (3, 4, 0.8), (2, 5, 0.7)):
    alike[i, j] = alike[j, i] = value
  found = match.zip_groups(alike, 3)
  assert found.a[0] == found.a[1] and found.b[0] == found.b[1]
  assert found.a[2] == found.b[2]
  across = match.zip_groups(alike, 3, within=0.0)
  assert len(set(across.a)) == len(set(across.b)) == 3
  with pytest.raises(ValueError, match="count: 2, expected 3 to 6"):
    match.zip_groups(alike, 2)


def test_duplicate_units_are_zipped_without_loss():
  """A model whose units come twice is zipped with itself to half of it."""
  apply, (a, _), x, axes = models("mlp")
  name = axes.tree["b"]
  twice = {"a": np.repeat(a["a"], 2, 1), "b": np.repeat(a["b"], 2),
           "c": np.repeat(a["c"], 2, 0) / 2, "d": a["d"]}  # fmt: skip
  pairs = np.kron(np.eye(5), np.ones((2, 2)))
  alike = np.block([[pairs, pairs], [pairs, pairs]])
  wide = match.trace_axes(apply, twice, x)
  groups = {
    n: match.partial_groups(np.eye(k), 0.0) for n, k in wide.sizes.items()
  }
  groups[name] = match.zip_groups(
    np.where(alike > 0, alike, -1.0)[:20, :20], 10
  )
  merged = match.merge_units(wide, apply, twice, twice, x, groups)
  np.testing.assert_allclose(apply(merged, x), apply(twice, x), 1e-3, 1e-3)


def test_models_of_two_widths():
  apply, (a, _), x, axes = models("mlp")
  wide = {"a": np.repeat(a["a"], 2, 1), "b": np.repeat(a["b"], 2),
          "c": np.repeat(a["c"], 2, 0) / 2, "d": a["d"]}  # fmt: skip
  hidden = [np.maximum(x @ p["a"] + p["b"], 0) for p in (a, wide)]
  alike = np.corrcoef(hidden[0].T, hidden[1].T)[:5, 5:]
  groups = {
    n: match.partial_groups(np.eye(k), 0.0) for n, k in axes.sizes.items()
  }
  groups[axes.tree["b"]] = match.transport_groups(np.nan_to_num(alike))
  merged = match.merge_units(axes, apply, a, wide, x, groups)
  assert merged["a"].shape == a["a"].shape
  assert np.bincount(groups[axes.tree["b"]].b).tolist() == [2] * 5
  with pytest.raises(ValueError, match="expected no more rows than columns"):
    match.transport_groups(alike.T)


def test_groups_that_do_not_fit_are_refused():
  apply, (a, b), x, axes = models("mlp")
  with pytest.raises(ValueError, match="has no groups, or lies in blocks"):
    match.merge_units(axes, apply, a, b, x, {})
  groups = {
    n: match.partial_groups(np.eye(k), 0.5) for n, k in axes.sizes.items()
  }
  tied, one, tokens, _ = architectures.build("tied")
  own = match.trace_axes(tied, one, tokens)
  both = {n: match.partial_groups(np.eye(k), 0.5) for n, k in own.sizes.items()}
  with pytest.raises(ValueError, match="'table' is both an input and an outpu"):
    match.merge_units(own, tied, one, one, tokens, both)
  with pytest.raises(ValueError, match="merge_units: b: 'c' has 3 at axis 0"):
    match.merge_units(axes, apply, a, {**b, "c": b["c"][:3]}, x, groups)
  with pytest.raises(ValueError, match="singular_alignment: b: 'c' is not fin"):
    bad = {**b, "c": b["c"] * np.inf}
    match.singular_alignment(apply, a, bad, x)
  with pytest.raises(ValueError, match="balanced: 'c' is not finite"):
    match.balanced(axes, apply, bad, x)
  with pytest.raises(ValueError, match="alike: holds NaN"):
    match.zip_groups(np.full((4, 4), np.nan), 2)
  with pytest.raises(ValueError, match="share: 2, expected 0 to 1"):
    match.partial_groups(np.eye(2), 2)


def test_balanced_units_have_equal_norms():
  apply, (a, _), x, axes = models("conv_flatten")
  found = match.balanced(axes, apply, a, x)
  assert set(found.scales) == set(axes.sizes)
  np.testing.assert_allclose(apply(found.params, x), apply(a, x), 1e-3, 1e-3)
  p = jax.tree.map(np.asarray, found.params)
  into = (p["l"] ** 2).sum((0, 1, 2))
  out = (p["m"].reshape(4, 5, 6) ** 2).sum((0, 2))
  np.testing.assert_allclose(into, out, 1e-3)
  shuffled = {**a, "o": a["o"] * 3.0, "m": a["m"] / 3.0}
  again = match.balanced(axes, apply, shuffled, x).params
  problems.close(jax.tree.map(np.asarray, again), p, 1e-3, 1e-4)


def test_norm_layers_scale_by_their_vectors():
  apply, params, x, _ = architectures.build("batch_norm")
  axes = match.trace_axes(apply, params, x)
  params["params"]["s"] = np.abs(params["params"]["s"]) + 0.5
  found = match.balanced(axes, apply, params, x)
  assert len(found.scales) == 1
  np.testing.assert_allclose(
    apply(found.params, x), apply(params, x), 1e-3, 1e-4
  )
  np.testing.assert_array_equal(
    found.params["params"]["w"], params["params"]["w"]
  )


def test_smooth_units_cannot_be_scaled():
  apply, (a, _), x, axes = models("residual")
  found = match.balanced(axes, apply, a, x)
  assert not any(axes.sizes[n] in (5, 7) for n in found.scales)


def reference(a, b, share):
  u, s, _ = np.linalg.svd(a)
  v, t, _ = np.linalg.svd(b)
  u, v = u[:, : (s >= share * s[0]).sum()], v[:, : (t >= share * t[0]).sum()]
  return (np.square(u.T @ v)).sum() / min(u.shape[1], v.shape[1])


def test_singular_directions_are_as_in_numpy():
  apply, (a, b), x, axes = models("mlp")
  found = match.singular_alignment(apply, a, b, x, share=0.5)
  for layer in found:
    w, v = a[layer.path], b[layer.path]
    assert layer.right == pytest.approx(reference(w, v, 0.5), rel=1e-4)
    assert layer.left == pytest.approx(reference(w.T, v.T, 0.5), rel=1e-4)
    assert layer.distance == pytest.approx(np.linalg.norm(w - v), rel=1e-5)
  moved = match.permute(axes, match.match_weights(axes, a, b).perm, b)
  after = match.singular_alignment(apply, a, moved, x)
  assert sum(k.cosine for k in after) > sum(k.cosine for k in found)
  for w, v in itertools.pairwise([b["c"], moved["c"]]):
    np.testing.assert_allclose(np.linalg.svd(w)[1], np.linalg.svd(v)[1], 1e-4)
  with pytest.raises(ValueError, match="share: 0, expected above 0"):
    match.singular_alignment(apply, a, b, x, share=0)


def test_groups_from_activations():
  apply, (a, b), x, axes = models("mlp")
  found = match.match_activations(axes, apply, a, b, x)
  assert set(found.similarity) == set(axes.sizes)
  assert activations.SIMILARITIES[0] == "correlation"
  assert zip_units.Groups._fields == ("a", "b", "number")
  model = ws.models.build("mlp", hidden=(4,))
  assert jnp.isfinite(
    model.init(jax.random.key(0), x)["Dense_0"]["kernel"]
  ).all()
