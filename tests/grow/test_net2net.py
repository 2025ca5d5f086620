"""Wider, deeper and mixed networks keep the function, or are refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import architectures, problems
from weightspace import grow

SUMS = ["mlp", "conv_flatten", "depthwise", "residual", "scanned"]
SUMS += ["heads_einsum", "gated", "dense_net"]


@functools.cache
def setting(name):
  apply, params, x, _ = architectures.build(name)
  return apply, params, x, ws.symmetry.trace_axes(apply, params, x)


@pytest.mark.parametrize("key", [None, jax.random.key(1)], ids=["turn", "key"])
@pytest.mark.parametrize("name", SUMS)
def test_widened_models_have_the_same_function(name, key):
  apply, params, x, axes = setting(name)
  wider = {n: k + 1 + k // 2 for n, k in grow.sizes(axes, 1.0).items()}
  wide = grow.widen(axes, apply, params, x, wider, key=key)
  problems.close(apply(wide, x), apply(params, x), 1e-4, 1e-5)
  leading = grow.take(axes, grow.sizes(axes, 1.0), wide)
  assert jax.tree.map(jnp.shape, leading) == jax.tree.map(jnp.shape, params)


def test_widths_against_numpy():
  params = {"v": np.arange(6.0, dtype=np.float32).reshape(3, 2),
            "w": np.ones((1, 3), np.float32)}  # fmt: skip
  apply = lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"]  # noqa: E731
  x = np.ones((2, 1), np.float32)
  axes = ws.symmetry.trace_axes(apply, params, x)
  (name,) = grow.sizes(axes, 1.0)
  wide = grow.widen(axes, apply, params, x, {name: 5})
  copies = np.array([2, 2, 1, 2, 2])[:, None]
  np.testing.assert_allclose(
    wide["v"], params["v"][np.array([0, 1, 2, 0, 1])] / copies
  )


def test_a_transformer_is_widened_by_its_function():
  x = jnp.arange(10).reshape(2, 5) % 7
  hyper = {"vocab": 7, "width": 16, "hidden": 8, "layers": 2, "size": 4}
  model = ws.models.build("lm", tied=False, **hyper)
  params = model.init(jax.random.key(0), x)
  axes = ws.symmetry.trace_axes(model.apply, params, x)
  heads = {n: 2 * k for n, k in axes.sizes.items() if n.endswith("/key")}
  hidden = {f"block_{k}/gate": 11 for k in range(2)}
  wide = ws.models.build(
    "lm", tied=False, **hyper | {"hidden": 11}, heads=8, kv_heads=4
  )
  grown = grow.widen(
    axes, model.apply, params, x, heads | hidden, wide=wide.apply
  )
  problems.close(wide.apply(grown, x), model.apply(params, x), 1e-4, 1e-4)
  stream = next(n for n in axes.sizes if "norm" in n and ">" not in n)
  twice = ws.models.build("lm", tied=False, **hyper | {"width": 32})
  grown = grow.widen(
    axes, model.apply, params, x, {stream: 32}, wide=twice.apply
  )
  problems.close(twice.apply(grown, x), model.apply(params, x), 1e-3, 1e-3)
  uneven = ws.models.build("lm", tied=False, **hyper | {"width": 20})
  with pytest.raises(ValueError, match="outputs change by"):
    grow.widen(axes, model.apply, params, x, {stream: 20}, wide=uneven.apply)


def test_units_that_are_compared_or_read_in_a_loop_are_refused():
  for name, units in (("heads_einsum", "k>k:2"), ("rnn", "b")):
    apply, params, x, axes = setting(name)
    with pytest.raises(ValueError, match="outputs change by"):
      grow.widen(axes, apply, params, x, {units: 8})
  apply, params, x, axes = setting("mlp")
  for sizes, message in (
    ({"b": 4}, "'b' has 5, expected a number above"),
    ({"z": 4}, "'z' is unknown"),
    ({"b": [0, 1]}, "expected a number above"),
  ):
    with pytest.raises(ValueError, match=message):
      grow.widen(axes, apply, params, x, sizes)


def test_deeper_layers_after_a_relu():
  def apply(p, x):
    for k in range(len(p) - 1):
      x = jax.nn.relu(x @ p[f"layer_{k}"]["w"] + p[f"layer_{k}"]["b"][None])
    return x @ p["out"]

  shapes = {f"layer_{k}": {"w": s, "b": s[1:]}
            for k, s in enumerate([(3, 4), (4, 5)])}  # fmt: skip
  params = problems.tree(0, shapes | {"out": (5, 2)})
  x = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
  deep = grow.deepen(apply, params, x, "layer_*", [0, 0, 1, 1, 1])
  problems.close(apply(deep, x), apply(params, x), 0, 0)
  assert [deep[f"layer_{k}"]["w"].shape for k in range(5)] == [
    (3, 4), (4, 4), (4, 5), (5, 5), (5, 5),
  ]  # fmt: skip


@pytest.mark.parametrize("scan", [False, True])
def test_deeper_transformers(scan):
  x = jnp.arange(10).reshape(2, 5) % 7
  hyper = {"vocab": 7, "width": 16, "hidden": 8, "scan": scan}
  model = ws.models.build("lm", layers=2, **hyper)
  deep = ws.models.build("lm", layers=4, **hyper)
  params = model.init(jax.random.key(0), x)
  pattern = "blocks" if scan else "block_*"
  grown = grow.deepen(
    model.apply, params, x, pattern, [0, 0, 1, 1],
    zero=("attention/out", "down"), deep=deep.apply,
  )  # fmt: skip
  problems.close(deep.apply(grown, x), model.apply(params, x), 1e-6, 1e-6)
  with pytest.raises(ValueError, match="outputs change"):
    grow.deepen(
      model.apply, params, x, pattern, [0, 0, 1, 1], zero=("down",),
      deep=deep.apply,
    )  # fmt: skip
  with pytest.raises(ValueError, match="zero holds 'mlp'"):
    grow.deepen(
      model.apply, params, x, pattern, [0, 0, 1], zero=("mlp",),
      deep=deep.apply,
    )  # fmt: skip


def test_convolutions_that_do_nothing():
  def apply(p, x):
    for k in range(len(p)):
      x = jax.nn.relu(architectures.conv(x, p[f"c{k}"]))
    return x

  params = problems.tree(0, {"c0": (3, 3, 2, 4)})
  deep = grow.deepen(apply, params, architectures.IMAGES, "c*", [0, 0])
  assert deep["c1"].shape == (3, 3, 4, 4)


@pytest.mark.parametrize("order", [[0], [1, 0], [0, 1, 2], []])
def test_orders_that_move_blocks_are_refused(order):
  params = {"b0": np.eye(2), "b1": np.eye(2)}
  with pytest.raises(ValueError, match="expected each of"):
    grow.deepen(lambda p, x: x, params, np.eye(2), "b*", order)


def upcycled(noise=0.0, **hyper):
  x = jnp.arange(10).reshape(2, 5) % 7
  hyper = {"vocab": 7, "width": 16, "hidden": 8} | hyper
  dense = ws.models.build("lm", **hyper)
  mixed = ws.models.build("moe", experts=3, chosen=2, **hyper)
  params = dense.init(jax.random.key(0), x)
  grown = grow.upcycle(params, "block_*", 3, jax.random.key(1), noise)
  wanted = jax.eval_shape(mixed.init, jax.random.key(0), x)
  assert jax.tree.map(jnp.shape, grown) == jax.tree.map(jnp.shape, wanted)
  return dense.apply(params, x), mixed.apply(grown, x), params, grown


def test_a_mixture_of_equal_experts_is_the_dense_layer():
  before, after, params, grown = upcycled()
  problems.close(after, before, 1e-4, 1e-5)
  up = grown["block_0"]["experts"]["up"]
  for expert in up:
    np.testing.assert_array_equal(expert, params["block_0"]["up"]["kernel"])
  routers = [grown[f"block_{k}"]["router"]["kernel"] for k in range(2)]
  assert (routers[0] != routers[1]).all()


def test_noise_sets_experts_apart_by_their_spread():
  _, _, params, grown = upcycled(noise=0.5)
  kernel = np.asarray(params["block_1"]["down"]["kernel"])
  apart = np.asarray(grown["block_1"]["experts"]["down"]) - kernel
  np.testing.assert_allclose(apart.std() / kernel.std(), 0.5, rtol=0.15)
  assert abs(np.corrcoef(apart[0].ravel(), apart[1].ravel())[0, 1]) < 0.3


def test_blocks_that_are_no_feed_forward_layers_are_refused():
  key = jax.random.key(0)
  block = {"up": {"kernel": np.ones((2, 2)), "bias": np.ones(2)}}
  with pytest.raises(ValueError, match="'up' of a block has"):
    grow.upcycle({"b0": block}, "b*", 2, key, layers=("up",))
  with pytest.raises(ValueError, match="'gate' of a block has"):
    grow.upcycle({"b0": block}, "b*", 2, key)
  with pytest.raises(ValueError, match="0 experts"):
    grow.upcycle({"b0": block}, "b*", 0, key)
  with pytest.raises(ValueError, match="noise -1"):
    grow.upcycle({"b0": block}, "b*", 1, key, -1)
  with pytest.raises(ValueError, match="stacked layers"):
    grow.upcycle({"b": {"w": np.ones((2, 2))}}, "b", 1, key)
