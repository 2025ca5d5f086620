"""Folds over models: closed forms, NumPy, every way to run them, bad input."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import problems
from weightspace import average, train

COUNT = 7
ALL = {
  "mean": average.running_mean,
  "ema": lambda: average.ema(0.8),
  "debiased": lambda: average.ema(0.8, debias=True),
  "warm": lambda: average.ema(average.warmup(0.9)),
  "power": lambda: average.ema(average.power(0.2), debias=True),
  "window": lambda: average.window(3),
  "thinned": lambda: average.every(2, average.running_mean(), start=1),
  "zscl": lambda: average.weight_ensemble(2),
  "both": lambda: average.together(
    a=average.window(2), b=average.ema(0.5, debias=True)
  ),
}


def scalars(fold, numbers):
  """Return a fold's value over numbers, each a tree of one array."""
  return average.run(fold, [{"w": jnp.full(2, x)} for x in numbers])["w"][0]


def reference(name, x):
  """Return the same averages of x [T] as sums in float64."""
  if name == "mean":
    return np.mean(x)
  if name in ("ema", "debiased", "warm"):
    e, mass = (0.0, 0.0) if name == "debiased" else (x[0], 1.0)
    for t, value in enumerate(x):
      d = min(0.9, (1 + t) / (10 + t)) if name == "warm" else 0.8
      e, mass = d * e + (1 - d) * value, d * mass + (1 - d)
    return e / mass
  return {
    "window": np.mean(x[-3:]),
    "thinned": np.mean(x[1::2]),
    "zscl": np.mean([x[0], *x[1::2]]),
  }[name]


@pytest.mark.parametrize("name", sorted(set(ALL) - {"both", "power"}))
def test_folds_are_numpys(name):
  x = np.random.default_rng(0).normal(size=COUNT)
  found = scalars(ALL[name](), x.astype(np.float32))
  np.testing.assert_allclose(found, reference(name, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(ALL))
def test_scan_loop_jit_and_vmap_agree(name):
  fold, stack = ALL[name](), problems.stack(COUNT)
  models = ws.unstack(stack)
  wanted = average.run(fold, models)

  def scanned(stack):
    start = fold.init(jax.tree.map(lambda x: x[0], stack))

    def body(state, params):
      return (fold.update(state, params), None)

    return fold.value(jax.lax.scan(body, start, stack)[0])

  problems.close(jax.jit(scanned)(stack), wanted)
  twice = jax.tree.map(lambda x: jnp.stack([x, -x]), stack)
  pair = jax.jit(jax.vmap(scanned))(twice)
  problems.close(jax.tree.map(lambda x: x[0], pair), wanted)
  problems.close(jax.tree.map(lambda x: -x[1], pair), wanted)
  state = fold.init(models[0])
  for model in models:
    state = fold.update(state, model)
  problems.close(fold.value(state), wanted)


def test_the_laws_that_join_the_averages():
  models = problems.models(COUNT)
  mean = average.run(average.running_mean(), models)
  polyak = average.ema(lambda t: t / (t + 1.0))
  problems.close(average.run(average.window(COUNT), models), mean)
  problems.close(average.run(polyak, models), mean)
  problems.close(average.run(average.every(1, polyak), models), mean)
  problems.close(average.run(average.window(1), models), models[-1], 0, 0)
  problems.close(average.run(average.ema(0.0), models), models[-1], 0, 0)
  stack = ws.stack(models)
  problems.close(ws.weighted_mean(stack), mean)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.9999])
def test_ema_in_closed_form(decay):
  """A constant stays (a ratio: to an ulp); a step gives 1 - d^t."""
  for debias in (False, True):
    fold = average.ema(decay, debias)
    kept = scalars(fold, [np.float32(0.1)] * 5)
    np.testing.assert_allclose(kept, np.float32(0.1), rtol=2e-7 * debias)
    state = fold.init({"w": jnp.zeros(1)})
    for _ in range(5):
      state = fold.update(state, {"w": jnp.ones(1)})
    found, wanted = fold.value(state)["w"][0], 1 - decay**5
    np.testing.assert_allclose(found, 1.0 if debias else wanted, rtol=1e-6)


def test_init_fixes_the_structure_and_only_plain_ema_starts_there():
  like, model = {"w": jnp.full(1, 9.0)}, {"w": jnp.ones(1)}
  for name, fold in ALL.items():
    if name not in ("ema", "warm", "zscl", "both", "thinned"):
      value = fold().value(fold().update(fold().init(like), model))
      assert value["w"].tolist() == [1.0], name
  fold = average.ema(0.5)
  assert fold.value(fold.init(like))["w"].tolist() == [9.0]
  assert fold.value(fold.update(fold.init(like), model))["w"].tolist() == [5.0]


@pytest.mark.parametrize("name", ["mean", "debiased", "window", "both"])
@pytest.mark.parametrize("split", [1, 3, 5])
def test_parts_of_a_stream_merge(name, split):
  fold, models = ALL[name](), problems.models(COUNT)
  states = []
  for part in (models[:split], models[split:]):
    state = fold.init(part[0])
    for model in part:
      state = fold.update(state, model)
    states.append(state)
  both = fold.merge(*states)
  problems.close(fold.value(both), average.run(fold, models))
  more = fold.update(both, models[0])  # and the stream goes on
  problems.close(fold.value(more), average.run(fold, [*models, models[0]]))


def test_there_is_no_merge_where_the_law_does_not_hold():
  assert average.ema(0.5).merge is None
  assert ALL["thinned"]().merge is None and ALL["power"]().merge is None
  assert average.together(a=average.ema(0.5), b=average.window(1)).merge is None


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_narrow_floats_come_back_within_an_ulp(name, dtype):
  models = problems.models(COUNT, dtype)
  wide = jax.tree.map(lambda x: x.astype(np.float32), models)
  found = ws.trees.named(average.run(ALL[name](), models))
  for path, x in ws.trees.named(average.run(ALL[name](), wide)).items():
    assert found[path].dtype == dtype
    eps = float(ml_dtypes.finfo(dtype).eps)
    gap = np.abs(np.asarray(found[path], float) - np.asarray(x, float))
    assert (gap <= eps * np.abs(np.asarray(x, float)) + 1e-7).all()


@pytest.mark.parametrize("name", sorted(ALL))
def test_integer_leaves_are_the_latest_models(name):
  """Counts, flags and keys: one rule for all folds, merged ones too."""
  models = [
    {
      "w": jnp.full(1, float(n)),
      "step": jnp.array(n),
      "on": jnp.array(n > 2),
      "key": jax.random.key(n),
    }
    for n in range(4)
  ]
  fold = ALL[name]()
  found = average.run(fold, models)
  for value in found.values() if name == "both" else [found]:
    assert value["step"] == 3 and value["on"]
    assert (jax.random.key_data(value["key"])[-1]) == 3
  if fold.merge is not None:
    parts = [fold.init(models[0])] * 3
    for n in range(2):
      parts[n] = fold.update(parts[n], models[2 - n])
    found = fold.value(fold.merge(fold.merge(*parts[:2]), parts[2]))
    for value in found.values() if name == "both" else [found]:
      assert value["step"] == 1  # of the later part; the last saw nothing


def test_a_late_ema_starts_from_the_model_at_its_start():
  models = [{"w": jnp.full(2, x)} for x in (100.0, 50.0, 1.0, 3.0)]
  late = average.every(1, average.ema(0.5), start=2)
  assert average.run(late, models)["w"][0] == 2.0  # of 1 and 3
  early = average.every(2, average.ema(0.5))
  assert average.run(early, models)["w"][0] == 50.5  # of 100 and 1
  both = average.together(late=late, mean=average.running_mean())
  assert average.run(both, models)["late"]["w"][0] == 2.0


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize(
  "shapes", [((1,), (3,)), ((4, 1), (1, 4)), ((3,), ())], ids=str
)
def test_models_of_other_shapes_are_refused(name, shapes):
  fold = average.then(ALL[name](), lambda x: x)
  first, other = ({"a": {"w": jnp.ones(shape)}} for shape in shapes)
  state = fold.update(fold.init(first), first)
  with pytest.raises(ValueError, match="'a/w' is"):
    fold.update(state, other)
  with pytest.raises(ValueError, match="'a/w' is missing"):
    fold.update(state, {"a": {"v": jnp.ones(shapes[0])}})
  with pytest.raises(ValueError, match="'a/w' is"):
    jax.jit(fold.update)(state, other)
  if fold.merge is not None:
    with pytest.raises(ValueError, match="'a/w' is"):
      fold.merge(state, fold.update(fold.init(other), other))


def test_float64_stays_when_it_is_on():
  with jax.enable_x64(True):
    models = problems.models(3, np.float64)
    mean = average.run(average.running_mean(), models)
    wanted = jax.tree.map(lambda *xs: sum(xs) / 3, *models)
    problems.close(mean, wanted, 1e-14, 1e-15)


def test_every_counts_from_its_start():
  fold = average.every(3, average.window(9), start=2)
  state = fold.init(jnp.zeros(()))
  for n in range(10):
    state = fold.update(state, jnp.array(float(n)))
  assert sorted(set(state.inner.rows[:3].tolist())) == [2.0, 5.0, 8.0]
  assert state.inner.seen == 3


def loss(params, batch):
  return 0.5 * (batch["x"] @ params["w"] - batch["y"]) ** 2


@pytest.mark.parametrize("strategy", ["scan sequential", "step vmap"])
def test_folds_ride_in_training(strategy):
  """What rides along is what the saved trajectory gives."""
  x = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
  data = {"x": x, "y": x.sum(1)}
  keep = ws.Fold(
    lambda p: (jnp.zeros((6, 2)), 0),
    lambda s, p: (s[0].at[s[1]].set(p["w"]), s[1] + 1),
    lambda s: s[0],
  )
  folds = {name: make() for name, make in ALL.items()} | {"all": keep}
  fitted = train.fit_population(
    loss, {"w": jnp.zeros((2, 2))}, optax.sgd(0.1), data,
    key=jax.random.key(0), epochs=3, batch_size=4, folds=folds,
    strategy=strategy,
  )  # fmt: skip
  for m, rows in enumerate(fitted.averages["all"]):
    for name, make in ALL.items():
      fold = make()
      state = fold.init({"w": jnp.zeros(2)})
      for row in rows:
        state = fold.update(state, {"w": row})
      got = jax.tree.map(lambda x, m=m: x[m], fitted.averages[name])
      problems.close(got, fold.value(state))


def test_saved_checkpoints_are_folded_one_by_one(tmp_path):
  models = problems.models(3)
  paths = [tmp_path / f"{n}.safetensors" for n in range(3)]
  for path, model in zip(paths, models):
    ws.checkpoints.save(path, model)
  found = average.run(average.running_mean(), paths)
  problems.close(found, average.run(average.running_mean(), models))


def test_value_may_be_followed_by_what_has_to_be_measured_again():
  x = jnp.array([[1.0], [3.0], [5.0]])
  model = ws.models.from_linen(ws.models.BatchNorm())
  params = model.init(jax.random.key(0), x)
  fold = average.then(
    average.running_mean(),
    lambda p: (p, ws.models.population(model, p, [x])),
  )
  _, stats = average.run(fold, [params, params])
  assert [np.round(v.item(), 3) for v in jax.tree.leaves(stats)] == [3.0, 2.667]


def test_inputs_are_left_as_they_were():
  models = [{"w": jnp.ones(3)}, {"w": jnp.zeros(3)}]
  for make in ALL.values():
    average.run(make(), models)
  assert models[0]["w"].tolist() == [1.0] * 3


@pytest.mark.parametrize(
  ("make", "words"),
  [
    (lambda: average.window(0), "window: size is 0, expected at least 1"),
    (lambda: average.window(2.5), "window: size is 2.5"),
    (lambda: average.ema(1.0), "ema: decay is 1, expected 0 <= decay < 1"),
    (lambda: average.ema(-0.1), "decay is -0.1"),
    (lambda: average.power(0.5), "sigma is 0.5, expected 0 < sigma"),
    (lambda: average.every(0, average.window(1)), "period is 0"),
    (lambda: average.every(1, average.window(1), start=-1), "start is -1"),
    (lambda: average.together(), "together: no folds"),
    (lambda: scalars(average.window(1), []), "run: no models"),
    (
      lambda: average.run(average.window(1), {"w": 1.0}),
      "models are a dict, expected a list",
    ),
    (
      lambda: average.run(average.window(1), [{"w": 1.0}, {"v": 1.0}]),
      "model 1: 'w' is missing",
    ),
    (
      lambda: average.run(
        average.running_mean(), [{"w": jnp.ones(2)}, {"w": jnp.ones(3)}]
      ),
      r"model 1: 'w' is \(3,\) float32, expected \(2,\) float32",
    ),
    (lambda: scalars(average.ema(0.5), [1.0, np.nan]), "model 1: NaN in 'w'"),
    (
      lambda: scalars(average.every(1, average.running_mean(), 5), [1.0]),
      "running_mean: no models so far",
    ),
    (
      lambda: scalars(average.every(1, average.window(2), 5), [1.0]),
      "window: no models so far",
    ),
  ],
)
def test_bad_input_is_named(make, words):
  with pytest.raises(ValueError, match=words):
    make()
