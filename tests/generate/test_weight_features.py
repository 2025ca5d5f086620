"""Features that no reordering changes, of any width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import architectures, problems
from weightspace import models, symmetry
from weightspace.generate import feature_names, features

MORE = ["scanned", "conv_flatten", "residual", "gated", "heads_einsum"]
MORE += ["experts", "lstm", "group_norm", "split_heads", "low_rank"]


def traced(name):
  apply, shapes, x, _ = architectures.CASES[name]
  params = problems.tree(0, shapes)
  with jax.numpy_rank_promotion("allow"):
    return symmetry.trace_axes(apply, params, x), shapes


@pytest.mark.parametrize(
  "name",
  ["mlp", "grouped"]
  + [pytest.param(name, marks=pytest.mark.slow) for name in MORE],
)
def test_they_do_not_change_when_units_move(name):
  axes, shapes = traced(name)
  stack = ws.stack([problems.tree(seed, shapes) for seed in range(3)])
  moved = [
    symmetry.permute(
      axes,
      symmetry.random(axes, model, jax.random.key(i)),
      jax.tree.map(np.asarray, model),
    )
    for i, model in enumerate(ws.unstack(stack))
  ]
  before, after = features(axes, stack), features(axes, ws.stack(moved))
  assert not np.allclose(
    ws.generate.flatten(stack)[0], ws.generate.flatten(ws.stack(moved))[0]
  )
  assert np.allclose(before, after, atol=2e-4)
  assert np.isfinite(before).all() and before.dtype == jnp.float32
  assert len(feature_names(axes, ws.unstack(stack)[0])) == before.shape[1]


def test_they_are_numpys():
  axes = symmetry.Axes({"w": "4 h"}, {"h": 5}, {})
  x = np.random.default_rng(0).normal(size=(1, 4, 5)).astype(np.float32)
  names = feature_names(axes, {"w": x[0]})
  found = dict(zip(names, np.asarray(features(axes, {"w": x})[0])))
  w, std = x[0], x[0].std()
  values = np.linalg.svd(w, compute_uv=False)
  units = np.sqrt((w**2).mean(0)) / np.sqrt((w**2).mean())
  expected = {
    "w:0 log deviation": np.log(std),
    "w:0 mean": w.mean() / std,
    "w:0 skewness": ((w - w.mean()) ** 3).mean() / std**3,
    "w:0 kurtosis": ((w - w.mean()) ** 4).mean() / std**4,
    "w:0 entries, quantile 0.5": np.median(w) / std,
    "w:0 units of axis 0, quantile 0.25": np.quantile(units, 0.25),
    "w:0 units of axis 0, quantile 1": units.max(),
    "w:0 log spectral norm": np.log(values[0]),
    "w:0 stable rank": (values**2).mean() / values[0] ** 2,
    "w:0 singular values, quantile 0": values[-1] / values[0],
  }
  for name, value in expected.items():
    assert np.isclose(found[name], value, rtol=1e-4, atol=1e-5), name


def test_models_of_several_widths_have_as_many():
  counts = []
  for width in (4, 9):
    model = models.build("mlp", hidden=(width, width), classes=3)
    params = model.init(jax.random.key(0), jnp.ones((1, 5)))
    axes = symmetry.trace_axes(model.apply, params, jnp.ones((1, 5)))
    counts.append(feature_names(axes, params))
  assert counts[0] == counts[1]


def test_jit_is_eager_and_zeros_are_finite():
  axes = symmetry.Axes({"w": "4 h", "b": "h"}, {"h": 5}, {})
  stack = {"w": jnp.zeros((2, 4, 5)), "b": jnp.ones((2, 5))}
  eager = features(axes, stack)
  assert np.isfinite(eager).all()
  jitted = jax.jit(lambda stack: features(axes, stack))(stack)
  assert np.allclose(jitted, eager, atol=1e-5)


def test_bad_input_is_refused():
  axes = symmetry.Axes({"w": "h"}, {"h": 2}, {})
  with pytest.raises(ValueError, match="NaN in 'w' of model 1"):
    features(axes, {"w": jnp.array([[0.0, 1.0], [jnp.nan, 0.0]])})
  with pytest.raises(ValueError, match="no floating leaves"):
    features(axes, {"w": jnp.ones((1, 2), int)})
  with pytest.raises(ValueError, match="'w'"):
    features(axes, {"w": jnp.ones((1, 3))})
