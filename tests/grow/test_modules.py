"""Modules put into meta networks and together: laws to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import problems
from weightspace import grow


def network(count, seed=0, hidden=4):
  shapes = {f"block_{k}": {"w": (3, hidden)} for k in range(count)}
  return problems.tree(seed, shapes | {"embed": (2, 3), "head": {"w": (3, 2)}})


def forward(p, x):
  x = x @ p["embed"]
  for k in range(sum(name.startswith("block") for name in p)):
    w = p[f"block_{k}"]["w"]
    x = x + jnp.tanh(x @ w) @ w.T
  return x @ p["head"]["w"]


def same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_parts_assembled_are_the_whole():
  net = network(5)
  modules = [
    grow.part(net, [0, 1], ["embed"]),
    grow.part(net, [2]),
    grow.part(net, [3, 4], ["head"]),
  ]
  assert sorted(modules[0]) == ["block_0", "block_1", "embed"]
  assert sorted(modules[2]) == ["block_0", "block_1", "head"]
  same(grow.assemble(modules), net)
  same(grow.assemble([net]), net)


def test_stacked_modules():
  layers = {"blocks": {"w": np.arange(12.0).reshape(4, 3)}, "head": np.ones(2)}
  modules = [
    grow.part(layers, [0], pattern="blocks"),
    grow.part(layers, [1, 2, 3], ["head"], pattern="blocks"),
  ]
  same(grow.assemble(modules, "blocks"), layers)
  mixed = grow.hybrid(layers, modules[1], 1, "blocks")
  expected = layers["blocks"]["w"][np.array([0, 1, 2, 3, 2, 3])]
  np.testing.assert_array_equal(mixed["blocks"]["w"], expected)
  mask = grow.inside(mixed, [1, 2, 3], (), "blocks")
  assert mask["blocks"]["w"][:, 0].tolist() == [0, 1, 1, 1, 0, 0]
  assert not mask["head"].any()


def test_a_hybrid_is_the_meta_network_elsewhere():
  meta, net = network(3, 0), network(6, 1)
  module = grow.part(net, [2, 3])
  mixed = grow.hybrid(meta, module, 1)
  order = [meta["block_0"], net["block_2"], net["block_3"], meta["block_2"]]
  for k, block in enumerate(order):
    same(mixed[f"block_{k}"], block)
  same(mixed["embed"], meta["embed"])
  same(grow.hybrid(meta, grow.part(meta, [2]), 2), meta)
  first = grow.hybrid(meta, grow.part(net, [0], ["embed"]), 0)
  same(first["embed"], net["embed"])
  same(first["head"], meta["head"])


def test_only_the_module_trains():
  meta = network(3, 0)
  mixed = grow.hybrid(meta, grow.part(network(4, 1), [1, 2]), 1)
  mixed = jax.tree.map(jnp.asarray, mixed)
  mask = grow.inside(mixed, [1, 2])
  data = problems.data()
  data = {"x": data["x"][:, :2], "y": data["y"]}
  tx = ws.sparse.train_only(optax.adamw(0.05), mask)
  fitted = ws.train.fit(
    ws.losses.of(forward, ws.losses.cross_entropy), mixed, tx, data,
    key=jax.random.key(0), epochs=3, batch_size=8,
  )  # fmt: skip
  for path, leaf in ws.trees.named(fitted.params).items():
    before = ws.trees.named(mixed)[path]
    moved = path.startswith(("block_1", "block_2"))
    assert bool((np.asarray(leaf) != np.asarray(before)).any()) == moved


def test_modules_that_do_not_fit_are_refused():
  meta = network(3)
  with pytest.raises(ValueError, match="block 1: 'w' is"):
    grow.hybrid(meta, grow.part(network(2, hidden=5), [0]), 1)
  with pytest.raises(ValueError, match="no block 3"):
    grow.hybrid(meta, grow.part(meta, [0]), 3)
  with pytest.raises(ValueError, match="'tail' of the module is not"):
    grow.hybrid(meta, {"block_0": meta["block_0"], "tail": np.ones(1)}, 1)
  with pytest.raises(ValueError, match="'embed' of the module"):
    grow.hybrid(meta, {"block_0": meta["block_0"], "embed": np.ones(1)}, 0)
  with pytest.raises(ValueError, match="module 1: 'w' is"):
    grow.assemble([network(1), grow.part(network(1, hidden=5), [0])])
  with pytest.raises(ValueError, match="'embed' differs between modules"):
    grow.assemble([network(1, 0), network(1, 1)])
  with pytest.raises(ValueError, match="no modules"):
    grow.assemble([])
  with pytest.raises(ValueError, match="'tail' is no path"):
    grow.part(meta, [0], ["tail"])
  with pytest.raises(ValueError, match="order holds 7"):
    grow.part(meta, [7])
  with pytest.raises(ValueError, match="no block 7"):
    grow.inside(meta, [7])
