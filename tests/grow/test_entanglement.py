"""Mixtures of slices: exact for linear maps, at the cost of the largest one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import problems
from weightspace import grow
from weightspace.jaxpr import graph

AXES = ws.symmetry.Axes(
  {"b": "a", "other": "2", "v": "a c", "w": "3 a"},
  {"a": 4, "c": 5},
  {"w:0": "input"},
)
OPTIONS = {"a": (1, 2, 4), "c": (2, 5, 3)}


def model(seed=0, dtype=np.float32):
  shapes = {"b": (4,), "other": (2,), "v": (4, 5), "w": (3, 4)}
  return problems.tree(seed, shapes, dtype)


def padded(params, a, c):
  """Return the slice of a leading units and c of the other name, padded."""
  p = jax.tree.map(np.array, params)
  p["b"][a:], p["w"][:, a:], p["v"][a:], p["v"][:, c:] = 0, 0, 0, 0
  return p


def reference(params, weights):
  """Sum padded slices, for weights of all names or of each."""
  if isinstance(weights, dict):
    choices = [
      (wa * wc, a, c)
      for (wa, a), (wc, c) in itertools.product(
        zip(weights["a"], OPTIONS["a"]), zip(weights["c"], OPTIONS["c"])
      )
    ]
  else:
    choices = list(zip(weights, OPTIONS["a"], OPTIONS["c"]))
  total = jax.tree.map(np.zeros_like, params)
  for w, a, c in choices:
    one = padded(params, a, c)
    total = jax.tree.map(lambda t, x, w=w: t + np.float64(w) * x, total, one)
  return total | {"other": params["other"]}


WEIGHTS = [
  np.array([0.2, 0.5, 0.3]),
  np.array([0.0, 1.0, 0.0]),
  {"a": np.array([0.2, 0.5, 0.3]), "c": np.array([0.6, 0.1, 0.3])},
]


@pytest.mark.parametrize("weights", WEIGHTS, ids=["all", "one", "each"])
def test_the_mixture_is_the_sum_of_padded_slices(weights):
  params = model()
  expected = reference(params, weights)
  mixed = grow.entangle(params, AXES, OPTIONS, weights)
  problems.close(mixed, expected, 1e-5, 1e-6)
  jitted = jax.jit(lambda p, w: grow.entangle(p, AXES, OPTIONS, w))
  problems.close(jitted(params, weights), expected, 1e-5, 1e-6)
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(mixed))


def test_a_single_option_is_its_slice_to_the_bit():
  params = model()
  mixed = grow.entangle(params, AXES, OPTIONS, [0.0, 1.0, 0.0])
  jax.tree.map(np.testing.assert_array_equal, mixed, padded(params, 2, 5))
  full = grow.entangle(params, AXES, {"a": (4,)}, [1.0])
  jax.tree.map(np.testing.assert_array_equal, full, params)
  half = grow.entangle(params, AXES, {"c": (5,)}, [0.5])
  np.testing.assert_array_equal(half["v"], params["v"] / 2)
  np.testing.assert_array_equal(half["w"], params["w"])


def test_linear_maps_of_the_mixture_are_mixtures_of_maps():
  params, x = model(), np.random.default_rng(1).normal(size=(6, 3))
  x, weights = x.astype(np.float32), np.array([0.2, 0.5, 0.3], np.float32)
  maps = [
    x @ padded(params, a, 5)["w"] + padded(params, a, 5)["b"]
    for a in OPTIONS["a"]
  ]
  expected = sum(w * y for w, y in zip(weights, maps))
  options = {"a": OPTIONS["a"]}
  mixed = grow.entangle(params, AXES, options, weights)
  np.testing.assert_allclose(
    x @ mixed["w"] + mixed["b"][None], expected, atol=1e-5
  )
  gradient = jax.jacobian(
    lambda w: x @ grow.entangle(params, AXES, options, w)["w"]
  )(weights)
  for k, a in enumerate(OPTIONS["a"]):
    np.testing.assert_allclose(
      gradient[..., k], x @ padded(params, a, 5)["w"], atol=1e-5
    )


def test_weights_of_each_axis_may_be_a_list():
  params, weights = model(), WEIGHTS[2]
  listed = grow.entangle(params, AXES, OPTIONS, list(weights.values()))
  named = grow.entangle(params, AXES, OPTIONS, weights)
  jax.tree.map(np.testing.assert_array_equal, listed, named)


def test_a_name_twice_on_a_leaf_is_one_choice():
  axes = ws.symmetry.Axes({"h": "a a"}, {"a": 3}, {})
  mixed = grow.entangle(
    {"h": jnp.ones((3, 3))}, axes, {"a": (1, 3)}, {"a": [0.5, 0.5]}
  )
  assert mixed["h"][0].tolist() == [1.0, 0.5, 0.5]
  assert mixed["h"][1].tolist() == [0.5, 0.5, 0.5]


def test_flattened_images_and_concatenations():
  axes = ws.symmetry.Axes({"v": "(2 a) 1", "w": "(3+a) 1"}, {"a": 2}, {})
  params = {"v": jnp.ones((4, 1)), "w": jnp.ones((5, 1))}
  mixed = grow.entangle(params, axes, {"a": (1, 2)}, [0.75, 0.25])
  assert mixed["v"].ravel().tolist() == [1.0, 0.25, 1.0, 0.25]
  assert mixed["w"].ravel().tolist() == [1.0, 1.0, 1.0, 1.0, 0.25]


def test_under_vmap_and_shards():
  stack = ws.stack([model(s) for s in range(2)])
  weights = jnp.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
  many = jax.vmap(lambda p, w: grow.entangle(p, AXES, OPTIONS, w))
  expected = ws.stack(
    [
      grow.entangle(p, AXES, OPTIONS, w)
      for p, w in zip(ws.unstack(stack), weights)
    ]
  )
  problems.close(many(stack, weights), expected, 1e-6, 1e-7)
  given = problems.sharded(stack)
  problems.close(jax.jit(many)(given, weights), expected, 1e-6, 1e-7)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_rounded_once(dtype):
  wide = jax.tree.map(lambda x: jnp.asarray(x, dtype), model())
  mixed = grow.entangle(wide, AXES, OPTIONS, WEIGHTS[0])
  exact = grow.entangle(
    jax.tree.map(lambda x: x.astype(jnp.float32), wide), AXES, OPTIONS,
    WEIGHTS[0],
  )  # fmt: skip
  rounded = jax.tree.map(lambda x: x.astype(dtype), exact)
  jax.tree.map(np.testing.assert_array_equal, mixed, rounded)


def test_it_costs_what_the_largest_option_does():
  axes = ws.symmetry.Axes({"w": "8 a"}, {"a": 64}, {"w:0": "input"})
  params, x = {"w": jnp.ones((8, 64))}, jnp.ones((512, 8))
  options, weights = {"a": tuple(range(4, 65, 4))}, jnp.full(16, 1 / 16)

  def plain(p, w, x):
    return jax.nn.relu(x @ p["w"])

  def mixed(p, w, x):
    return plain(grow.entangle(p, axes, options, w), w, x)

  programs = [graph.trace(f, params, weights, x) for f in (plain, mixed)]
  flops = [sum(map(graph.product_flops, p.equations)) for p in programs]
  assert flops[1] < 1.01 * flops[0]
  assert graph.widest(programs[1]) == graph.widest(programs[0])
  memory = [
    jax.jit(f).lower(params, weights, x).compile().memory_analysis()
    for f in (plain, mixed)
  ]
  used = [m.temp_size_in_bytes + m.output_size_in_bytes for m in memory]
  assert used[1] < 1.1 * used[0]


BAD = {
  "unknown": ({"z": (1,)}, [1.0], "'z' is no name"),
  "none": ({}, [1.0], "no options"),
  "zero": ({"a": (0, 1)}, [0.5, 0.5], "expected 1 to 4"),
  "wide": ({"a": (1, 5)}, [0.5, 0.5], "expected 1 to 4"),
  "floats": ({"a": (1.0,)}, [1.0], "expected whole numbers"),
  "count": ({"a": (1, 2)}, [1.0], r"have shape \(1,\), expected \(2,\)"),
  "uneven": ({"a": (1, 2), "c": (1,)}, [0.5, 0.5], "as many of each name"),
  "negative": ({"a": (1, 2)}, [1.5, -0.5], "numbers of at least 0"),
  "nan": ({"a": (1, 2)}, [0.5, float("nan")], "numbers of at least 0"),
  "other": ({"a": (1, 2)}, {"c": [0.5, 0.5]}, r"weights of \['c'\]"),
}


@pytest.mark.parametrize("options, weights, message", BAD.values(), ids=BAD)
def test_bad_options_are_refused(options, weights, message):
  with pytest.raises(ValueError, match=message):
    grow.entangle(model(), AXES, options, weights)


def test_parameters_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match="'other' is missing"):
    grow.entangle({"b": np.ones(4)}, AXES, OPTIONS, WEIGHTS[0])


def test_mixing_weights():
  logits = np.array([0.3, 1.2, -0.5, 1.0])
  order = np.sort(logits)[::-1]
  support = max(
    k for k in range(1, 5) if 1 + k * order[k - 1] > order[:k].sum()
  )
  tau = (order[:support].sum() - 1) / support
  np.testing.assert_allclose(
    grow.darts(logits), np.maximum(logits - tau, 0), atol=1e-6
  )
  keys = jax.random.split(jax.random.key(0), 4000)
  draws = jax.vmap(lambda key: grow.drnas(logits, key))(keys)
  np.testing.assert_allclose(draws.sum(-1), 1, atol=1e-5)
  alpha = np.where(logits > 0, logits, np.expm1(logits)) + 1
  np.testing.assert_allclose(draws.mean(0), alpha / alpha.sum(), atol=0.02)
  gradient = jax.grad(lambda z: grow.drnas(z, keys[0])[0])(jnp.asarray(logits))
  assert np.isfinite(gradient).all() and (gradient != 0).any()


def test_the_search_moves_each_level_by_its_own_data():
  def loss(params, weights, batch):
    return ((params * weights["a"]).sum() - batch) ** 2

  both = grow.search(loss, lambda logits, key: logits)
  tree = {
    "params": jnp.array([1.0, 2.0]),
    "logits": {"a": jnp.array([3.0, 4.0])},
  }
  batch = {"train": 1.0, "valid": 2.0, "key": jax.random.key(0)}
  gradient = jax.grad(both)(tree, batch)
  assert gradient["params"].tolist() == [2 * 10 * 3.0, 2 * 10 * 4.0]
  assert gradient["logits"]["a"].tolist() == [2 * 9 * 1.0, 2 * 9 * 2.0]


@pytest.mark.parametrize("mixing", [grow.darts, grow.drnas])
def test_a_search_finds_the_width_that_is_needed(mixing):
  axes = ws.symmetry.Axes({"w": "a"}, {"a": 4}, {})
  options = {"a": (1, 2, 4)}
  random = np.random.default_rng(0)
  x = random.normal(size=(64, 4)).astype(np.float32)
  y = x[:, 0] + x[:, 1]

  def loss(params, weights, batch):
    mixed = grow.entangle(params, axes, options, weights)["w"]
    cost = 0.1 * (weights["a"] * jnp.array([1.0, 2.0, 4.0])).sum()
    return jnp.square(batch["x"] @ mixed - batch["y"]).mean() + cost

  def prepare(key, batch):
    half = {k: v[:32] for k, v in batch.items()}
    rest = {k: v[32:] for k, v in batch.items()}
    return {"train": half, "valid": rest, "key": key}

  tree = {"params": {"w": jnp.zeros(4)}, "logits": {"a": jnp.zeros(3)}}
  fitted = ws.train.fit(
    grow.search(loss, mixing), tree, optax.adam(0.05), {"x": x, "y": y},
    key=jax.random.key(0), epochs=300, batch_size=64, prepare=prepare,
  )  # fmt: skip
  assert grow.chosen(options, fitted.params["logits"]) == {"a": 2}
