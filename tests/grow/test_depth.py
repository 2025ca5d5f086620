"""Blocks restacked: laws to the bit, gradients, seams, and what is refused."""

import collections

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import grow


def blocks(count, start=0, seed=0):
  random = np.random.default_rng(seed)
  tree = {
    f"block_{k}": {"w": random.normal(size=(3, 3)), "v": np.ones((3, 3)) * k}
    for k in range(start, start + count)
  }
  return tree | {"head": random.normal(size=(3, 2))}


def same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_blocks_are_repeated_and_left_out():
  params = blocks(4)
  result = grow.restack(params, "block_*", [3, 0, 0, 1, 1, 2])
  assert sorted(result) == [f"block_{k}" for k in range(6)] + ["head"]
  for new, old in enumerate([3, 0, 0, 1, 1, 2]):
    same(result[f"block_{new}"], params[f"block_{old}"])
  same(grow.restack(params, "block_*", range(4)), params)
  short = grow.restack(params, "block_*", (2,))
  same(short, {"block_0": params["block_2"], "head": params["head"]})


def test_twelve_blocks_are_in_the_order_of_their_numbers():
  params = {f"b{k}": np.array(k) for k in range(12)}
  result = grow.restack(params, "b*", grow.spaced(12, 4))
  assert {k: int(v) for k, v in result.items()} == {
    "b0": 0, "b1": 3, "b2": 6, "b3": 9,
  }  # fmt: skip


def test_scanned_layers_are_restacked_on_their_axis():
  layers = {"w": np.arange(12).reshape(4, 3), "b": jnp.arange(4.0)}
  params = {"net": {"layers": layers, "head": np.ones(2)}}
  for pattern in ("net/layers", "net/layers/*"):
    result = grow.restack(params, pattern, [3, 3, 0])["net"]["layers"]
    np.testing.assert_array_equal(result["w"], layers["w"][[3, 3, 0]])
    assert isinstance(result["w"], np.ndarray)
    assert result["b"].tolist() == [3.0, 3.0, 0.0]
  assert grow.restack(layers, "", [1])["b"].tolist() == [1.0]
  traced = jax.jit(lambda order: grow.restack(layers, "", order))
  assert traced(jnp.array([2, 1]))["b"].tolist() == [2.0, 1.0]


def test_scanned_and_numbered_blocks_agree():
  x = jnp.arange(10).reshape(2, 5) % 7
  hyper = {"vocab": 7, "width": 8, "heads": 2, "kv_heads": 1, "hidden": 8}
  plain = ws.models.build("lm", layers=3, **hyper)
  params = plain.init(jax.random.key(0), x)
  names = [f"block_{k}" for k in range(3)]
  scanned = {k: v for k, v in params.items() if k not in names}
  scanned["blocks"] = ws.stack([params[name] for name in names])
  order = [0, 2, 2, 1]
  deep = ws.models.build("lm", layers=4, **hyper)
  scan = ws.models.build("lm", layers=4, scan=True, **hyper)
  problems.close(
    deep.apply(grow.restack(params, "block_*", order), x),
    scan.apply(grow.restack(scanned, "blocks", order), x),
  )


def test_containers_stay_what_they_are():
  tree = {"layers": [np.zeros(1), np.ones(1)], "n": (np.zeros(1),)}
  result = grow.restack(tree, "layers/*", [1, 1, 0])
  assert [x.item() for x in result["layers"]] == [1.0, 1.0, 0.0]
  assert isinstance(result["layers"], list) and isinstance(result["n"], tuple)
  frozen = flax.core.freeze({"m": blocks(2)})
  assert isinstance(
    grow.restack(frozen, "m/block_*", [1]), flax.core.FrozenDict
  )
  haiku = {"net/~/linear_0": {"w": 0.0}, "net/~/linear_1": {"w": 1.0}}
  assert grow.restack(haiku, "net/~/linear_*", [1, 1])["net/~/linear_1"] == {
    "w": 1.0
  }
  state = {"layers": {0: np.zeros(1), 1: np.ones(1)}}  # numbers, as in nnx
  assert sorted(grow.restack(state, "layers/*", [1, 1, 0])["layers"]) == [
    0, 1, 2,
  ]  # fmt: skip
  Net = collections.namedtuple("Net", ["blocks", "head"])
  net = grow.restack(Net([1.0, 2.0], 3.0), "0/*", [1])
  assert net == Net([2.0], 3.0)


def test_numbers_may_begin_at_one():
  result = grow.restack(blocks(3, start=1), "block_*", [3, 1])
  assert sorted(result) == ["block_1", "block_2", "head"]
  assert result["block_1"]["v"][0, 0] == 3


def forward(params, x):
  for k in range(sum(name.startswith("block") for name in params)):
    x = x + jnp.tanh(x @ params[f"block_{k}"]["w"])
  return x @ params["head"]


def test_the_gradient_of_a_repeat_is_the_sum_over_its_places():
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), blocks(2))
  order, x = [0, 1, 0, 1, 1], jnp.ones((4, 3))

  def loss(p):
    return (forward(p, x) ** 2).sum()

  tied = jax.grad(lambda p: loss(grow.restack(p, "block_*", order)))(params)
  free = jax.grad(loss)(grow.restack(params, "block_*", order))
  for gene in range(2):
    total = sum(
      free[f"block_{k}"]["w"] for k, g in enumerate(order) if g == gene
    )
    np.testing.assert_allclose(tied[f"block_{gene}"]["w"], total, 1e-5, 1e-6)


def test_under_jit_vmap_and_shards():
  models = [
    jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), blocks(3, seed=s))
    for s in range(2)
  ]
  stack = ws.stack(models)
  restack = lambda p: grow.restack(p, "block_*", [2, 0])  # noqa: E731
  expected = ws.stack([restack(m) for m in models])
  for given in (stack, problems.sharded(stack)):
    same(jax.jit(restack)(given), expected)
    same(jax.vmap(restack)(given), expected)


def test_a_block_of_zeros_is_as_good_as_none():
  params = blocks(3)
  params["block_1"] = jax.tree.map(np.zeros_like, params["block_1"])
  x = np.ones((2, 3))
  np.testing.assert_array_equal(
    forward(params, x), forward(grow.restack(params, "block_*", [0, 2]), x)
  )


def stages():
  """Return blocks as those of a ResNet: three stages, two of them wider."""
  return {
    f"b{k}": {"w": np.ones((a, b))}
    for k, (a, b) in enumerate([(2, 2)] * 3 + [(2, 4), (4, 4), (4, 4), (4, 8)])
  }


@pytest.mark.parametrize(
  "order", [range(7), [0, 3, 4, 6], [0, 1, 1, 1, 2, 3, 6], [2, 0, 3, 5, 4, 6]]
)
def test_blocks_that_fit_may_go_and_come(order):
  result = grow.restack(stages(), "b*", list(order))
  assert len(result) == len(list(order))


@pytest.mark.parametrize(
  "order", [[0, 1, 2, 4, 6], [0, 3, 3, 4, 6], [0, 3, 4], [0, 6]]
)
def test_blocks_that_do_not_fit_are_refused(order):
  with pytest.raises(ValueError, match="would"):
    grow.restack(stages(), "b*", order)
  vouched = grow.restack(stages(), "b*", order, check=False)
  assert len(vouched) == len(order)


BAD = {
  "no such block": ("block_*", [0, 4], "order holds 4, expected numbers"),
  "negative": ("block_*", [-1], "order holds -1"),
  "none": ("block_*", [], r"order has shape \(0,\)"),
  "nested": ("block_*", [[0]], r"order has shape \(1, 1\)"),
  "floats": ("block_*", [0.0], "order is float64, expected integers"),
  "mask": ("block_*", [True], "order is bool, expected integers"),
  "no fit": ("layer_*", [0], "'layer_\\*' fits no blocks"),
  "two stars": ("*_*", [0], "expected one '\\*' at most"),
  "not stacked": ("", [0], "fits no blocks"),
}


@pytest.mark.parametrize("pattern, order, message", BAD.values(), ids=BAD)
def test_bad_orders_are_refused(pattern, order, message):
  params = blocks(4) | {"scale": np.array(1.0)}
  with pytest.raises(ValueError, match=message):
    grow.restack(params, pattern, order)


def test_an_order_of_names_is_known():
  with pytest.raises(ValueError, match="order is traced"):
    jax.jit(lambda order: grow.restack(blocks(2), "block_*", order))(
      jnp.array([0])
    )


def test_unequal_blocks_are_refused():
  params = {"block_0": {"w": np.ones(2)}, "block_1": {"v": np.ones(2)}}
  for order in ([0, 0, 1], [1, 0], [0], [1]):
    with pytest.raises(ValueError, match="of its shapes"):
      grow.restack(params, "block_*", order)


def test_spaced():
  assert grow.spaced(12, 5) == [0, 2, 4, 6, 8]
  assert grow.spaced(12, 12) == list(range(12))
  for old, new in ((4, 5), (4, 0), (0, 1)):
    with pytest.raises(ValueError, match="spaced"):
      grow.spaced(old, new)
