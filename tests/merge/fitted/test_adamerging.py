"""AdaMerging, aTLAS and adaptive model averaging."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import problems
from weightspace import losses, merge
from weightspace.merge.fitted import ama

BASE = problems.tree(9)
STACK = problems.stack(3)
SETS = [problems.data(24, seed) for seed in range(2)]


def mixed(weights, base=BASE, stack=STACK):
  """base + sum_m w_m (theta_m - base), in NumPy."""

  def leaf(x, b, w):
    w = np.asarray(w).reshape(
      -1, *[1] * (x.ndim - np.asarray(w).ndim), *np.asarray(w).shape[1:]
    )
    return np.asarray(b) + (w * (np.asarray(x) - np.asarray(b)[None])).sum(0)

  if not isinstance(weights, dict):
    weights = jax.tree.map(lambda _: weights, base)
  return jax.tree.map(leaf, stack, base, weights)


@pytest.mark.parametrize("by", ["leaf", "task"])
def test_adamerging_lowers_the_entropy_and_gives_its_coefficients(by):
  found = merge.adamerging(
    STACK, problems.apply, SETS, base=BASE, by=by, steps=60, learning_rate=0.05
  )
  problems.close(found.params, mixed(found.weights), 1e-4, 1e-5)
  weights = found.weights if by == "task" else found.weights["out"]
  assert weights.shape == (3,) and (weights >= 0).all() and (weights <= 1).all()

  def entropy(params):
    outs = [problems.apply(params, part["x"]) for part in SETS]
    return sum(float(losses.entropy(out).mean()) for out in outs)

  start = mixed(jnp.full(3, 0.3))
  assert entropy(found.params) < entropy(start) - 0.05
  assert found.history.shape == (60,)


def test_adamerging_takes_adam_steps_on_the_summed_entropy():
  """Two steps on whole tasks, against optax beside it."""
  found = merge.adamerging(
    STACK,
    problems.apply,
    SETS,
    base=BASE,
    by="task",
    steps=2,
    batch_size=24,
    batches=1,
    learning_rate=0.1,
  )
  c, adam = jnp.full(3, 0.3), optax.adam(0.1)
  state = adam.init(c)

  def loss(c):
    params = jax.tree.map(
      lambda x, b: b + jnp.tensordot(jnp.clip(c, 0, 1), x - b[None], 1),
      STACK,
      BASE,
    )
    return sum(
      losses.entropy(problems.apply(params, s["x"])).mean() for s in SETS
    )

  values = []
  for _ in range(2):
    value, slope = jax.value_and_grad(loss)(c)
    updates, state = adam.update(slope, state)
    c = optax.apply_updates(c, updates)
    values.append(value)
  np.testing.assert_allclose(found.weights, jnp.clip(c, 0, 1), 1e-4)
  np.testing.assert_allclose(found.history, values, 1e-5)


def test_adamerging_on_task_vectors_of_ones_own():
  zero = jax.tree.map(jnp.zeros_like, STACK)
  found = merge.adamerging(
    STACK, problems.apply, SETS, base=BASE, steps=2, deltas=zero
  )
  problems.close(found.params, BASE)


@pytest.mark.slow  # trains to convergence
def test_atlas_starts_at_the_base_and_a_leaf_each_fits_at_least_as_well():
  data = problems.data(48)
  loss = losses.of(problems.apply, losses.cross_entropy)
  rates = {
    "learning_rate": 0.1,
    "epochs": 150,
    "batch_size": 48,
    "weight_decay": 0.0,
    "clip": 0.0,
  }
  values = {}
  for by in ("task", "leaf"):
    found = merge.atlas(STACK, problems.apply, data, base=BASE, by=by, **rates)
    np.testing.assert_allclose(found.history[0], loss(BASE, data).mean(), 1e-4)
    problems.close(found.params, mixed(found.weights), 1e-4, 1e-5)
    values[by] = float(loss(found.params, data).mean())
  assert values["leaf"] <= values["task"] < found.history[0]


def test_atlas_parts_are_alike_for_one_shape_and_leave_vectors():
  base = {"a": jnp.zeros((3, 4)), "b": jnp.zeros((3, 4)), "c": jnp.zeros((4,))}
  stack = ws.stack(
    [problems.tree(i, {"a": (3, 4), "b": (3, 4), "c": (4,)}) for i in (0, 1)]
  )

  def apply(params, x):
    return jnp.tanh(x @ params["a"] + params["c"][None]) + x @ params["b"]

  data = {"x": problems.data(8)["x"], "y": jnp.arange(8) % 4}
  found = merge.atlas(
    stack, apply, data, base=base, parts=3, epochs=3, learning_rate=0.1
  )
  for name in "ab":
    for row in np.asarray(found.weights[name]):
      assert 1 < len(np.unique(row)) <= 3
  assert (np.asarray(found.weights["c"]) == 0).all()
  first, second = (np.asarray(found.weights[n])[0].ravel() for n in "ab")
  groups = {
    tuple(np.flatnonzero(x == v)) for x in (first, second) for v in set(x)
  }
  assert len(groups) <= 3
  problems.close(found.params, mixed(found.weights, base, stack), 1e-4, 1e-5)


def test_atlas_negates_and_adapts_at_test_time():
  target, control = problems.data(24, 1), problems.data(24, 2)
  loss = losses.of(problems.apply, losses.cross_entropy)
  found = merge.atlas(
    STACK,
    problems.apply,
    target,
    base=BASE,
    control=control,
    epochs=20,
    learning_rate=0.05,
    batch_size=24,
  )
  before, after = (
    loss(p, control).mean() - loss(p, target).mean()
    for p in (BASE, found.params)
  )
  assert after < before
  adapted = merge.atlas(
    STACK,
    problems.apply,
    {"x": target["x"]},
    base=BASE,
    objective="entropy",
    epochs=20,
    learning_rate=0.05,
  )
  assert adapted.history[-1] < adapted.history[0]


def test_heads_of_each_task_and_other_leaves():
  def head(which):
    return lambda p, x: problems.apply(p["model"], x) * (1.0 + which)

  stack = {"model": STACK, "steps": jnp.array([1, 2, 3])}
  base = {"model": BASE, "steps": jnp.array(7)}
  found = merge.adamerging(stack, [head(0), head(1)], SETS, base=base, steps=3)
  assert int(found.params["steps"]) == 7
  narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (STACK, BASE))
  found = merge.atlas(narrow[0], problems.apply, SETS, base=narrow[1], epochs=1)
  assert found.params["out"].dtype == jnp.bfloat16


def deep(params, data):
  x = data["x"]
  for name in ("one", "two", "three"):
    x = jnp.tanh(x @ params[name]["w"])
  return -((x - 0.5) ** 2).sum(1)


DEEP = [
  problems.tree(i, {n: {"w": (3, 3)} for n in ("one", "two", "three")})
  for i in (0, 1)
]


@pytest.mark.parametrize("mean", [0.0, 0.2, 0.6, 1.0])
def test_ratios_keep_their_mean_and_beat_the_uniform(mean):
  data = problems.data(16)
  found = merge.adaptive_average(*DEEP, deep, data, mean=mean, steps=30)
  assert found.ratios.shape == (3,)
  np.testing.assert_allclose(found.ratios.mean(), mean, atol=1e-5)
  assert (found.ratios >= 0).all() and (found.ratios <= 1).all()
  uniform = jax.tree.map(lambda b, m: (1 - mean) * b + mean * m, *DEEP)
  np.testing.assert_allclose(found.history[0], deep(uniform, data).mean(), 1e-4)
  score = deep(found.params, data).mean()
  np.testing.assert_allclose(found.score, score, 1e-4, 1e-6)
  if 0 < mean < 1:
    assert found.score > found.history[0] + 1e-3
  else:
    np.testing.assert_allclose(found.ratios, mean, atol=1e-5)


def test_one_part_is_plain_interpolation_and_parts_follow_the_depth():
  data = problems.data(16)
  found = merge.adaptive_average(*DEEP, deep, data, mean=0.3, parts=1, steps=5)
  problems.close(
    found.params, jax.tree.map(lambda b, m: 0.7 * b + 0.3 * m, *DEEP), 1e-4
  )
  order = ama.depth_order(deep, DEEP[0], data)
  assert order == ["one", "two", "three"]
  found = merge.adaptive_average(*DEEP, deep, data, mean=0.5, steps=30)
  for part, name in enumerate(order):
    a = found.ratios[part]
    wanted = (1 - a) * DEEP[0][name]["w"] + a * DEEP[1][name]["w"]
    np.testing.assert_allclose(found.params[name]["w"], wanted, 1e-4, 1e-5)


def test_the_projection_is_the_nearest_point():
  random = np.random.default_rng(0)
  for mean in (0.1, 0.5, 0.9):
    value = random.normal(size=4).astype(np.float32)
    near = np.asarray(ama.project(jnp.asarray(value), mean))
    np.testing.assert_allclose(near.mean(), mean, atol=1e-6)
    for _ in range(50):
      other = np.asarray(
        ama.project(jnp.asarray(random.random(4), jnp.float32), mean)
      )
      assert ((near - value) ** 2).sum() <= ((other - value) ** 2).sum() + 1e-5


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda: merge.adamerging(
        STACK, problems.apply, SETS, base=BASE, by="row"
      ),
      "adamerging: by is 'row'",
    ),
    (
      lambda: merge.adamerging(STACK, problems.apply, [], base=BASE),
      "adamerging: no data",
    ),
    (
      lambda: merge.adamerging(STACK, problems.apply, SETS, base=BASE, steps=0),
      "adamerging: steps is 0",
    ),
    (
      lambda: merge.adamerging(
        STACK, problems.apply, SETS, base=BASE, batch_size=0
      ),
      "adamerging: batch_size is 0",
    ),
    (
      lambda: merge.adamerging(
        STACK, problems.apply, [(jnp.ones((2, 3)), None)], base=BASE
      ),
      "adamerging: data 0 are a tuple, expected",
    ),
    (
      lambda: merge.adamerging(
        STACK, problems.apply, SETS, base=BASE, deltas=BASE
      ),
      "adamerging: deltas: 'dense/bias' is",
    ),
    (
      lambda: merge.atlas(
        STACK,
        problems.apply,
        {"x": jnp.ones((3, 3)), "y": jnp.array([0, 2, 1])},
        base=BASE,
      ),
      "atlas: label 2 in data 0, expected 0 to 1",
    ),
    (
      lambda: merge.atlas(
        STACK,
        problems.apply,
        SETS,
        base=BASE,
        control={"x": jnp.ones((1, 3)), "y": jnp.array([-1])},
      ),
      "atlas: control: label -1 in data 0",
    ),
    (
      lambda: merge.atlas(
        STACK, problems.apply, {"x": jnp.ones((3, 3)), "y": [0]}, base=BASE
      ),
      "atlas: data 0 have 3 inputs and 1 labels",
    ),
    (
      lambda: merge.adamerging(STACK, [problems.apply], SETS, base=BASE),
      "1 functions for 2 tasks",
    ),
    (
      lambda: merge.adamerging(STACK, problems.apply, SETS, base={"w": 1.0}),
      "adamerging: base: 'dense/bias' is missing",
    ),
    (
      lambda: merge.atlas(
        STACK, problems.apply, {"x": jnp.ones((2, 3))}, base=BASE
      ),
      "atlas: data 0 have no 'y'",
    ),
    (
      lambda: merge.atlas(STACK, problems.apply, SETS, base=BASE, parts=0),
      "atlas: parts is 0",
    ),
    (
      lambda: merge.atlas(
        STACK, problems.apply, SETS, base=BASE, objective="x"
      ),
      "atlas: objective is 'x'",
    ),
    (
      lambda: merge.adaptive_average(*DEEP, deep, problems.data(4), mean=1.5),
      "adaptive_average: mean is 1.5",
    ),
    (
      lambda: merge.adaptive_average(*DEEP, deep, problems.data(4), parts=4),
      "4 parts, expected 1 to 3",
    ),
    (
      lambda: merge.adaptive_average(
        *DEEP, deep, problems.data(4), parts=lambda path: 2 * (path > "t")
      ),
      r"parts are \[0, 2\]",
    ),
    (
      lambda: merge.adaptive_average(
        DEEP[0], {"one": 1.0}, deep, problems.data(4)
      ),
      "adaptive_average: model: 'one/w' is missing",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
