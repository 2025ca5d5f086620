"""States of folds and optimisers, and trees of other libraries, saved."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from weightspace import average, checkpoints

PARAMS = {
  "mlp/~/linear_0": {"w": jnp.arange(6.0).reshape(2, 3)},
  "steps": jnp.array(3),
  "key": jax.random.key(1),
  "half": jnp.ones(2, jnp.bfloat16),
}
FOLDS = {
  "ema": lambda: average.ema(0.9),
  "debiased": lambda: average.ema(average.warmup(0.9), debias=True),
  "mean": lambda: average.running_mean(),
  "window": lambda: average.window(3),
  "late": lambda: average.every(2, average.ema(0.5), start=1),
  "both": lambda: average.together(a=average.ema(0.9), b=average.window(2)),
}
ENDS = ["state.safetensors", "folder"]


def models(count):
  def leaf(n, x):
    return x + n if ws.trees.inexact(x) else x

  return [jax.tree.map(lambda x, n=n: leaf(n, x), PARAMS) for n in range(count)]


def same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    assert x.dtype == y.dtype
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", FOLDS)
def test_a_fold_is_gone_on_with(name, end, tmp_path):
  fold, stream = FOLDS[name](), models(5)
  state = fold.init(stream[0])
  for model in stream[:3]:
    state = fold.update(state, model)
  checkpoints.save(tmp_path / end, state)
  shapes = jax.eval_shape(fold.init, stream[0])
  back = checkpoints.restore(tmp_path / end, like=fold.init(stream[0]))
  same(back, state)
  checkpoints.restore(tmp_path / end, like=shapes)
  for model in stream[3:]:
    state, back = fold.update(state, model), fold.update(back, model)
  same(fold.value(back), fold.value(state))


OPTIMISERS = {
  "adam": optax.adam(1e-3),
  "momentum": optax.sgd(optax.linear_schedule(1.0, 0.0, 3), momentum=0.9),
  "chain": optax.chain(optax.clip(1.0), optax.adamw(1e-3)),
  "injected": optax.inject_hyperparams(optax.adam)(1e-3),
  "several": optax.MultiSteps(optax.adam(1e-3), 2).gradient_transformation(),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_is_gone_on_with(name, tmp_path):
  tx, p = OPTIMISERS[name], {"w": jnp.ones(3), "b": jnp.zeros(())}
  state = tx.update(p, tx.init(p), p)[1]
  checkpoints.save(tmp_path / "s.safetensors", state)
  back = checkpoints.restore(tmp_path / "s.safetensors", like=tx.init(p))
  same(back, state)
  same(tx.update(p, back, p), tx.update(p, state, p))


@flax.struct.dataclass
class Own:
  w: jax.Array
  name: str = flax.struct.field(pytree_node=False, default="own")


def test_registered_structs_come_back_by_name_or_as_they_were(tmp_path):
  path = tmp_path / "own.safetensors"
  checkpoints.save(path, {"a": Own(jnp.ones(2))})
  assert checkpoints.restore(path)["a"]["w"].tolist() == [1.0, 1.0]
  like = {"a": Own(jnp.zeros(2), "mine")}
  assert checkpoints.restore(path, like=like)["a"].name == "mine"


@pytest.mark.parametrize(
  ("like", "words"),
  [
    ({"w": jnp.zeros(3)}, r"'w' is \(2,\) float32, expected \(3,\) float32"),
    ({"w": jnp.zeros(2, int)}, r"expected \(2,\) int32"),
    ({"w": jnp.zeros(2), "v": jnp.zeros(1)}, "'v' is missing"),
    ({}, "'w' is unexpected"),
  ],
)
def test_what_is_not_as_wanted_is_named(like, words, tmp_path):
  path = tmp_path / "m.safetensors"
  checkpoints.save(path, {"w": jnp.ones(2)})
  with pytest.raises(ValueError, match=words):
    checkpoints.restore(path, like=like)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("key", ["mlp/~/linear_0", "a/b/c", "/"])
def test_names_that_hold_slashes(key, end, tmp_path):
  tree = {key: {"w": np.ones((2, 3)), "rest": [np.zeros(1), None]}, "z": {}}
  if key == "/" and end == "folder":
    with pytest.raises(ValueError, match="empty part"):
      checkpoints.save(tmp_path / end, tree)
    return
  checkpoints.save(tmp_path / end, tree)
  back = checkpoints.restore(tmp_path / end)
  assert jax.tree.structure(back) == jax.tree.structure(tree)
  assert list(back) == list(tree)


def test_two_leaves_of_one_name_are_refused(tmp_path):
  tree = {"a/b": np.ones(1), "a": {"b": np.ones(1)}}
  with pytest.raises(ValueError, match="two leaves at 'a/b'"):
    checkpoints.save(tmp_path / "m.safetensors", tree)
