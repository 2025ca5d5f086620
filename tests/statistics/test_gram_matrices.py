"""Linear maps found in jaxprs, and the statistics of what goes into them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import checkpoints
from weightspace.jaxpr import leaf_labels, linear_maps, weight_products

KEY = jax.random.key(0)


def captured(apply, params, x):
  """The input rows of every linear map, by path."""
  rows = {}

  def visit(number, at, a, b):
    rows.setdefault(at.path, []).append(np.asarray(at.features(a)))
    return b

  maps = linear_maps.find(apply, params, x)
  linear_maps.run(apply, params, x, maps, visit)
  return rows


def build(name, x, **hyper):
  model = ws.models.build(name, **hyper)
  return model.apply, model.init(KEY, x), x


TOKENS = jax.random.randint(KEY, (2, 5), 0, 7)
IMAGES = jax.random.normal(KEY, (2, 8, 8, 2))
LM = {"vocab": 7, "layers": 2, "width": 8, "heads": 4, "kv_heads": 2}
MODELS = {
  "mlp": lambda: build("mlp", IMAGES, hidden=(5,)),
  "resnet": lambda: build("resnet", IMAGES, width=1, depth=8),
  "vit": lambda: build("vit", IMAGES, patch=4, width=8, layers=1, heads=2),
  "lm": lambda: build("lm", TOKENS, **LM),
  "remat": lambda: build("lm", TOKENS, remat=True, **LM),
  "scan": lambda: build("lm", TOKENS, scan=True, tied=False, **LM),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_is_found_and_embeddings_are_not(name):
  apply, params, x = MODELS[name]()
  found = {at.path for at in linear_maps.find(apply, params, x)}
  every = set(ws.trees.names(params))
  assert found == {path for path in every if path.endswith("kernel")}


@pytest.mark.parametrize("name", MODELS)
def test_the_product_of_rows_and_the_leaf_is_what_came_out(name):
  apply, params, x = MODELS[name]()
  leaves, checked = jax.tree.leaves(params), []

  def visit(number, at, a, b):
    leaf = leaves[at.leaf]
    for axis, place in at.taken:
      leaf = leaf[place]
      assert axis == 0
    axes = [n - len(at.taken) for n in (*at.inputs, *at.outputs)]
    rows = at.features(a)
    short = [n for n in range(leaf.ndim) if n not in axes]  # of length one
    kernel = leaf.transpose(short + axes).reshape(rows.shape[-1], -1)
    np.testing.assert_allclose(rows[0] @ kernel, at.results(b)[0], 1e-4, 1e-4)
    again = weight_products.as_leaf(at, kernel[None])
    np.testing.assert_array_equal(again, leaf)
    checked.append(at.path)
    return b

  maps = linear_maps.find(apply, params, x)
  got = linear_maps.run(apply, params, x, maps, visit)
  np.testing.assert_allclose(got, apply(params, x), 1e-4, 1e-5)
  assert len(checked) == len(maps)


@pytest.mark.parametrize(
  "strides, padding, lhs, rhs",
  [
    ((1, 1), "SAME", (1, 1), (1, 1)),
    ((2, 1), "VALID", (1, 1), (1, 2)),
    ((1, 2), [(2, 1), (0, 3)], (2, 1), (1, 1)),
  ],
)
def test_patches_times_the_kernel_are_the_convolution(
  strides, padding, lhs, rhs
):
  def apply(k, x):
    return jax.lax.conv_general_dilated(
      x, k, strides, padding, lhs, rhs, ("NCHW", "OIHW", "NHWC")
    )

  k, x = problems.tree(0, (4, 3, 2, 3)), problems.tree(1, (2, 3, 6, 7))

  def visit(number, at, a, b):
    assert (at.inputs, at.outputs) == ((1, 2, 3), (0,))
    kernel = k.transpose(1, 2, 3, 0).reshape(-1, 4)
    product = at.features(a)[0] @ kernel
    np.testing.assert_allclose(product, at.results(b)[0], 1e-4, 1e-5)
    return b

  k, x = k.astype(np.float32), jnp.asarray(x, jnp.float32)
  maps = linear_maps.find(apply, k, x)
  linear_maps.run(apply, k, x, maps, visit)
  assert len(maps) == 1


def turned(params, x):
  """Kernels as users write them: transposed, split, per expert, on the left."""
  y = x @ params["a"].T
  heads = params["b"].reshape(4, 2, 3).transpose(1, 0, 2)
  y = jnp.einsum("hie,ni->nhe", heads, y)
  y = jnp.einsum("nhe,hef->nhf", y, params["c"])
  return (params["d"] @ y.reshape(len(x), -1).T).T


TURNED = {"a": (4, 3), "b": (4, 6), "c": (2, 3, 5), "d": (2, 10)}


def test_turned_kernels_are_followed_back_to_their_axes():
  params, x = problems.tree(0, TURNED), problems.data(6)["x"]
  stats = ws.statistics.gram(turned, params, x)
  wanted = {"a": ([], [1], [0]), "b": ([], [0], [1]), "c": ([0], [1], [2])}
  wanted["d"] = ([], [1], [0])
  from weightspace.statistics import gram_matrices

  for path, roles in wanted.items():
    shape = params[path].shape
    assert gram_matrices.axes(stats[path].shape, shape) == roles, path
  rows = captured(turned, params, x)
  for path, (value,) in rows.items():
    got = ws.statistics.matrix(stats[path], params[path].shape)
    mean = np.einsum("bti,btj->bij", value, value) / value.shape[1]
    np.testing.assert_allclose(got, mean, 1e-4, 1e-6)


def test_gram_is_the_mean_of_the_inputs_products():
  params, data = problems.tree(0), problems.data(10)
  stats = ws.statistics.gram(problems.apply, params, data)
  x = np.asarray(data["x"])
  kernel, bias = params["dense"]["kernel"], params["dense"]["bias"]
  hidden = np.tanh(x @ kernel + bias[None])
  got = ws.statistics.matrix(stats["dense"]["kernel"], (3, 4))[0]
  np.testing.assert_allclose(got, x.T @ x / 10, 1e-5, 1e-6)
  got = ws.statistics.matrix(stats["out"], (4, 2))[0]
  np.testing.assert_allclose(got, hidden.T @ hidden / 10, 1e-5, 1e-6)
  assert stats["gain"].shape == stats["dense"]["bias"].shape == (0,)


def test_scanned_layers_have_a_gram_each():
  apply, params, x = MODELS["scan"]()
  stats = ws.statistics.gram(apply, params, x)
  rows = captured(apply, params, x)
  for path, leaf in ws.trees.named(params).items():
    found = ws.statistics.matrix(ws.trees.named(stats)[path], leaf.shape)
    if path not in rows:
      assert found is None
      continue
    wanted = [r[0].T @ r[0] / r.shape[1] for r in rows[path]]
    np.testing.assert_allclose(found, np.stack(wanted), 1e-4, 1e-5)


def test_a_shared_weight_sums_both_uses():
  def apply(w, x):
    return jnp.tanh(x @ w) @ w

  w, x = problems.tree(0, (3, 3)), np.asarray(problems.data(6)["x"])
  rows = np.concatenate([x, np.tanh(x @ w)])
  stats = ws.statistics.gram(apply, w, jnp.asarray(x))
  got = ws.statistics.matrix(stats, (3, 3))[0]
  np.testing.assert_allclose(got, rows.T @ rows / 12, 1e-5, 1e-6)


def test_streams_saves_and_joins(tmp_path):
  params, data = problems.tree(0), problems.data(9)
  whole = ws.statistics.gram(problems.apply, params, data)
  fold = ws.statistics.gram_fold(problems.apply, params)
  a, b = (
    jax.tree.map(lambda x, s=s: x[s], data) for s in (slice(4), slice(4, 9))
  )
  checkpoints.save(tmp_path / "a.safetensors", fold.update(fold.init(a), a))
  state = checkpoints.restore(tmp_path / "a.safetensors")
  joined = fold.merge(state, fold.update(fold.init(b), b))
  problems.close(fold.value(joined), whole)
  problems.close(ws.statistics.gram(problems.apply, params, [a, b]), whole)
  checkpoints.save(tmp_path / "gram.safetensors", whole)
  problems.close(checkpoints.restore(tmp_path / "gram.safetensors"), whole)


def test_moments_of_the_inputs():
  params, data = problems.tree(0), problems.data(10)
  parts = [
    jax.tree.map(lambda x, s=s: x[s], data) for s in (slice(3), slice(3, 10))
  ]
  found = ws.statistics.moments(problems.apply, params, parts)
  x = np.asarray(data["x"])
  np.testing.assert_allclose(
    found["dense/kernel"]["mean"][0], x.mean(0), 1e-4, 1e-6
  )
  np.testing.assert_allclose(found["dense/kernel"]["var"][0], x.var(0), 1e-4)
  assert set(found) == {"dense/kernel", "out"}
  fold = ws.statistics.moments_fold(problems.apply, params)
  states = [fold.update(fold.init(p), p) for p in parts]
  problems.close(fold.value(fold.merge(*states)), found)


def test_bad_input_is_named():
  params, x = problems.tree(0), jnp.ones((2, 3))
  with pytest.raises(ValueError, match="gram: no linear map found in apply"):
    ws.statistics.gram(lambda w, x: x * w, jnp.ones((1, 1)), x[:, :1])
  with pytest.raises(ValueError, match="gram: data have no examples"):
    ws.statistics.gram(problems.apply, params, x[:0])
  with pytest.raises(ValueError, match="gram: params: NaN in 'gain'"):
    ws.statistics.gram(problems.apply, params | {"gain": jnp.nan}, x)
  with pytest.raises(ValueError, match=r"\(2, 1, 2, 1\), expected that of a"):
    ws.statistics.matrix(jnp.ones((2, 1, 2, 1)), (3, 3))


def test_labels_that_do_not_fit_are_dropped():
  label = leaf_labels.of_leaf(0, (6, 4))
  assert leaf_labels.reshaped(label, (4, 6)) is None
  assert leaf_labels.indexed(leaf_labels.reshaped(label, (24,)), 0) is None


@pytest.mark.parametrize("make", ["gram_fold", "moments_fold", "fisher_fold"])
def test_folds_run_under_scan_and_on_shards(make):
  params, data = problems.tree(0), problems.data(16)
  params = jax.tree.map(jnp.asarray, params)
  fold = getattr(ws.statistics, make)(problems.apply, params)
  batches = jax.tree.map(lambda x: x.reshape(2, 8, *x.shape[1:]), data)
  first = jax.tree.map(lambda x: x[0], batches)
  state, _ = jax.lax.scan(
    lambda s, b: (fold.update(s, b), None), fold.init(first), batches
  )
  whole = fold.value(fold.update(fold.init(data), data))
  problems.close(fold.value(state), whole, 1e-4, 1e-6)
  mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  spread = jax.device_put(data, rows)
  problems.close(
    fold.value(fold.update(fold.init(spread), spread)), whole, 1e-4, 1e-6
  )
