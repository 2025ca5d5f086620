"""Stacks: round trips, checks that name the first bad path, fingerprints."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weightspace as ws
from tests import problems
from weightspace import trees

quick = functools.partial(settings, deadline=None, max_examples=15)
shapes = st.recursive(
  st.lists(st.integers(1, 3), max_size=2).map(tuple),
  lambda inner: st.dictionaries(
    st.sampled_from("abc"), inner, min_size=1, max_size=3
  ),
  max_leaves=4,
)


@quick()
@given(shapes, st.integers(1, 4))
def test_unstack_undoes_stack(shape, count):
  models = [problems.tree(seed, {"root": shape}) for seed in range(count)]
  stacked = ws.stack(models)
  assert trees.size(stacked) == count
  for model, again in zip(models, ws.unstack(stacked), strict=True):
    problems.close(model, again, 0, 0)


@pytest.mark.parametrize(
  "leaf",
  [
    1.5,
    3,
    True,
    2j,
    np.float16(1.0),
    np.ones(2, ml_dtypes.bfloat16),
    np.ones(2, ml_dtypes.float8_e4m3fn),
    np.zeros((0, 3), np.float32),
  ],
)
def test_stack_keeps_the_dtype_of_a_leaf(leaf):
  stacked = ws.stack([{"x": leaf, "none": None}] * 2)
  assert stacked["none"] is None
  assert stacked["x"].dtype == jnp.result_type(leaf)
  assert stacked["x"].shape == (2, *np.shape(leaf))


def test_stack_takes_random_keys():
  keys = [{"key": jax.random.key(seed)} for seed in (0, 1)]
  second = ws.unstack(ws.stack(keys))[1]["key"]
  assert jax.random.key_data(second).tolist() == [0, 1]


def test_stack_takes_a_generator_and_works_under_jit():
  stacked = ws.stack(m for m in problems.models(2))
  again = jax.jit(lambda a, b: ws.stack([a, b]))(*problems.models(2))
  problems.close(stacked, again, 0, 0)


def changed(path, value):
  model = problems.tree(1)
  *outer, last = path.split("/")
  place = functools.reduce(dict.__getitem__, outer, model)
  place.pop(last) if value is None else place.update({last: value})
  return model


@pytest.mark.parametrize(
  ("bad", "words"),
  [
    (changed("out", None), r"model 1: 'out' is missing"),
    (changed("dense/extra", 1.0), r"model 1: 'dense/extra' is unexpected"),
    (changed("out", np.ones((4, 3), np.float32)), r"'out'.*\(4, 3\).*\(4, 2\)"),
    (changed("gain", np.int32(1)), r"'gain' is \(\) int32.*float32"),
    (changed("out", [1.0, 2.0]), r"model 1: 'out' is missing"),
    (changed("dense/bias", np.full(4, np.nan, np.float32)), "'dense/bias'.* 1"),
    (tuple(problems.tree(1).values()), "model 1: 'dense/bias' is missing"),
  ],
)
def test_stack_names_the_first_path_that_differs(bad, words):
  with pytest.raises(ValueError, match=words):
    ws.stack([problems.tree(0), bad])


@pytest.mark.parametrize(
  "dtype", [jnp.bfloat16, jnp.float8_e5m2, jnp.complex64]
)
def test_nan_is_found_in_every_kind_of_number(dtype):
  bad = {"w": jnp.array([1.0, jnp.nan]).astype(dtype)}
  good = {"w": jnp.ones(2, dtype)}
  with pytest.raises(ValueError, match="NaN in 'w' of model 2, expected"):
    ws.stack([good, good, bad])


@pytest.mark.parametrize(
  ("bad", "words"),
  [
    ([], "no models"),
    ({"w": np.ones(2)}, "models are a dict, expected a list"),
    (7, "models are a int"),
  ],
)
def test_stack_wants_a_list_of_models(bad, words):
  with pytest.raises(ValueError, match=words):
    ws.stack(bad)


@pytest.mark.parametrize(
  ("bad", "words"),
  [
    ({}, "no leaves"),
    ({"a": np.ones(2), "b": np.ones(())}, "'b' is a scalar"),
    ({"a": np.ones(2), "b": np.ones(3)}, "'b' has 3 models, expected 2 as in"),
    (
      [{"a": np.ones(2), "b": np.ones(3)}] * 2,
      "'0/b' has 3 models, expected 2 as in '0/a'; ws.stack stacks a list",
    ),
    ({"a": np.ones((0, 2))}, "no models"),
  ],
)
def test_size_names_what_is_no_stack(bad, words):
  with pytest.raises(ValueError, match=words):
    trees.size(bad)


def test_paths_that_collide_are_refused():
  with pytest.raises(ValueError, match="two leaves at 'a/b'"):
    trees.named({"a/b": 1.0, "a": {"b": 2.0}})


def test_containers_must_agree():
  with pytest.raises(ValueError, match="containers differ"):
    trees.check_same([1.0, 2.0], (1.0, 2.0), "model")


def test_names_are_paths_in_leaf_order():
  assert trees.names(problems.SHAPES) == trees.names(problems.SHAPES)
  tree = {"b": [1.0, {"c": 2.0}], "a": 3.0}
  assert trees.named(tree) == {"a": 3.0, "b/0": 1.0, "b/1/c": 2.0}
  doubled = trees.map_named(lambda path, x, y: f"{path}{x + y}", tree, tree)
  assert doubled == {"b": ["b/02.0", {"c": "b/1/c4.0"}], "a": "a6.0"}


def test_a_prefix_is_spread_or_refused_by_path():
  tree = {"a": {"v": 0, "w": 0}, "b": 0}
  assert trees.spread({"a": 1, "b": 2}, tree, "rates") == {
    "a": {"v": 1, "w": 1},
    "b": 2,
  }
  with pytest.raises(ValueError, match="rates: nothing for 'b'"):
    trees.spread({"a": 1}, tree, "rates")
  with pytest.raises(ValueError, match="rates: 'c' is unexpected"):
    trees.spread({"a": 1, "b": 2, "c": 3}, tree, "rates")


def test_checks_pass_over_traced_values_and_look_at_constants():
  jax.jit(lambda x: trees.check_finite(x, "x"))(jnp.nan)

  @jax.jit
  def constant(x):
    trees.check_finite({"w": jnp.array([jnp.nan])[:1]}, "traced")
    trees.check_finite(bad, "closed over")
    return x

  bad = {"w": jnp.array([jnp.nan])}
  with pytest.raises(ValueError, match="closed over: NaN in 'w'"):
    constant(1.0)


def test_accumulator_is_float32_or_wider():
  narrow = [jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn]
  assert {trees.accumulator(d) for d in narrow} == {jnp.float32}
  assert trees.accumulator(jnp.complex64) == jnp.complex64
  assert trees.accumulator(np.float64) == np.float64


def test_fingerprint_changes_with_path_shape_dtype_and_bytes():
  trees_ = [
    {"w": np.float32(0.0)},
    {"v": np.float32(0.0)},
    {"w": np.zeros(1, np.float32)},
    {"w": np.int32(0)},
    {"w": np.float32(1e-38)},
    {"w": jax.random.key(0)},
  ]
  assert len({ws.fingerprint(tree) for tree in trees_}) == len(trees_)
  assert ws.fingerprint({"a": 1.0, "b": 2}) == ws.fingerprint(
    {"b": 2, "a": 1.0}
  )
  transposed = {"w": np.arange(6).reshape(2, 3).T}
  assert ws.fingerprint(transposed) == ws.fingerprint(
    {"w": np.array([[0, 3], [1, 4], [2, 5]])}
  )
