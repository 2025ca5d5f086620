"""Units taken by name: laws to the bit, a reference, and what is refused."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weightspace as ws
from tests import architectures, problems
from weightspace import grow
from weightspace.symmetry.axes import parse

# Functions of any width in which a unit of zeros is as good as none.
ANY_WIDTH = ["mlp", "conv_flatten", "depthwise", "residual", "scanned"]
ANY_WIDTH += ["heads_einsum", "gated", "dense_net", "low_rank", "rnn"]
ANY_WIDTH += ["tied", "batch_norm", "mixer"]
NAMES = [*ANY_WIDTH, "lstm", "grouped", "experts", "maxout", "group_norm"]
NAMES += ["rotated_pairs", "split_heads", "windows"]
NEVER_ALONE = ["grouped", "group_norm", "split_heads"]  # names without an axis


@functools.cache
def setting(name):
  apply, params, x, _ = architectures.build(name)
  return apply, params, x, ws.symmetry.trace_axes(apply, params, x)


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)
  kinds = [[(x.shape, x.dtype) for x in jax.tree.leaves(t)] for t in (a, b)]
  assert kinds[0] == kinds[1]


def draw(axes, seed, longest=2.0):
  """Return random indices of each outermost name, with repeats."""
  random = np.random.default_rng(seed)
  names = grow.sizes(axes, 1.0)
  return {
    name: random.integers(n, size=random.integers(1, int(longest * n) + 1))
    for name, n in names.items()
  }


def places(term, index, sizes):
  """Return the entries of a flattened axis that an index takes, in order."""
  if isinstance(term, int):
    return list(range(term)), term
  if isinstance(term, str):
    return list(index.get(term, range(sizes[term]))), sizes[term]
  if type(term).__name__ == "Sum":
    start, taken = 0, []
    for part in term.parts:
      inner, n = places(part, index, sizes)
      taken += [start + k for k in inner]
      start += n
    return taken, start
  parts = [places(factor, index, sizes) for factor in term.factors]
  lengths = [n for _, n in parts]
  taken = [
    int(np.ravel_multi_index(at, lengths))
    for at in itertools.product(*(inner for inner, _ in parts))
  ]
  return taken, int(np.prod(lengths, dtype=int))


def reference(axes, index, params):
  patterns = ws.trees.named(axes.tree)

  def leaf(path, x):
    words = parse(patterns[path])
    return x[np.ix_(*(places(t, index, axes.sizes)[0] for t in words))]

  return ws.trees.map_named(leaf, params)


@pytest.mark.parametrize("name", NAMES)
def test_units_are_those_of_a_reference(name):
  _, params, _, axes = setting(name)
  for seed in range(2):
    index = draw(axes, seed)
    same(grow.take(axes, index, params), reference(axes, index, params))


@pytest.mark.parametrize("name", NAMES)
def test_all_units_are_the_model_itself(name):
  _, params, _, axes = setting(name)
  full = {n: np.arange(size) for n, size in axes.sizes.items()}
  full = {n: i for n, i in full.items() if n not in axes.pins}
  same(grow.take(axes, full, params), params)
  same(grow.take(axes, grow.sizes(axes, 1.0), params), params)
  same(grow.take(axes, {}, params), params)


@pytest.mark.parametrize("name", NAMES)
def test_taking_twice_is_taking_the_composed_index(name):
  _, params, _, axes = setting(name)
  first = draw(axes, 0)
  middle = axes.sizes | {n: len(i) for n, i in first.items()}
  then = draw(axes._replace(sizes=middle), 1)
  once = grow.take(axes, grow.compose(axes, first, then), params)
  child = grow.take(axes, first, params)
  flat = {n: first[n][then[n]] for n in first}
  same(once, grow.take(axes, flat, params))
  if name not in NEVER_ALONE:
    same(once, grow.take(axes, then, child))
  same(once, grow.take(axes._replace(sizes=middle), then, child))


@pytest.mark.parametrize("name", NAMES)
def test_it_commutes_with_permutations(name):
  _, params, _, axes = setting(name)
  perm = ws.symmetry.random(axes, params, jax.random.key(3))
  same(grow.take(axes, perm, params), ws.symmetry.permute(axes, perm, params))
  index = draw(axes, 2)
  moved = ws.symmetry.permute(axes, perm, params)
  both = grow.compose(axes, perm, index)
  same(grow.take(axes, index, moved), grow.take(axes, both, params))


@pytest.mark.parametrize("name", ANY_WIDTH)
def test_a_slice_is_the_model_with_the_other_units_zero(name):
  apply, params, x, axes = setting(name)
  index = {
    n: np.sort(np.random.default_rng(0).permutation(size)[: -(-size // 2)])
    for n, size in grow.sizes(axes, 1.0).items()
  }
  child, transpose = jax.vjp(functools.partial(grow.take, axes, index), params)
  (padded,) = transpose(child)
  problems.close(apply(child, x), apply(padded, x), 1e-5, 1e-5)


def test_rows_of_blocks_follow_their_blocks():
  axes = ws.symmetry.Axes(
    {"w": "2 h h>d"}, {"h": 3, "h>d": 4}, {"w:0": "input"}
  )
  w = np.arange(24).reshape(2, 3, 4)
  index = {"h": [2, 0, 2, 1], "h>d": np.array([[0, 1], [3, 3], [1, 0], [2, 2]])}
  taken = grow.take(axes, index, {"w": w})["w"]
  expected = np.stack(
    [w[:, h][:, d] for h, d in zip(index["h"], index["h>d"])], 1
  )
  np.testing.assert_array_equal(taken, expected)
  flat = axes._replace(tree={"w": "2 (h h>d)"})
  taken = grow.take(flat, index, {"w": w.reshape(2, 12)})["w"]
  np.testing.assert_array_equal(taken, expected.reshape(2, 8))
  then = {"h": np.array([3, 0]), "h>d": np.array([[1], [0]])}
  child = grow.take(axes, index, {"w": w})
  both = grow.compose(axes, index, then)
  same(grow.take(axes, both, {"w": w}), grow.take(axes, then, child))
  assert both["h"].tolist() == [1, 2] and both["h>d"].tolist() == [[2], [0]]


def test_rows_of_scanned_layers():
  _, params, _, axes = setting("scanned")
  inner = max(axes.sizes, key=lambda n: n.count(">"))
  rows = np.array([[0, 1], [4, 2], [3, 3]])
  taken = grow.take(axes, {inner: rows}, params)["layers"]
  for k, row in enumerate(rows):
    np.testing.assert_array_equal(
      taken["w"][k], params["layers"]["w"][k][:, row]
    )
    np.testing.assert_array_equal(taken["v"][k], params["layers"]["v"][k][row])


@pytest.mark.parametrize("name", ["mlp", "grouped", "scanned", "dense_net"])
def test_under_jit_vmap_and_shards(name):
  _, params, _, axes = setting(name)
  params = jax.tree.map(jnp.asarray, params)
  index = draw(axes, 4)
  child = grow.take(axes, index, params)
  take = functools.partial(grow.take, axes)
  same(jax.jit(take)(index, params), child)  # indices that are traced
  same(jax.jit(functools.partial(take, index))(params), child)
  half = grow.sizes(axes, 0.5)
  same(
    jax.jit(functools.partial(take, half))(params),
    take({n: np.arange(k) for n, k in half.items()}, params),
  )
  stack = ws.stack([params, jax.tree.map(lambda x: x + 1, params)])
  many = jax.vmap(functools.partial(take, index))
  expected = ws.stack([take(index, one) for one in ws.unstack(stack)])
  same(many(stack), expected)
  same(jax.jit(many)(problems.sharded(stack)), expected)


def test_the_transpose_adds_what_is_taken_twice():
  axes = ws.symmetry.Axes({"w": "a 2"}, {"a": 3}, {})
  w = jnp.arange(6.0).reshape(3, 2)
  weights = jnp.array([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
  gradient = jax.grad(
    lambda w: (grow.take(axes, {"a": [1, 1, 0]}, {"w": w})["w"] * weights).sum()
  )(w)
  assert gradient.tolist() == [[100.0, 200.0], [11.0, 22.0], [0.0, 0.0]]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int8, jnp.float16])
def test_dtypes_are_kept_and_the_parent_stays(dtype):
  _, params, _, axes = setting("mlp")
  params = jax.tree.map(lambda x: np.asarray(jnp.asarray(x, dtype)), params)
  before = jax.tree.map(np.copy, params)
  child = grow.take(axes, grow.sizes(axes, 0.5), params)
  assert {x.dtype for x in jax.tree.leaves(child)} == {jnp.dtype(dtype)}
  for leaf in jax.tree.leaves(child):
    leaf[...] = 0
  same(params, before)


def test_optimiser_states_and_statistics_are_taken_too():
  _, params, _, axes = setting("mlp")
  params, half = jax.tree.map(jnp.asarray, params), grow.sizes(axes, 0.5)
  state = optax.adam(0.1).init(params)
  state = state[0]._replace(mu=params), *state[1:]
  taken = grow.take(axes, half, state)
  same(taken[0].mu, grow.take(axes, half, params))
  assert taken[0].count.shape == ()
  _, params, _, axes = setting("batch_norm")
  beside = {"params": {"w": {"mean": np.arange(5.0)}}}
  stats = grow.take(
    ws.symmetry.Axes({"params": {"w": {"s": "a"}}}, {"a": 5}, {}),
    {"a": [4, 0]},
    beside,
  )
  assert stats["params"]["w"]["mean"].tolist() == [4.0, 0.0]


def test_a_new_head_is_taken_where_the_caller_says_so():
  axes = ws.symmetry.Axes(
    {"b": "3", "w": "a 3"}, {"a": 2}, {"b:0": "output", "w:1": "output"}
  )
  params = {"b": np.arange(3), "w": np.arange(6).reshape(2, 3)}
  index = {"b:0": [2, 0], "w:1": [2, 0], "a": 1}
  with pytest.raises(ValueError, match="'b:0' is fixed by output"):
    grow.take(axes, index, params)
  head = grow.take(axes, index, params, pinned=True)
  assert head["b"].tolist() == [2, 0] and head["w"].tolist() == [[2, 0]]


def test_layers_of_a_scan_are_an_axis_too():
  _, params, _, axes = setting("scanned")
  layers = next(n for n in axes.sizes if n in axes.pins)
  with pytest.raises(ValueError, match="fixed by scan"):
    grow.take(axes, {layers: [0, 2]}, params)
  taken = grow.take(axes, {layers: [0, 0, 2]}, params, pinned=True)
  same(taken, grow.restack(params, "layers", [0, 0, 2]))
  with pytest.raises(ValueError, match="has a name, expected that name"):
    grow.take(axes, {"layers/w:0": [0]}, params, pinned=True)


@pytest.mark.parametrize(
  ("model", "hyper", "half"),
  [
    ("mlp", {"hidden": (8, 6)}, {"hidden": (4, 3)}),
    (
      "lm",
      {"vocab": 7, "width": 16, "hidden": 12, "layers": 1},
      {"width": 8, "heads": 2},
    ),
    (
      "lm",
      {"vocab": 7, "width": 16, "hidden": 12, "scan": True},
      {"width": 8, "heads": 2},
    ),
    (
      "vit",
      {"width": 16, "pool": "token", "layers": 1},
      {"width": 8, "heads": 2},
    ),
    (
      "moe",
      {"vocab": 7, "width": 16, "hidden": 12, "layers": 1},
      {"width": 8, "heads": 2},
    ),
    ("resnet", {"depth": 8, "width": 0.5, "norm": "batch"}, {"width": 0.25}),
  ],
)
def test_half_of_a_model_is_the_model_of_half_the_width(model, hyper, half):
  small = hyper | half
  small |= {"kv_heads": 1} if model in ("lm", "moe") else {}
  small |= {"hidden": 6} if model == "lm" else {}
  small |= {"experts": 2} if model == "moe" else {}
  x = jnp.zeros((2, 8, 8, 3))
  x = jnp.zeros((2, 5), jnp.int32) if model in ("lm", "moe") else x
  parent, child = (ws.models.build(model, **h) for h in (hyper, small))
  params = parent.init(jax.random.key(0), x)
  axes = ws.symmetry.trace_axes(parent.apply, params, x)
  taken = grow.take(axes, grow.sizes(axes, 0.5), params)
  wanted = jax.eval_shape(child.init, jax.random.key(0), x)
  assert jax.tree.map(jnp.shape, taken) == jax.tree.map(jnp.shape, wanted)
  assert np.isfinite(child.apply(taken, x)).all()


BAD = {
  "no such name": ({"x": [0]}, "'x' is unknown, expected one of 'a'"),
  "fixed": ({"w:1": [0]}, "'w:1' is fixed by output"),
  "too large": ({"a": [0, 3]}, "'a' holds 3, expected 0 to 2"),
  "negative": ({"a": [-1]}, "'a' holds -1, expected 0 to 2"),
  "too many": ({"a": 4}, "'a' has 3 units"),
  "none": ({"a": []}, r"shape \(0,\)"),
  "zero": ({"a": 0}, "'a' has 0 units"),
  "floats": ({"a": [0.0]}, "'a' is float64, expected integers"),
  "mask": ({"a": [True, False]}, "'a' is bool, expected integers"),
  "flag": ({"a": True}, "indices of shape"),
  "rows": ({"a": [[0]]}, r"'a' has shape \(1, 1\), expected \[n\]"),
}


@pytest.mark.parametrize("index, message", BAD.values(), ids=BAD)
def test_bad_indices_are_refused(index, message):
  axes = ws.symmetry.Axes({"b": "a", "w": "a 2"}, {"a": 3}, {"w:1": "output"})
  with pytest.raises(ValueError, match=message):
    grow.take(axes, index, {"b": np.ones(3), "w": np.ones((3, 2))})


def test_parameters_that_do_not_fit_are_refused():
  axes = ws.symmetry.Axes({"b": "a", "w": "a 2"}, {"a": 3}, {})
  with pytest.raises(ValueError, match="'w' has 4 of 'a', expected 3"):
    grow.take(axes, {"a": 1}, {"b": np.ones(3), "w": np.ones((4, 2))})
  with pytest.raises(ValueError, match="'w' has 3 at axis 1, expected 2"):
    grow.take(axes, {"a": 1}, {"b": np.ones(3), "w": np.ones((3, 3))})
  with pytest.raises(ValueError, match="'w' is missing"):
    grow.take(axes, {"a": 1}, {"b": np.ones(3)})
  with pytest.raises(ValueError, match="'b' is unexpected"):
    one = ws.symmetry.Axes({"w": "a 2"}, {"a": 3}, {})
    grow.take(one, {"a": 1}, {"b": np.ones(3), "w": np.ones((3, 2))})
  with pytest.raises(ValueError, match="holds 1 twice"):
    params = {"b": np.ones(3), "w": np.ones((3, 2))}
    grow.take(axes, {"a": [1, 0, 1]}, params, unique=True)
  blocks = ws.symmetry.Axes({"w": "h h>d"}, {"h": 2, "h>d": 3}, {})
  with pytest.raises(ValueError, match=r"expected \[n\] or \[1, 'n'\]"):
    grow.take(blocks, {"h": 1, "h>d": [[0], [1]]}, {"w": np.ones((2, 3))})


def test_shares_that_are_none_are_refused():
  axes = ws.symmetry.Axes("h h>d", {"h": 3, "h>d": 4}, {})
  for share in (0.0, 1.5, float("nan")):
    with pytest.raises(ValueError, match="share is"):
      grow.sizes(axes, share)
  with pytest.raises(ValueError, match=r"3 'h' is 1\.5, expected whole blocks"):
    grow.sizes(axes, 0.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_any_index_is_numpy_indexing(n, m, data):
  axes = ws.symmetry.Axes({"w": "a b"}, {"a": n, "b": m}, {})
  w = np.arange(n * m).reshape(n, m)
  rows = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=9))
  columns = data.draw(st.lists(st.integers(0, m - 1), min_size=1, max_size=9))
  taken = grow.take(axes, {"a": rows, "b": columns}, {"w": w})["w"]
  np.testing.assert_array_equal(taken, w[rows][:, columns])
