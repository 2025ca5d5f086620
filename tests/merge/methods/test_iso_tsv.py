"""TSV-M, Iso-C, Iso-CTS, WUDI, OptMerge, and the view of leaves as matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import matrix_views, merge
from weightspace.cli.recipes import methods
from weightspace.merge.core import matrix_view

SHAPES = {
  "dense": {"kernel": (8, 6), "bias": (6,)},
  "conv": {"kernel": (3, 2, 2, 4)},
  "query": {"kernel": (6, 2, 3), "bias": (2, 3)},
  "column": {"kernel": (5, 1)},
  "temperature": (),
}
AS_MATRIX = {  # [in, out] of each leaf that is one
  "dense/kernel": (8, 6),
  "conv/kernel": (12, 4),
  "query/kernel": (6, 6),
  "column/kernel": (5, 1),
}


def make(count=3, seed=0, dtype=jnp.float32):
  rng = np.random.default_rng(seed)

  def draw(scale, *lead):
    return jax.tree.map(
      lambda shape: jnp.asarray(scale * rng.normal(size=lead + shape), dtype),
      SHAPES,
      is_leaf=lambda x: isinstance(x, tuple),
    )

  base, delta = draw(1.0), draw(0.5, count)
  return jax.tree.map(lambda d, b: d + b[None], delta, base), base


def close(a, b, tolerance=1e-5):
  for path, x in ws.trees.named(a).items():
    y = np.asarray(ws.trees.named(b)[path], np.float64)
    scale = max(1.0, float(np.abs(y).max()))
    np.testing.assert_allclose(
      np.asarray(x, np.float64), y, atol=tolerance * scale, err_msg=path
    )


def svd(x):
  return np.linalg.svd(x, full_matrices=False)


def polar(x):
  u, _, vt = svd(x)
  return u @ vt


def tsv_reference(deltas):
  count, k = len(deltas), min(deltas.shape[1:]) // len(deltas)
  us, ss, vts = zip(*(svd(d) for d in deltas))
  u = np.concatenate([x[:, : max(k, 1)] for x in us], 1)
  s = np.concatenate([x[: max(k, 1)] for x in ss])
  vt = np.concatenate([x[: max(k, 1)] for x in vts])
  assert len(s) == count * max(k, 1)
  return polar(u) @ np.diag(s) @ polar(vt)


def iso_c_reference(deltas):
  u, s, vt = svd(deltas.sum(0))
  return s.mean() * u @ vt


def iso_cts_reference(deltas, common=0.8):
  deltas = deltas.swapaxes(1, 2)  # the paper's [out, in]
  count, r = len(deltas), min(deltas.shape[1:])
  own = round((r - int(common * r)) / count)
  u, s, vt = (x.copy() for x in svd(deltas.sum(0)))
  keep = r - count * own
  us, ss, vts = [u[:, :keep]], [s[:keep]], [vt[:keep]]
  for d in deltas:
    v, t, wt = svd(d - u[:, :keep] @ u[:, :keep].T @ d)
    us, ss, vts = [*us, v[:, :own]], [*ss, t[:own]], [*vts, wt[:own]]
  u, vt = polar(np.concatenate(us, 1)), polar(np.concatenate(vts))
  return (np.concatenate(ss).mean() * u @ vt).T


def wudi_reference(deltas):
  grams = [d @ d.T / (d**2).sum() for d in deltas]
  start = deltas.sum(0)
  pull = sum(g @ (d - start) for g, d in zip(grams, deltas))
  return start + np.linalg.pinv(sum(grams), rcond=1e-9) @ pull


def optmerge_reference(deltas, right="centred"):
  k, mean = max(1, min(deltas.shape[1:]) // len(deltas)), deltas.mean(0)
  total, pull, start = 0.0, 0.0, deltas.sum(0)
  for d in deltas:
    u, s, vt = svd(d - mean)
    target = u[:, :k] * s[:k] @ vt[:k] + mean
    if right == "raw":
      u, s, vt = svd(d)
    gram = u[:, :k] * s[:k] ** 2 @ u[:, :k].T / (d**2).sum()
    total, pull = total + gram, pull + gram @ (target - start)
  return start + np.linalg.pinv(total, rcond=1e-9) @ pull


def by_reference(reference, stack, base, scale):
  def leaf(path, x, b):
    x, b = np.asarray(x, np.float64), np.asarray(b, np.float64)
    if path not in AS_MATRIX:
      return b + scale * (x - b).mean(0)
    deltas = (x - b).reshape(len(x), *AS_MATRIX[path])
    return b + scale * reference(deltas).reshape(b.shape)

  return ws.trees.map_named(leaf, stack, base)


METHODS = {
  "tsv": (merge.tsv, tsv_reference),
  "iso_c": (merge.iso_c, iso_c_reference),
  "iso_cts": (merge.iso_cts, iso_cts_reference),
  "wudi": (lambda scale: merge.wudi(scale=scale), wudi_reference),
  "optmerge": (
    lambda scale: merge.optmerge(scale, solver="closed"),
    optmerge_reference,
  ),
}
COMPILED = {
  name: jax.jit(lambda s, b, factory=factory: factory(1.0)(s, base=b))
  for name, (factory, _) in METHODS.items()
}
each = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(scope="module")
def models():
  return make(3)


@pytest.fixture(scope="module")
def merged(models):
  """Each method on the same models, by one compiled program a leaf."""
  stack, base = models
  return {
    name: merge.run(factory(1.0), ws.unstack(stack), base)
    for name, (factory, _) in METHODS.items()
  }


@each
def test_it_is_the_reference(name, models, merged):
  close(merged[name], by_reference(METHODS[name][1], *models, 1.0), 2e-4)


@each
def test_a_sweep_over_scale_is_one_vmap_under_jit(name, models, merged):
  stack, base = models
  factory = METHODS[name][0]
  sweep = jax.jit(jax.vmap(lambda s: factory(s)(stack, base=base)))
  swept = ws.unstack(sweep(jnp.array([0.0, 1.0, 0.5])))
  close(swept[0], base)
  close(swept[1], merged[name])
  half = jax.tree.map(lambda b, m: (b + m) / 2, base, merged[name])
  close(swept[2], half)


@pytest.mark.slow
@each
def test_eager_and_sharded_agree(name, models, merged):
  stack, base = models
  recipe = METHODS[name][0](1.0)
  small = {"dense": stack["dense"]}, {"dense": base["dense"]}
  close(recipe(small[0], base=small[1]), merged[name])
  mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
  rows = jax.sharding.PartitionSpec(None, "d")
  kernel = jax.device_put(
    stack["dense"]["kernel"], jax.sharding.NamedSharding(mesh, rows)
  )
  sharded = {"dense": dict(stack["dense"], kernel=kernel)}
  close(
    jax.jit(lambda s, b: recipe(s, base=b))(sharded, small[1]), merged[name]
  )
  assert merge.RECIPES[name] is getattr(merge, name)


@each
def test_bfloat16_is_the_float32_answer_rounded_once(name):
  stack, base = make(2, dtype=jnp.bfloat16)
  stack, base = {"dense": stack["dense"]}, {"dense": base["dense"]}
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), (stack, base))
  expected = COMPILED[name](*wide)
  for path, x in ws.trees.named(COMPILED[name](stack, base)).items():
    assert x.dtype == jnp.bfloat16
    y = ws.trees.named(expected)[path].astype(jnp.bfloat16)
    np.testing.assert_array_equal(x, y)


@each
@pytest.mark.parametrize("kind", ["equal", "zero", "one zero", "rank one"])
def test_matrices_that_lack_rank_give_numbers(name, kind):
  stack, base = make(3)
  stack, base = stack["dense"]["kernel"], base["dense"]["kernel"]
  delta = stack - base[None]
  if kind == "equal":
    delta = jnp.stack([delta[0]] * 3)
  if kind == "zero":
    delta = 0 * delta
  if kind == "one zero":
    delta = delta.at[1].set(0.0)
  if kind == "rank one":
    delta = delta[:, :, :1] * delta[:, :1, :]
  zero = {"w": jnp.zeros((8, 6))}
  found = COMPILED[name]({"w": delta}, zero)["w"]
  assert np.isfinite(np.asarray(found)).all()
  # What no task vector touches stays: the rows and columns outside their span.
  outside = delta.at[:, 6:].set(0.0)
  found = COMPILED[name]({"w": outside}, zero)["w"]
  np.testing.assert_allclose(found[6:], 0.0, atol=1e-5)


def test_tsv_of_one_model_is_the_model():
  stack, base = make(1)
  close(COMPILED["tsv"](stack, base), ws.unstack(stack)[0])


def test_tsv_lossless_keeps_every_triplet():
  # Tasks on orthogonal rows and columns do not disturb each other at all.
  a, b = np.zeros((2, 4, 4), np.float32)
  a[:2, :2], b[2:, 2:] = [[3, 1], [0, 2]], [[1, 0], [2, 4]]
  zero = {"w": jnp.zeros((4, 4))}
  models = {"w": jnp.stack([a, b])}
  for lossless in (False, True):
    found = merge.run(merge.tsv(lossless=lossless), ws.unstack(models), zero)[
      "w"
    ]
    np.testing.assert_allclose(found, a + b, atol=1e-5)


def test_iso_c_has_equal_singular_values(models, merged):
  stack, base = models
  delta = merged["iso_c"]["dense"]["kernel"] - base["dense"]["kernel"]
  values = np.linalg.svd(delta, compute_uv=False)
  total = (stack["dense"]["kernel"] - base["dense"]["kernel"][None]).sum(0)
  expected = np.linalg.svd(total, compute_uv=False).mean()
  np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_iso_cts_with_everything_common_is_iso_c(models, merged):
  stack, base = models
  found = merge.iso_cts(common=1.0)(
    {"w": stack["dense"]}, base={"w": base["dense"]}
  )
  close(found["w"], merged["iso_c"]["dense"], 1e-5)


def deltas_of(models):
  stack, base = models
  return stack["dense"]["kernel"] - base["dense"]["kernel"][None]


def test_wudi_closed_form_is_the_minimum(models, merged):
  deltas, base = deltas_of(models), models[1]["dense"]["kernel"]
  best = merged["wudi"]["dense"]["kernel"] - base
  gradient = jax.jit(jax.grad(merge.interference))
  start = gradient(deltas.sum(0), deltas)
  assert jnp.abs(gradient(best, deltas)).max() < 1e-4 * jnp.abs(start).max()


def test_wudi_closed_form_is_below_adam(models, merged):
  stack, base = models
  losses = [merge.interference(deltas_of(models).sum(0), deltas_of(models))]
  start = {"w": base["dense"]["kernel"]}
  for steps in (30, 300):
    recipe = merge.wudi("adam", steps=steps, learning_rate=1e-3)
    found = recipe({"w": stack["dense"]["kernel"]}, base=start)["w"]
    losses.append(merge.interference(found - start["w"], deltas_of(models)))
  best = merged["wudi"]["dense"]["kernel"] - start["w"]
  losses.append(merge.interference(best, deltas_of(models)))
  assert losses == sorted(losses, reverse=True)


def test_wudi_by_adam_is_adam():
  deltas = np.random.default_rng(0).normal(size=(2, 4, 3))
  weights = 1 / (deltas**2).sum((1, 2))
  found, first, second = deltas.sum(0), 0.0, 0.0
  for t in range(1, 4):
    pulls = (w * d @ (d.T @ (found - d)) for w, d in zip(weights, deltas))
    gradient = 2 * sum(pulls)
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient**2
    step = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    found = found - 0.01 * step
  recipe = merge.wudi("adam", steps=3, learning_rate=0.01)
  models = {"w": jnp.asarray(deltas, jnp.float32)}
  merged = recipe(models, base={"w": jnp.zeros((4, 3))})["w"]
  np.testing.assert_allclose(merged, found, atol=1e-5)


def test_optmerge_right_factor_raw_and_adam(models):
  stack, base = ({"w": tree["dense"]["kernel"]} for tree in models)
  deltas = np.asarray(deltas_of(models), np.float64)
  found = (
    merge.optmerge(right="raw", solver="closed")(stack, base=base)["w"]
    - base["w"]
  )
  expected = optmerge_reference(deltas, "raw")
  np.testing.assert_allclose(found, expected, atol=2e-4)
  early = merge.optmerge(steps=2)(stack, base=base)["w"]
  np.testing.assert_allclose(early - base["w"], deltas.sum(0), atol=1e-4)


def test_views():
  rng = np.random.default_rng(0)
  models = {"out": {"kernel": jnp.asarray(rng.normal(size=(2, 2, 3, 6)), "f4")}}
  base = {"out": {"kernel": jnp.zeros((2, 3, 6))}}
  merged = merge.iso_c()(models, base=base)["out"]["kernel"].reshape(6, 6)
  total = np.asarray(models["out"]["kernel"]).sum(0).reshape(6, 6)
  np.testing.assert_allclose(merged, iso_c_reference(total[None]), atol=1e-5)
  assert matrix_view.matrix(jnp.zeros((2, 4, 3, 3)), "norm/scale") is None
  assert matrix_view.matrix(jnp.zeros((2, 3), complex), "kernel") is None
  scanned = matrix_views.scanned("blocks")
  y = matrix_view.matrix(jnp.zeros((2, 5, 4, 3)), "blocks/mlp/kernel", scanned)
  assert y.shape == (2, 5, 4, 3)


def test_scanned_layers_merge_one_by_one(models):
  stack, base = ({"w": tree["dense"]["kernel"]} for tree in models)
  view = matrix_views.scanned("blocks")
  twice = {"blocks": {"w": jnp.stack([stack["w"], 2 * stack["w"]], 1)}}
  bases = {"blocks": {"w": jnp.stack([base["w"], 2 * base["w"]])}}
  found = merge.run(merge.tsv(view=view), ws.unstack(twice), bases)
  found, one = found["blocks"]["w"], COMPILED["tsv"](stack, base)["w"]
  np.testing.assert_allclose(found, jnp.stack([one, 2 * one]), atol=1e-4)


TURNED = {
  "iso_cts": lambda **way: merge.iso_cts(common=0.5, **way),
  "wudi": lambda **way: merge.wudi(**way),
  "optmerge": lambda **way: merge.optmerge(solver="closed", **way),
}


@pytest.mark.parametrize("name", TURNED)
def test_files_of_outputs_by_inputs_merge_as_flax_kernels_do(name):
  """[out, in] and [out, in, h, w] are [in, out] and [h, w, in, out] turned."""
  ours, theirs = make()
  ours, theirs = ({n: t[n] for n in ("dense", "conv")} for t in (ours, theirs))

  def turned(tree, lead):
    order = {2: (1, 0), 4: (3, 2, 0, 1), 1: (0,)}

    def leaf(x):
      axes = order[x.ndim - lead]
      return x.transpose(*range(lead), *(lead + a for a in axes))

    return jax.tree.map(leaf, tree)

  def merged(stack, base, **way):
    return jax.jit(lambda s, b: TURNED[name](**way)(s, base=b))(stack, base)

  wanted = merged(ours, theirs)
  files = turned(ours, 1), turned(theirs, 0)
  close(merged(*files, inputs="last"), turned(wanted, 0), 2e-4)
  wrong = merged(*files)["dense"]["kernel"]
  assert np.abs(wrong - wanted["dense"]["kernel"].T).max() > 0.01


def test_recipes_for_files_take_outputs_first():
  stack, base = make()
  x, start = stack["dense"]["kernel"].mT, base["dense"]["kernel"].T
  got = methods.own("wudi", {})({"w": x}, base={"w": start})["w"]
  wanted = COMPILED["wudi"](stack, base)["dense"]["kernel"].T
  np.testing.assert_allclose(got, wanted, atol=2e-4)


def test_interference_counts_what_is_lost():
  deltas = jnp.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
  # The zero task counts for nothing; the first loses 1 along its one input.
  assert merge.interference(jnp.zeros((2, 2)), deltas).item() == 1.0


@pytest.mark.parametrize(
  "call,message",
  [
    (lambda s, b: merge.tsv()(s), "needs base="),
    (lambda s, b: merge.tsv(float("inf")), "scale is inf"),
    (
      lambda s, b: merge.iso_cts(common=1.5),
      r"common is 1.5, expected a .*1.0",
    ),
    (lambda s, b: merge.wudi("sgd"), "solver is 'sgd'"),
    (lambda s, b: merge.wudi(inputs="in"), "wudi: inputs is 'in'"),
    (lambda s, b: merge.wudi("adam", steps=0), "steps is 0"),
    (lambda s, b: merge.optmerge(right="both"), "right is 'both'"),
    (lambda s, b: merge.iso_c()(s, base={"w": 1.0}), "is missing"),
  ],
)
def test_bad_input_is_named(call, message):
  stack, base = make(2)
  with pytest.raises(ValueError, match=message):
    call(stack, base)
