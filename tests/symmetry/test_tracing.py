"""Symmetries read off jaxprs: for functions as users write them, and ours."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import weightspace as ws
from tests import architectures
from weightspace import match
from weightspace.symmetry import axes as axes_of

IMAGES, TOKENS = jnp.ones((1, 8, 8, 3)), jnp.zeros((1, 5), jnp.int32)
MODELS = {
  "mlp": ("mlp", {"hidden": (6, 5)}, IMAGES, [(5,), (6,)]),
  "vgg": (
    "vgg",
    {"widths": (4, 8), "depths": (1, 1), "norm": "group", "pool": "flatten",
     "hidden": (6,)},
    IMAGES,
    [(4,), (4,), (4, 2), (6,)],
  ),
  "vgg-layer": (
    "vgg", {"widths": (4, 6), "depths": (1, 1)}, IMAGES, [(4,), (6,)]
  ),
  "resnet-layer": (
    "resnet", {"depth": 8, "width": 0.25}, IMAGES,
    [(4,), (4,), (8,), (8,), (16,), (16,)],
  ),
  "resnet-group": (
    "resnet", {"depth": 8, "width": 0.25, "norm": "group", "groups": 2}, IMAGES,
    [(2,)] * 6 + [(2, 2)] * 2 + [(2, 4)] * 2 + [(2, 8)] * 2,
  ),
  "resnet-none": (
    "resnet", {"depth": 8, "width": 0.25, "norm": "none"}, IMAGES,
    [(4,), (4,), (8,), (8,), (16,), (16,)],
  ),
  "resnet-batch": (
    "resnet", {"depth": 8, "width": 0.25, "norm": "batch"}, IMAGES,
    [(4,), (4,), (8,), (8,), (16,), (16,)],
  ),
  "vit": (
    "vit", {"width": 8, "layers": 1, "heads": 2, "pool": "token"}, IMAGES,
    [(2,), (2, 4), (2, 4), (8,), (32,)],
  ),
  "lm": (
    "lm", {"vocab": 7, "width": 16, "heads": 4, "kv_heads": 2, "layers": 1},
    TOKENS, [(2,), (2, 2), (2, 4), (16,), (48,)],
  ),
  "lm-scan": (
    "lm",
    {"vocab": 7, "width": 16, "heads": 4, "kv_heads": 2, "layers": 3,
     "scan": True, "remat": True, "tied": False},
    TOKENS, [(3, 2), (3, 2, 2), (3, 2, 4), (3, 48), (16,)],
  ),
}  # fmt: skip


def shapes(axes):
  return sorted(axes_of.shape(axes, name) for name in axes_of.free(axes))


@pytest.mark.parametrize("name", architectures.CASES)
def test_the_function_stays(name):
  apply, params, x, expected = architectures.build(name)
  axes = match.trace_axes(apply, params, x)
  if expected is not None:
    assert shapes(axes) == expected
  assert axes_of.free(axes)
  assert match.lint(axes, apply, params, x) == []
  assert match.check(axes, jax.jit(apply), params, x, draws=1) < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_our_models(name):
  kind, hyper, x, expected = MODELS[name]
  model = ws.models.build(kind, **hyper)
  params = model.init(jax.random.key(0), x)
  x = jnp.tile(x, (2, *(1,) * (x.ndim - 1)))
  key = jax.random.key(1)
  x = (
    jax.random.normal(key, x.shape)
    if x.dtype == jnp.float32
    else jax.random.randint(key, x.shape, 0, 7)
  )
  axes = match.trace_axes(model.apply, params, x)
  assert shapes(axes) == sorted(expected)
  assert match.check(axes, jax.jit(model.apply), params, x, draws=1) < 1e-3


def test_an_nnx_module():
  class Net(nnx.Module):
    def __init__(self, rngs):
      self.conv = nnx.Conv(2, 4, (3, 3), rngs=rngs)
      self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
      self.attend = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
      self.out = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
      x = nnx.relu(self.norm(self.conv(x))).reshape(len(x), -1, 4)
      return self.out(x + self.attend(x)).mean(1)

  module, x = Net(nnx.Rngs(0)), jnp.asarray(architectures.IMAGES)
  apply, params = ws.models.from_nnx(module)
  axes = match.trace_axes(apply, params, x)
  assert shapes(axes) == [(2,), (2, 2), (2, 2), (4,)]
  assert match.check(axes, jax.jit(apply), params, x, draws=1) < 1e-4
  # Averages that differ are constants of this apply: they hold the channels.
  module.norm.mean[...] = jnp.arange(4.0)
  apply, params = ws.models.from_nnx(module)
  pins = match.trace_axes(apply, params, x).pins
  assert pins["conv/kernel:3"] == "constant"


def test_tied_units_share_a_name():
  apply, params, x, _ = architectures.build("lstm")
  axes = match.trace_axes(apply, params, x)
  assert axes.tree["b"] == "(b+b+b+b)"
  assert axes.tree["h"] == "b (b+b+b+b)"
  apply, params, x, _ = architectures.build("conv_flatten")
  axes = match.trace_axes(apply, params, x)
  assert axes.tree["m"] == "(4 l) m"


def test_pins_name_their_primitive():
  apply, params, x, _ = architectures.build("ordered")
  pins = match.trace_axes(apply, params, x).pins
  assert (pins["a:0"], pins["a:1"]) == ("input", "cumsum")
  assert (pins["d:0"], pins["d:1"]) == ("sort", "output")
  model = ws.models.build("lm", vocab=7, width=16, heads=2, layers=1)
  params = model.init(jax.random.key(0), TOKENS)
  pins = match.trace_axes(model.apply, params, TOKENS).pins
  assert pins["block_0/attention/query/kernel:2"] == "iota"  # rotary positions
  assert pins["embed/embedding:0"] == "gather"

  apply, params, x, _ = architectures.build("positions")
  axes = match.trace_axes(apply, params, x)
  assert axes.tree["at"].startswith("8 ")  # rows that these tokens do not reach

  def unsupported(p, x):
    return jnp.linalg.inv(p["w"]) @ (p["v"] @ x)

  odd = {"w": jnp.eye(3), "v": jnp.ones((3, 2)), "unused": jnp.ones(4)}
  pins = match.trace_axes(unsupported, odd, jnp.ones((2, 1))).pins
  assert pins["w:0"] not in ("input", "output")
  assert pins["unused:0"] == "not used"


def test_shapes_alone_are_enough_and_quick():
  model = ws.models.build(
    "lm", vocab=50_000, width=2048, heads=16, kv_heads=4, layers=21
  )
  tokens = jax.ShapeDtypeStruct((1, 64), jnp.int32)
  params = jax.eval_shape(model.module.init, jax.random.key(0), tokens)[
    "params"
  ]
  assert ws.models.count(params) > 1e9
  began = time.process_time()
  axes = match.trace_axes(model.apply, params, tokens)
  assert time.process_time() - began < 6.0  # 2 on a quiet machine
  assert len(axes_of.free(axes)) == 1 + 4 * 21


def test_axes_are_data():
  apply, params, x, _ = architectures.build("heads_einsum")
  axes = match.trace_axes(apply, params, x)
  perm = match.random(axes, params, jax.random.key(0))
  again, moved = match.from_json(match.to_json(axes, perm), params)
  assert again == axes
  jax.tree.map(np.testing.assert_array_equal, moved, perm)
  assert list(again.sizes) == list(axes.sizes)  # names are matched in order
  with pytest.raises(ValueError, match="the text has no 'axes'"):
    match.from_json("{}", params)
  assert "k>v  3 units on 2 axes" in str(axes)
  assert "fixed by input" in str(axes)
  with pytest.raises(ValueError, match="'q' is not in the parameters"):
    match.from_json(match.to_json(axes), {n: params[n] for n in "kvo"})


def test_lint_finds_mistakes():
  apply, params, x, _ = architectures.build("mlp")
  axes = match.trace_axes(apply, params, x)
  name = axes.tree["b"]
  loose = axes._replace(tree={**axes.tree, "b": "5"})
  found = match.lint(loose, apply, params, x)
  assert "axis 0 of 'b' has no name and no reason" in found
  with pytest.raises(ValueError, match="axis 0 of 'b' has no name"):
    match.check(loose, apply, params, x)
  forced = axes._replace(
    tree={**axes.tree, "b": "5"}, pins={**axes.pins, "b:0": "hand"}
  )
  assert match.check(forced, apply, params, x) > 1e-3
  out = axes._replace(
    tree={**axes.tree, "d": f"{axes.tree['d'].split()[0]} out"},
    sizes={**axes.sizes, "out": 3},
  )
  assert "which output fixes" in match.lint(out, apply, params, x)[0]
  assert match.check(out, apply, params, x) > 1e-3
  clash = axes._replace(sizes={**axes.sizes, name: 6})
  assert "expected 6" in match.lint(clash, apply, params, x)[0]
  with pytest.raises(ValueError, match="expected 6"):
    match.check(clash, apply, params, x)
  with pytest.raises(ValueError, match="draws is 0"):
    match.check(axes, apply, params, x, draws=0)
