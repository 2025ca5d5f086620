"""Models: real sizes, references, symmetries, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import weightspace as ws
from weightspace import losses
from weightspace.models import attention, norms

KEY = jax.random.key(0)
IMAGES = jax.random.normal(KEY, (6, 4, 4, 3))
TOKENS = jax.random.randint(KEY, (6, 8), 0, 7)
LM = {"vocab": 7, "layers": 2, "width": 8, "heads": 4, "kv_heads": 2}
TINY = {
  "mlp": ("mlp", {"hidden": [5], "classes": 3}, IMAGES),
  "vgg": ("vgg", {"widths": [4], "depths": [1], "classes": 3}, IMAGES),
  "resnet": ("resnet", {"depth": 8, "width": 0.25, "norm": "batch"}, IMAGES),
  "vit": ("vit", {"patch": 2, "width": 8, "layers": 1, "heads": 2}, IMAGES),
  "lm": ("lm", LM, TOKENS),
}


@functools.cache
def tiny(case: str):
  """One build and one initialisation a model for the whole module."""
  name, hyper, x = TINY[case]
  model = ws.models.build(name, **hyper)
  return model._replace(apply=jax.jit(model.apply)), model.init(KEY, x), x


def shapes(name, x, **hyper):
  model = ws.models.build(name, **hyper)
  return jax.eval_shape(model.init, KEY, x)


@pytest.mark.parametrize(
  "name, hyper, shape, expected",
  [
    ("mlp", {"hidden": (5, 4)}, (28, 28, 1), 785 * 5 + 6 * 4 + 5 * 10),
    # published sizes; ViT-B/16 less the position of its class token
    ("resnet", {"norm": "batch"}, (32, 32, 3), 272_474),
    ("resnet", {"depth": 18, "stages": 4, "width": 4}, (32, 32, 3), 11_173_962),
    (
      "vgg",
      {
        "widths": (64, 128, 256, 512, 512),
        "depths": (2, 2, 3, 3, 3),
        "norm": "none",
      },
      (32, 32, 3),
      14_714_688 + 5_130,
    ),
    (
      "vit",
      {
        "patch": 16,
        "width": 768,
        "layers": 12,
        "heads": 12,
        "classes": 1000,
        "pool": "token",
      },
      (224, 224, 3),
      86_567_656 - 768,
    ),
  ],
)
def test_published_sizes(name, hyper, shape, expected):
  x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  assert ws.models.count(shapes(name, x, **hyper)) == expected


def test_seven_billion_parameters():
  x = jax.ShapeDtypeStruct((1, 8), jnp.int32)
  hyper = {"vocab": 32_000, "layers": 32, "width": 4096, "heads": 32}
  hyper |= {"kv_heads": 32, "hidden": 11_008, "scan": True, "remat": True}
  tree = shapes("lm", x, tied=False, **hyper)
  assert ws.models.count(tree) == 6_738_415_616
  tied = shapes("lm", x, tied=True, **hyper)
  assert ws.models.count(tree) - ws.models.count(tied) == 32_000 * 4096


@pytest.mark.parametrize("name", ws.models.MODULES)
def test_defaults_build(name):
  model = ws.models.build(name)
  lm = name in ("lm", "moe")
  x = jnp.zeros((2, 8), jnp.int32) if lm else jnp.zeros((2, 32, 32, 3))
  params = jax.eval_shape(model.init, KEY, x)
  logits = jax.eval_shape(model.apply, params, x)
  assert logits.shape == ((2, 8, 256) if lm else (2, 10))
  assert set(model.hyper) == {
    field
    for field in model.module.__dataclass_fields__
    if field not in ("parent", "name")
  }


@pytest.mark.parametrize(
  "case",
  [
    case if case == "mlp" else pytest.param(case, marks=pytest.mark.slow)
    for case in TINY
  ],
)
def test_model_is_pure_and_learns(case):
  model, params, x = tiny(case)
  assert type(params) is dict
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("f4")}
  assert ws.models.count(params) < 10_000
  y = x if case == "lm" else jnp.arange(len(x)) % 3
  loss = losses.of(model.apply, losses.cross_entropy)
  batch = {"x": x, "y": y}

  @jax.jit
  def step(params):
    value, grad = jax.value_and_grad(lambda p: loss(p, batch).mean())(params)
    return value, optax.tree.add_scale(params, -0.1, grad)

  values, now = [], params
  for _ in range(5):
    value, now = step(now)
    values.append(value.item())
  assert values[-1] < values[0]
  assert all(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(now))
  logits = model.apply(params, x)
  np.testing.assert_allclose(
    ws.models.build(model.name, **model.hyper).apply(params, x),
    logits,
    rtol=1e-4,
    atol=1e-5,
  )
  assert values[0] == pytest.approx(
    losses.cross_entropy(logits, y).mean().item(), rel=1e-4
  )


def test_initialisation_depends_on_key_and_shape_only():
  model, params, x = tiny("mlp")
  again = model.init(KEY, np.zeros((1, 4, 4, 3), np.float32))
  assert ws.fingerprint(again) == ws.fingerprint(params)
  traced = jax.jit(model.init)(KEY, x)
  same = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
  jax.tree.map(same, traced, params)
  other = model.init(jax.random.key(1), x)
  assert ws.fingerprint(other) != ws.fingerprint(params)


def test_stack_of_models_under_vmap():
  model, params, x = tiny("mlp")
  other = jax.tree.map(lambda w: -w, params)
  logits = jax.vmap(model.apply, (0, None))(ws.stack([params, other]), x)
  np.testing.assert_allclose(logits[1], model.apply(other, x), rtol=1e-5)


def test_linear_model_is_linear_in_its_parameters():
  model = ws.models.build("mlp", hidden=())
  a, b = model.init(KEY, IMAGES), model.init(jax.random.key(1), IMAGES)
  mixed = ws.weighted_sum(ws.stack([a, b]), jnp.array([2.0, -3.0]))
  expected = 2 * model.apply(a, IMAGES) - 3 * model.apply(b, IMAGES)
  np.testing.assert_allclose(model.apply(mixed, IMAGES), expected, atol=1e-5)


def test_hidden_units_of_the_mlp_permute():
  model, params, x = tiny("mlp")
  order = jnp.array([3, 1, 4, 0, 2])
  first, second = params["Dense_0"], params["Dense_1"]
  moved = {
    "Dense_0": {
      "kernel": first["kernel"][:, order],
      "bias": first["bias"][order],
    },
    "Dense_1": {**second, "kernel": second["kernel"][order]},
  }
  np.testing.assert_allclose(
    model.apply(moved, x), model.apply(params, x), atol=1e-6
  )


def test_heads_and_gated_units_of_the_lm_permute():
  model, params, x = tiny("lm")
  block = params["block_0"]
  units = jnp.arange(block["gate"]["kernel"].shape[1])[::-1]
  groups, heads = jnp.array([1, 0]), jnp.array([2, 3, 0, 1])
  kernels = {name: layer.get("kernel") for name, layer in block.items()}
  inner = {name: v["kernel"] for name, v in block["attention"].items()}
  moved = {
    **block,
    "gate": {"kernel": kernels["gate"][:, units]},
    "up": {"kernel": kernels["up"][:, units]},
    "down": {"kernel": kernels["down"][units]},
    "attention": {
      "query": {"kernel": inner["query"][:, heads]},
      "key": {"kernel": inner["key"][:, groups]},
      "value": {"kernel": inner["value"][:, groups]},
      "out": {"kernel": inner["out"][heads]},
    },
  }
  np.testing.assert_allclose(
    model.apply({**params, "block_0": moved}, x),
    model.apply(params, x),
    atol=1e-5,
  )


def test_future_tokens_do_not_change_the_past():
  model, params, x = tiny("lm")
  changed = x.at[:, 5].set((x[:, 5] + 1) % 7)
  gap = jnp.abs(model.apply(params, x) - model.apply(params, changed))
  assert gap[:, :5].max() == 0.0
  assert gap[:, 5:].max(axis=(0, 2)).min() > 1e-4


def test_tied_embeddings_are_one_leaf():
  model, params, x = tiny("lm")
  assert "head" not in params
  unused = jnp.zeros_like(x)  # only token 0 is read, yet all rows are scored
  grad = jax.grad(lambda p: (model.apply(p, unused) ** 2).sum())(params)
  assert jnp.all(jnp.abs(grad["embed"]["embedding"]).sum(1) > 0)


def test_scanned_and_rematerialised_layers_are_the_same_model():
  model, params, x = tiny("lm")
  scan = ws.models.build("lm", **LM, scan=True, remat=True)
  stacked = {k: v for k, v in params.items() if not k.startswith("block_")}
  stacked["blocks"] = ws.stack([params["block_0"], params["block_1"]])
  loss = losses.of(model.apply, losses.cross_entropy)
  other = losses.of(scan.apply, losses.cross_entropy)
  batch = {"x": x, "y": x}
  grad = jax.jit(jax.grad(lambda p: loss(p, batch).sum()))(params)
  found = jax.jit(jax.grad(lambda p: other(p, batch).sum()))(stacked)
  expected = ws.stack([grad["block_0"], grad["block_1"]])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    found["blocks"],
    expected,
  )


@pytest.mark.slow
@pytest.mark.parametrize("case", ["lm", "vit"])
def test_bfloat16_products_are_close(case):
  model, params, x = tiny(case)
  half = ws.models.build(model.name, **{**model.hyper, "dtype": "bfloat16"})
  logits = model.apply(params, x)
  found = half.apply(params, x)
  assert found.dtype == jnp.float32
  gap = jnp.linalg.norm(found - logits) / jnp.linalg.norm(logits)
  assert 0 < gap < 0.03


def test_rotary_products_depend_on_the_distance():
  q, k = jax.random.normal(KEY, (2, 1, 1, 1, 6))
  row = jnp.ones((1, 9, 1, 1))
  turned_q, turned_k = attention.rotate(q * row), attention.rotate(k * row)
  scores = np.einsum("bshd,bthd->st", turned_q, turned_k)
  for gap in range(-8, 9):
    diagonal = np.diagonal(scores, gap)
    np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-5)
  assert np.ptp(scores[0]) > 0.1
  np.testing.assert_allclose(turned_q[:, 0], q[:, 0], rtol=1e-6)


def test_rotary_angles():
  found = attention.rotate(jnp.ones((1, 2, 1, 4)))[0, 1, 0]
  angle = np.array([1.0, 0.01])  # 10000^0 and 10000^(-1/2), at position 1
  cos, sin = np.cos(angle), np.sin(angle)
  expected = np.concatenate([cos - sin, cos + sin])
  np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kv_heads, causal", [(4, True), (2, True), (1, False)])
def test_attention_against_numpy(kv_heads, causal):
  x = np.asarray(jax.random.normal(KEY, (2, 5, 8)))
  layer = attention.Attention(4, kv_heads, 3, causal=causal)
  params = jax.jit(layer.init)(KEY, x)["params"]
  params = jax.tree.map(np.asarray, params)

  def project(name, h):
    kernel, bias = params[name]["kernel"], params[name]["bias"]
    return x @ kernel[:, h] + bias[h]

  total = params["out"]["bias"]
  for h in range(4):
    g = h // (4 // kv_heads)
    scores = project("query", h) @ project("key", g).swapaxes(1, 2) / 3**0.5
    if causal:
      scores = np.where(np.tril(np.ones((5, 5))), scores, -np.inf)
    share = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    total = total + share @ project("value", g) @ params["out"]["kernel"][h]
  found = layer.apply({"params": params}, x)
  np.testing.assert_allclose(found, total, 1e-4, 1e-5)


@pytest.mark.parametrize("kind", norms.KINDS)
def test_norms_against_numpy(kind):
  x = np.float32(np.asarray(IMAGES[..., :1]) * np.arange(1, 5) + 3.0)
  layer = norms.norm(kind, 2, "norm")
  if kind == "none":
    return np.testing.assert_array_equal(layer(x), x)
  scale, bias = np.arange(1.0, 5.0), np.arange(4.0)
  params = {"scale": jnp.float32(scale), "bias": jnp.float32(bias)}
  found = layer.apply({"params": params}, x, mutable=["moments"])[0]
  axes = {"layer": (3,), "group": (1, 2, 4), "batch": (0, 1, 2)}[kind]
  y = x.reshape(6, 4, 4, 2, 2) if kind == "group" else x
  mean, var = y.mean(axes, keepdims=True), y.var(axes, keepdims=True)
  y = ((y - mean) / np.sqrt(var + norms.EPSILON)).reshape(x.shape)
  np.testing.assert_allclose(found, y * scale + bias, rtol=1e-4, atol=1e-4)


def test_patches_are_read_row_by_row():
  x = np.arange(4 * 6).reshape(1, 4, 6, 1)
  patches = ws.models.build("vit", patch=2).module._patches(x)
  assert patches.shape == (1, 6, 4)
  assert patches[0, 1].tolist() == [2, 3, 8, 9]
  assert patches[0, 3].tolist() == [12, 13, 18, 19]


def test_flattened_head_is_ordered_by_pixel_then_channel():
  hyper = {"widths": (2,), "depths": (1,), "pool": "flatten", "hidden": [3]}
  tree = shapes("vgg", jnp.zeros((1, 4, 6, 1)), **hyper)
  assert tree["dense_0"]["kernel"].shape == (2 * 3 * 2, 3)


@pytest.mark.parametrize(
  "name, hyper, message",
  [
    ("cnn", {}, "model: 'cnn', expected one of mlp, vgg, resnet, vit, lm, moe"),
    ("mlp", {"widht": 3}, "mlp: unknown hyper-parameter 'widht', expected one"),
    ("mlp", {"parent": None}, "mlp: unknown hyper-parameter 'parent'"),
    ("mlp", {"hidden": 16}, "mlp: hidden is 16, expected a tuple"),
    ("mlp", {"hidden": [16, 0]}, r"mlp: hidden is \(16, 0\), expected"),
    ("mlp", {"classes": 2.0}, "mlp: classes is 2.0, expected a whole number"),
    ("mlp", {"classes": True}, "mlp: classes is True, expected a whole"),
    ("mlp", {"activation": "sin"}, "expected one of 'relu', 'gelu', 'tanh'"),
    ("vgg", {"depths": [1]}, r"vgg: depths is \(1,\), expected 3 numbers"),
    ("vgg", {"norm": "group", "groups": 3}, "vgg: groups is 3, expected a div"),
    ("vgg", {"norm": "instance"}, "vgg: norm is 'instance', expected one of"),
    ("resnet", {"depth": 21}, r"resnet: depth is 21, expected 2 \+ 6 n"),
    ("resnet", {"width": 0.1}, "resnet: width is 0.1, expected a positive"),
    ("resnet", {"width": -1}, "resnet: width is -1, expected a positive"),
    ("vit", {"heads": 5}, "vit: heads is 5, expected a divisor of width=64"),
    ("vit", {"dtype": "float16"}, "vit: dtype is 'float16', expected one of"),
    ("lm", {"kv_heads": 3}, "lm: kv_heads is 3, expected a divisor of heads=4"),
    ("lm", {"width": 12, "heads": 4}, "lm: heads is 4, expected to divide"),
    ("lm", {"tied": "no"}, "lm: tied is 'no', expected one of True, False"),
  ],
)
def test_refused_when_built(name, hyper, message):
  with pytest.raises(ValueError, match=message):
    ws.models.build(name, **hyper)


@pytest.mark.parametrize(
  "name, x, message",
  [
    ("vgg", (1, 4, 4, 3), "vgg: x is .*expected images of at least 8 pixels"),
    ("resnet", (1, 64), r"resnet: x is \(1, 64\), expected images"),
    ("vit", (1, 6, 8, 1), "vit: x is .*, expected sides that 4 divides"),
    ("lm", (2, 3), r"lm: x is \(1, 3\) float32, expected whole-number tokens"),
    ("mlp", (0, 4), r"init: x is \(0, 4\), expected a batch"),
    ("mlp", (), r"init: x is \(\), expected a batch"),
  ],
)
def test_refused_inputs(name, x, message):
  with pytest.raises(ValueError, match=message):
    ws.models.build(name).init(KEY, np.ones(x, np.float32))


def test_own_linen_modules():
  model = ws.models.from_linen(nn.Sequential([nn.Dense(3), nn.relu]))
  params = model.init(KEY, IMAGES)
  assert params["layers_0"]["kernel"].shape == (3, 3)
  assert model.apply(params, IMAGES).shape == (6, 4, 4, 3)
  assert model.name == "sequential"
  foreign = ws.models.from_linen(
    nn.SpectralNorm(nn.Dense(3)), update_stats=False
  )
  with pytest.raises(ValueError, match="'batch_stats' variables, expected"):
    foreign.init(KEY, IMAGES)
