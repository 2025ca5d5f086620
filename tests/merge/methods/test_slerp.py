"""Slerp, nuslerp, multi-slerp, Karcher mean, Model Stock, nearswap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import merge


def make(count=3, seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  shapes = {"w": (8, 6), "b": (6,), "s": ()}

  def draw(*lead):
    return {
      name: jnp.asarray(rng.normal(size=(*lead, *shape)), dtype)
      for name, shape in shapes.items()
    }

  return draw(count), draw()


def close(a, b, tolerance=2e-6):
  for path, x in ws.trees.named(a).items():
    y = np.asarray(ws.trees.named(b)[path], np.float64)
    scale = max(1.0, float(np.abs(y).max()))
    np.testing.assert_allclose(
      np.asarray(x, np.float64), y, atol=tolerance * scale, err_msg=path
    )


def slerp_reference(a, b, t, flat=0.9995):
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  cosine = (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))
  if abs(cosine) > flat:
    return (1 - t) * a + t * b
  angle = np.arccos(cosine)
  first, second = np.sin((1 - t) * angle), np.sin(t * angle)
  return (first * a + second * b) / np.sin(angle)


def karcher_reference(xs, iterations=10, tolerance=1e-5):
  flat = np.asarray(xs, np.float64).reshape(len(xs), -1)
  lengths = np.linalg.norm(flat, axis=1)
  units = flat / lengths[:, None]
  u = units.mean(0) / np.linalg.norm(units.mean(0))
  for _ in range(iterations):
    angles = np.arccos(np.clip(units @ u, -1, 1))
    ratio = np.where(angles > 1e-9, angles / np.sin(angles + 1e-300), 1.0)
    v = (ratio[:, None] * (units - np.cos(angles)[:, None] * u)).mean(0)
    size = np.linalg.norm(v)
    if size < tolerance:
      break
    u = np.cos(size) * u + np.sin(size) * v / size
  return (lengths.mean() * u).reshape(np.shape(xs)[1:])


def stock_reference(xs, base, average="cosine"):
  xs, base = np.asarray(xs, np.float64), np.asarray(base, np.float64)
  n, deltas = len(xs), (xs - base).reshape(len(xs), -1)
  units = deltas / np.linalg.norm(deltas, axis=1, keepdims=True)
  cosines = (units @ units.T)[np.triu_indices(n, 1)]
  c = cosines.mean()
  if average == "degrees":
    c = np.cos(np.arccos(np.clip(cosines, -1, 1)).mean())
  t = n * c / (1 + (n - 1) * c)
  return t * xs.mean(0) + (1 - t) * base


def test_slerp_is_the_formula_in_one_sweep_over_t():
  stack, _ = make(2)
  ts = [-0.5, 0.0, 0.3, 1.0, 1.5]
  sweep = jax.jit(jax.vmap(lambda t, s: merge.slerp(t)(s), (0, None)))
  for t, merged in zip(ts, ws.unstack(sweep(jnp.array(ts), stack))):
    expected = {k: slerp_reference(x[0], x[1], t) for k, x in stack.items()}
    close(merged, expected)


def test_slerp_ends_are_the_models_exactly():
  stack, _ = make(2)
  for t in (0, 1):
    merged = merge.slerp(float(t))(stack)
    for name, x in stack.items():
      np.testing.assert_array_equal(merged[name], x[t])


def test_slerp_keeps_the_norm_of_equal_norms():
  stack, _ = make(2)
  x = stack["w"] / jnp.linalg.norm(stack["w"], axis=(1, 2), keepdims=True)
  for t in (0.1, 0.5, 0.8):
    norm = jnp.linalg.norm(merge.slerp(t)({"w": x})["w"])
    np.testing.assert_allclose(norm, 1.0, atol=1e-6)


def test_slerp_of_near_parallel_models_is_linear():
  stack, _ = make(2)
  close_pair = {"w": jnp.stack([stack["w"][0], 1.01 * stack["w"][0]])}
  expected = 0.7 * close_pair["w"][0] + 0.3 * close_pair["w"][1]
  close(merge.slerp(0.3)(close_pair), {"w": expected}, 1e-7)
  opposite = {"w": jnp.stack([stack["w"][0], -2 * stack["w"][0]])}
  close(merge.slerp(0.5)(opposite), {"w": -0.5 * stack["w"][0]})


def test_nuslerp_weights_and_scopes():
  stack, _ = make(2)
  a, b = np.asarray(stack["w"])
  weights = [1.0, 3.0]
  rows = np.stack([slerp_reference(x, y, 0.75) for x, y in zip(a, b)])
  columns = np.stack([slerp_reference(x, y, 0.75) for x, y in zip(a.T, b.T)]).T
  expected = {
    "tensor": slerp_reference(a, b, 0.75),
    "row": rows,
    "column": columns,
  }
  for scope, value in expected.items():
    close({"w": merge.nuslerp(weights, scope)(stack)["w"]}, {"w": value})
  cancelling = merge.nuslerp([1.0, -1.0])(stack)
  close(cancelling, merge.slerp(0.5)(stack))


def test_nuslerp_on_deltas_keeps_their_norm_when_nearly_parallel():
  stack, base = make(2)
  turned = {
    "w": base["w"][None] + jnp.stack([stack["w"][0], stack["w"][0] + 1e-3])
  }
  merged = merge.on_deltas(merge.nuslerp())(turned, base={"w": base["w"]})
  expected = slerp_reference(*(turned["w"] - base["w"][None]), 0.5, flat=1.0)
  close(merged, {"w": base["w"] + expected})


def test_karcher_is_the_reference():
  stack, _ = make(4)
  expected = {k: karcher_reference(stack[k]) for k in ("w", "b")}
  merged = merge.karcher()(stack)
  close({k: merged[k] for k in expected}, expected, 2e-5)


def test_karcher_of_equals_is_the_model():
  stack, _ = make(1)
  same = jax.tree.map(lambda x: jnp.concatenate([x] * 3), stack)
  close(merge.karcher()(same), jax.tree.map(lambda x: x[0], stack))


def test_karcher_of_two_is_the_midpoint_of_the_arc():
  stack, _ = make(2)
  x = stack["w"] / jnp.linalg.norm(stack["w"], axis=(1, 2), keepdims=True)
  close(merge.karcher()({"w": x}), merge.slerp(0.5)({"w": x}))


def test_multislerp_is_the_mean_direction_at_the_mean_norm():
  stack, _ = make(3)
  x = np.asarray(stack["w"], np.float64)
  weights = np.array([1.0, 2.0, 1.0]) / 4
  norms = np.linalg.norm(x.reshape(3, -1), axis=1)
  mean = np.einsum("m,mij->ij", weights / norms, x)
  expected = mean / np.linalg.norm(mean) * (weights @ norms)
  close({"w": merge.multislerp([1.0, 2.0, 1.0])(stack)["w"]}, {"w": expected})
  doubled = merge.multislerp([2.0, 4.0, 2.0], normalize=False)(stack)["w"]
  close({"w": doubled}, {"w": 8 * expected})


def test_multislerp_by_logarithms_is_one_karcher_step():
  stack, _ = make(4)
  one = merge.karcher(iterations=1)(stack)
  many = merge.multislerp(tangent="log")(stack)
  close({k: many[k] for k in "wb"}, {k: one[k] for k in "wb"}, 1e-5)


def test_opposite_directions_have_an_answer():
  x = make(1)[0]["w"][0]
  opposite = {"w": jnp.stack([x, -x])}
  close(merge.multislerp()(opposite), {"w": 0 * x})
  close(merge.karcher()(opposite), {"w": x})


@pytest.mark.parametrize("average", ["cosine", "degrees"])
def test_model_stock_is_the_reference(average):
  stack, base = make(4)
  expected = {k: stock_reference(stack[k], base[k], average) for k in "wb"}
  merged = merge.model_stock(average=average)(stack, base=base)
  close({k: merged[k] for k in "wb"}, expected, 2e-5)


def test_model_stock_golden_and_orthogonal():
  # Two deltas at 60 degrees: t = 2 c / (1 + c) with c = 1/2, so 2/3.
  deltas = jnp.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
  start = jnp.array([1.0, -1.0])
  merged = merge.model_stock()({"w": start[None] + deltas}, base={"w": start})[
    "w"
  ]
  np.testing.assert_allclose(merged, start + 2 / 3 * deltas.mean(0), atol=1e-6)
  obtuse = jnp.array([[1.0, 0.0], [-0.5, np.sqrt(0.75)]])  # c = -1/2: t = -2
  merged = merge.model_stock()({"w": start[None] + obtuse}, base={"w": start})[
    "w"
  ]
  np.testing.assert_allclose(merged, start - 2 * obtuse.mean(0), atol=1e-5)
  right = {"w": start[None] + jnp.eye(2)}
  close(merge.model_stock()(right, base={"w": start}), {"w": start})


def test_model_stock_does_not_depend_on_scale():
  stack, base = make(3)
  at = merge.model_stock()(stack, base=jax.tree.map(jnp.zeros_like, base))
  tiny = jax.tree.map(lambda x: 1e-9 * x, stack)
  zero = jax.tree.map(jnp.zeros_like, base)
  small = merge.model_stock()(tiny, base=zero)
  close(jax.tree.map(lambda x: 1e9 * x, small), at, 1e-5)


def test_model_stock_by_rows():
  stack, base = make(3)
  rows = [stock_reference(stack["w"][:, i], base["w"][i]) for i in range(8)]
  merged = merge.model_stock("row")(stack, base=base)["w"]
  np.testing.assert_allclose(merged, np.stack(rows), rtol=2e-4, atol=2e-4)


def test_nearswap_is_the_clipped_weight():
  stack, base = make(1)
  a, b = np.asarray(base["w"]), np.asarray(stack["w"][0])
  weight = np.clip(0.3 / np.maximum(np.abs(a - b), 1e-30), 0, 1)
  merged = merge.nearswap(0.3)(stack, base=base)
  close({"w": merged["w"]}, {"w": (1 - weight) * a + weight * b})
  close(merge.nearswap(100.0)(stack, base=base), ws.unstack(stack)[0])


CASES = [
  ("slerp", lambda: merge.slerp(0.3), 2),
  ("nuslerp", lambda: merge.nuslerp([1.0, 2.0], "row"), 2),
  ("karcher", merge.karcher, 3),
  ("multislerp", merge.multislerp, 3),
  ("model_stock", merge.model_stock, 3),
  ("nearswap", lambda: merge.nearswap(0.2), 1),
]


COMPILED = {
  name: jax.jit(lambda s, b, factory=factory: factory()(s, base=b))
  for name, factory, _ in CASES
}


@pytest.mark.slow
@pytest.mark.parametrize("name,factory,count", CASES)
def test_four_ways_agree(name, factory, count):
  stack, base = make(count)
  recipe = factory()
  eager = recipe(stack, base=base)
  close(COMPILED[name](stack, base), eager, 1e-5)
  close(merge.run(recipe, ws.unstack(stack), base), eager, 1e-5)
  mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
  spec = jax.sharding.PartitionSpec(None, "d")
  sharding = jax.sharding.NamedSharding(mesh, spec)
  sharded = dict(stack, w=jax.device_put(stack["w"], sharding))
  close(COMPILED[name](sharded, base), eager, 1e-5)
  assert merge.RECIPES[name] is getattr(merge, name)


@pytest.mark.parametrize("name,factory,count", CASES)
def test_bfloat16_is_the_float32_answer_rounded_once(name, factory, count):
  stack, base = make(count, dtype=jnp.bfloat16)
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), (stack, base))
  merged, expected = COMPILED[name](stack, base), COMPILED[name](*wide)
  for path, x in merged.items():
    assert x.dtype == jnp.bfloat16
    np.testing.assert_array_equal(x, expected[path].astype(jnp.bfloat16))


@pytest.mark.parametrize("name,factory,count", CASES)
def test_zero_and_equal_models_give_numbers(name, factory, count):
  _, base = make(1)
  same = jax.tree.map(lambda x: jnp.stack([x] * count), base)
  close(COMPILED[name](same, base), base)
  zero = jax.tree.map(jnp.zeros_like, (same, base))
  close(COMPILED[name](*zero), zero[1])
  some = jax.tree.map(lambda x: x.at[0].set(0), same)
  for leaf in jax.tree.leaves(COMPILED[name](some, base)):
    assert np.isfinite(np.asarray(leaf)).all()


@pytest.mark.parametrize(
  "call,message",
  [
    (lambda s, b: merge.slerp(0.5)(s), "slerp: 3 models, expected 2"),
    (lambda s, b: merge.slerp(float("nan")), "t is nan"),
    (lambda s, b: merge.nuslerp([1.0, 2.0, 3.0]), r"shape \(3,\)"),
    (lambda s, b: merge.nuslerp(scope="layer"), "scope is 'layer'"),
    (lambda s, b: merge.karcher(0), "0 iterations"),
    (lambda s, b: merge.multislerp([1.0, 1.0])(s), r"expected \(3,\)"),
    (lambda s, b: merge.multislerp([1.0, -1.0]), "sum to zero"),
    (lambda s, b: merge.multislerp(tangent="exp"), "tangent is 'exp'"),
    (lambda s, b: merge.model_stock()(s), "needs base="),
    (
      lambda s, b: merge.model_stock()(ws.stack([b]), base=b),
      "1 models, expected at least 2",
    ),
    (lambda s, b: merge.model_stock("layer"), "scope is 'layer'"),
    (lambda s, b: merge.nearswap(-1.0), "t is -1.0"),
    (lambda s, b: merge.nearswap(0.1)(s, base=b), "3 models, expected 1"),
  ],
)
def test_bad_input_is_named(call, message):
  stack, base = make(3)
  with pytest.raises(ValueError, match=message):
    call(stack, base)
