"""Activation matching: planted permutations, and similarities from NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import architectures, problems
from weightspace import match
from weightspace.match.solvers import activations, assignment, points

NAMES = ["mlp", "conv_flatten", "heads_einsum", "heads_reshape", "grouped"]
NAMES += ["normed_heads", "residual", "experts", "group_norm", "dense_net"]
NAMES += ["mixer", "low_rank", "fused", "padded_shortcut"]


def setting(name, count=32):
  apply, params, x, _ = architectures.build(name)
  x = np.random.default_rng(1).normal(size=(count, *x.shape[1:])).astype("f")
  return apply, params, x, match.trace_axes(apply, params, x)


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_permutation_is_found(name):
  apply, params, x, axes = setting(name)
  planted = match.random(axes, params, jax.random.key(5))
  b = match.permute(axes, planted, params)
  found = match.match_activations(axes, apply, params, b, x)
  problems.close(match.permute(axes, found.perm, b), params, 0, 0)
  own = sum(float((p.astype(float) ** 2).sum()) for p in params.values()
            if isinstance(p, np.ndarray))  # fmt: skip
  if all(isinstance(p, np.ndarray) for p in params.values()):
    assert found.weights == pytest.approx(own, rel=1e-5)


@pytest.mark.parametrize("similar", activations.SIMILARITIES)
def test_similarities_are_as_in_numpy(similar):
  apply, a, x, axes = setting("mlp")
  b = {
    k: v + 0.3 * np.cos(np.arange(v.size).reshape(v.shape))
    for k, v in a.items()
  }
  b = {k: v.astype("f") for k, v in b.items()}
  found = match.match_activations(axes, apply, a, b, x, similar=similar)
  u, v = (np.maximum(x @ p["a"] + p["b"], 0.0) for p in (a, b))
  expected = {
    "correlation": lambda: np.corrcoef(u.T, v.T)[:5, 5:],
    "raw": lambda: u.T @ v / len(x),
    "distance": lambda: -np.linalg.norm(u[:, :, None] - v[:, None], axis=0),
  }[similar]()
  name = axes.tree["b"]
  place = found.perm[name]
  picked = expected[np.arange(5), place]
  np.testing.assert_allclose(found.similarity[name], picked, 1e-3, 1e-3)
  wide = np.where(np.isnan(expected), 0.0, expected)
  best = assignment.solve(wide)
  assert wide[np.arange(5), best].sum() == pytest.approx(picked.sum(), rel=1e-4)


def test_batches_add_up():
  apply, params, x, axes = setting("grouped", 12)
  b = jax.tree.map(lambda w: w[::-1].copy(), params)
  whole = match.match_activations(axes, apply, params, b, x)
  for size in (5, 12, 100):
    parts = match.match_activations(axes, apply, params, b, x, batch_size=size)
    jax.tree.map(np.testing.assert_array_equal, parts.perm, whole.perm)
    assert parts.objective == pytest.approx(whole.objective, rel=1e-4)
  found = points.find(apply, params, x)
  fold = activations.moments(apply, found, params, b)
  halves = [fold.update(fold.init(h), h) for h in (x[:6], x[6:])]
  both = fold.value(fold.merge(*halves))
  once = fold.value(fold.update(fold.init(x), x))
  problems.close(both, once, 1e-3, 1e-3)


def test_units_that_never_fire_are_no_obstacle():
  apply, params, x, axes = setting("mlp")
  dead = {**params, "b": params["b"] * 0 - 1e3}
  found = match.match_activations(axes, apply, dead, dead, x)
  assert np.isfinite(found.objective)


def test_edited_axes_are_found_by_place():
  apply, params, x, axes = setting("mlp")
  name = axes.tree["b"]
  other = match.Axes(
    {k: v.replace(name, "hidden") if k != "c" else f"hidden {v.split()[1]}"
     for k, v in axes.tree.items()},
    {("hidden" if k == name else k): v for k, v in axes.sizes.items()},
    axes.pins,
  )  # fmt: skip
  found = match.match_activations(other, apply, params, params, x)
  assert set(found.perm) == set(other.sizes)
  assert found.moved == 0


def test_bad_input_is_named():
  apply, params, x, axes = setting("mlp")
  run = match.match_activations
  with pytest.raises(ValueError, match="similar: 'cosine', expected one of"):
    run(axes, apply, params, params, x, similar="cosine")
  with pytest.raises(ValueError, match=r"inputs of \[0\] examples, expected"):
    run(axes, apply, params, params, x[:0])
  with pytest.raises(ValueError, match="batch_size is 0"):
    run(axes, apply, params, params, x, batch_size=0)
  with pytest.raises(ValueError, match="b: 'a' is not finite"):
    run(axes, apply, params, {**params, "a": params["a"] * np.nan}, x)
  apply, params, x, axes = setting("scanned")
  with pytest.raises(ValueError, match="no value outside of a scan"):
    run(axes, apply, params, params, x)


def test_our_models():
  model = ws.models.build("vit", width=8, heads=2, layers=1, patch=4)
  x = jax.random.normal(jax.random.key(0), (8, 8, 8, 1))
  params = model.init(jax.random.key(1), x)
  axes = match.trace_axes(model.apply, params, x)
  b = match.permute(axes, match.random(axes, params, jax.random.key(2)), params)
  found = match.match_activations(axes, model.apply, params, b, x)
  problems.close(match.permute(axes, found.perm, b), params, 0, 0)
  assert jnp.isfinite(found.objective)
