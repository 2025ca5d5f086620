"""Training: an independent reference, agreeing strategies, exact resumption."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from weightspace import losses, models, train
from weightspace.train import batch_order, placement, steps
from weightspace.types import Fold

KEY = jax.random.key(0)
N, D, M = 22, 3, 4
STRATEGIES = ("scan sequential", "step sequential", "scan vmap", "step vmap")
MEAN = Fold(
  lambda p: (0, jax.tree.map(jnp.zeros_like, p)),
  lambda s, p: (s[0] + 1, jax.tree.map(jnp.add, s[1], p)),
  lambda s: jax.tree.map(lambda x: x / s[0], s[1]),
)


def loss(params, batch):
  return 0.5 * (batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2


def noisy(key, batch, noise=0.0):
  x = batch["x"]
  return batch | {"x": x + noise * jax.random.normal(key, x.shape)}


def momentum(learning_rate):
  return optax.sgd(learning_rate, momentum=0.9)


def problem(members=None):
  lead = () if members is None else (members,)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(*lead, N, D)).astype(np.float32)
  y = x @ np.float32([1, -2, 3]) + rng.normal(size=(*lead, N))
  return {"x": x, "y": y.astype(np.float32)}


def starts(count=M):
  w = np.random.default_rng(1).normal(size=(count, D)).astype(np.float32)
  return {"w": w, "b": np.zeros(count, np.float32)}


RATES = {"learning_rate": np.linspace(0.01, 0.1, M).astype(np.float32)}


def run(**changes):
  settings = dict(key=KEY, epochs=3, batch_size=5, hyper=RATES)
  settings |= dict(stack=starts(), tx=momentum, data=problem(), loss=loss)
  return train.fit_population(**(settings | changes))


def same(a, b):
  """Equal to the last bit."""
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(x, y)


def close(a, b):
  # Sums of a few float32 terms, in another order.
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6)


def numpy_sgd(w, b, data, batches, rate):
  """SGD with momentum 0.9 on a linear regression, in float64."""
  w, b, vw, vb, losses = w.astype(float), float(b), 0.0, 0.0, []
  for index in batches:
    x, y = data["x"][index], data["y"][index]
    error = x @ w + b - y
    losses.append(0.5 * np.mean(error**2))
    vw = 0.9 * vw + x.T @ error / len(x)
    vb = 0.9 * vb + error.mean()
    w, b = w - rate * vw, b - rate * vb
  return w, b, losses


def test_equals_a_numpy_reference():
  fitted, data, stack = run(), problem(), starts()
  drawn = [
    batch_order.draw(KEY, range(M), e, count=N, batch_size=5)[0]
    for e in range(3)
  ]
  for m in range(M):
    batches = np.concatenate([draw[m] for draw in drawn])
    rate = RATES["learning_rate"][m]
    w, b, losses = numpy_sgd(stack["w"][m], 0, data, batches, rate)
    close((fitted.params["w"][m], fitted.params["b"][m]), (w, b))
    close(fitted.losses[..., m].ravel(), np.array(losses))


def test_batches_are_full_and_distinct():
  indices, keys = batch_order.draw(KEY, range(3), 0, count=N, batch_size=5)
  assert indices.shape == (3, 4, 5) and keys.shape == (3, 4)
  for rows in np.asarray(indices).reshape(3, -1):
    assert len(set(rows)) == 20 and rows.max() < N
  other, _ = batch_order.draw(KEY, range(3), 1, count=N, batch_size=5)
  assert (indices != other).any()
  assert (indices[0] != indices[1]).any()


def devices(count):
  return jax.make_mesh(
    (count,), ("population",), axis_types=(jax.sharding.AxisType.Auto,)
  )


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("same_order", [True, False])
def test_strategies_agree(shared, same_order):
  mesh = devices(2)
  hyper = RATES | {"noise": np.float32([0, 0.1, 0.2, 0.3])}
  settings = dict(
    prepare=noisy, hyper=hyper, folds={"mean": MEAN}, same_order=same_order
  )
  settings |= dict(data=problem(None if shared else M), shared_data=shared)
  expected = run(strategy=STRATEGIES[0], **settings)
  assert expected.losses.shape == (3, 4, M)
  for strategy in STRATEGIES[1:]:
    close(run(strategy=strategy, **settings), expected)
  same(run(mesh=mesh, **settings), expected)
  close(run(mesh=mesh, strategy="step", **settings), expected)


def test_population_is_a_loop_of_fits():
  folds = {"mean": MEAN}
  fitted = run(folds=folds, prepare=noisy)
  for m in range(M):
    one = train.fit(
      loss,
      jax.tree.map(lambda x, m=m: x[m], starts()),
      momentum,
      problem(),
      key=KEY,
      epochs=3,
      batch_size=5,
      seed=m,
      hyper={"learning_rate": RATES["learning_rate"][m]},
      prepare=noisy,
      folds=folds,
    )
    assert one.losses.shape == (3, 4)
    same(one.params, jax.tree.map(lambda x, m=m: x[m], fitted.params))
    same(one.averages, jax.tree.map(lambda x, m=m: x[m], fitted.averages))
    same(one.losses, fitted.losses[..., m])


def test_seeds_set_members_apart():
  stack = jax.tree.map(lambda x: np.repeat(x[:1], M, 0), starts())
  rates = {"learning_rate": np.full(M, 0.05, np.float32)}
  settings = dict(stack=stack, hyper=rates)
  w = run(**settings).params["w"]
  assert len(np.unique(np.asarray(w)[:, 0])) == M
  w = run(same_order=True, **settings).params["w"]
  assert len(np.unique(np.asarray(w)[:, 0])) == 1
  w = run(seeds=[5, 5, 6, 7], **settings).params["w"]
  assert (w[0] == w[1]).all() and (w[1] != w[2]).all()
  noise = {"noise": np.ones(M, np.float32)}
  settings |= dict(hyper=rates | noise, prepare=noisy, same_order=True)
  assert len(np.unique(np.asarray(run(**settings).params["w"])[:, 0])) == M


def test_folds_see_every_step():
  trajectory = []
  averages = run(
    batch_size=N,
    epochs=5,
    folds={"mean": MEAN},
    on_epoch=(lambda epoch, fitted: trajectory.append(fitted.params)),
  ).averages["mean"]
  close(averages, jax.tree.map(lambda *x: np.mean(x, 0), *trajectory))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_fold_may_start_as_the_parameters(strategy):
  ema = Fold(lambda p: p, lambda s, p: optax.tree.add(s, p), lambda s: s)
  stack = jax.tree.map(jnp.asarray, starts())
  seen = run(stack=stack, folds={"ema": ema}, epochs=1, strategy=strategy)
  assert np.isfinite(seen.averages["ema"]["w"]).all()
  same(stack, starts())


def test_what_on_epoch_gets_stays_valid():
  seen = []
  for strategy in STRATEGIES:
    run(strategy=strategy, on_epoch=lambda e, f: seen.append((e, f)))
  assert [epoch for epoch, _ in seen[:3]] == [1, 2, 3]
  close(seen[2][1].params, run().params)
  assert all(np.isfinite(f.params["w"]).all() for _, f in seen)
  assert [f.losses.shape for _, f in seen[:2]] == [(1, 4, M), (2, 4, M)]


def test_inputs_are_not_given_away():
  stack, data = jax.tree.map(jnp.asarray, (starts(), problem()))
  for strategy in STRATEGIES:
    run(stack=stack, data=data, strategy=strategy)
  same(stack, starts())
  same(data, problem())


@pytest.mark.parametrize("strategy", ["scan sequential", "step vmap"])
def test_resumes_bit_equal(tmp_path, strategy):
  settings = dict(strategy=strategy, folds={"mean": MEAN}, prepare=noisy)
  straight = run(epochs=4, **settings)
  for every, name in ((1, "a"), (3, "b")):
    saved = train.Checkpoint(tmp_path / name, every=every)
    run(epochs=2, checkpoint=saved, **settings)
    same(run(epochs=4, checkpoint=saved, **settings), straight)
    assert [p.name for p in (tmp_path / name).iterdir()] == ["epoch-000004"]
    same(run(epochs=4, checkpoint=saved, **settings), straight)
  with pytest.raises(ValueError, match="has 4 epochs, expected at most 3"):
    run(epochs=3, checkpoint=saved, **settings)


def test_an_interrupted_run_resumes(tmp_path):
  saved = train.Checkpoint(tmp_path / "run")

  def interrupt(epoch, fitted):
    if epoch == 2:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    run(checkpoint=saved, on_epoch=interrupt)
  (tmp_path / "run" / ".epoch-000003.writing").mkdir()  # a kill while saving
  same(run(checkpoint=saved), run())


@pytest.mark.parametrize(
  "changes, what",
  [
    ({"stack": jax.tree.map(lambda x: x + 1, starts())}, "starts"),
    ({"data": jax.tree.map(lambda x: x + 1, problem())}, "data"),
    ({"batch_size": 4}, "loss, optimiser or settings"),
    ({"key": jax.random.key(1)}, "settings"),
    ({"seeds": [1, 2, 3, 4]}, "settings"),
    ({"hyper": {"learning_rate": RATES["learning_rate"] * 2}}, "settings"),
    ({"tx": lambda learning_rate: optax.sgd(learning_rate)}, "settings"),
    ({"prepare": noisy}, "settings"),
    ({"same_order": True}, "settings"),
    ({"loss": lambda p, b: 2 * loss(p, b)}, "settings"),
  ],
)
def test_a_folder_of_another_run_is_refused(tmp_path_factory, changes, what):
  folder = tmp_path_factory.getbasetemp() / "one_run"
  saved = train.Checkpoint(folder)
  run(epochs=1, checkpoint=saved)
  with pytest.raises(
    ValueError, match=f"epoch-000001' is of a run with.*{what}"
  ):
    run(epochs=2, checkpoint=saved, **changes)
  assert [p.name for p in folder.iterdir()] == ["epoch-000001"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nan_names_step_and_member(strategy):
  orders = [
    batch_order.draw(KEY, range(M), e, count=N, batch_size=5)[0] for e in (0, 1)
  ]
  # An example that member 2 first meets in its second epoch.
  (left_out, *_) = set(range(N)) - set(np.ravel(orders[0][2]).tolist())
  step = int(np.argwhere(np.asarray(orders[1][2]) == left_out)[0, 0])

  def trap(params, batch, trapped):
    hit = (trapped > 0) & jnp.any(batch["id"] == left_out)
    return loss(params, batch) + jnp.where(hit, jnp.nan, 0.0)

  data = problem() | {"id": np.arange(N)}
  trapped = {"trapped": np.float32([0, 0, 1, 0])}
  match = f"member 2 is NaN at step {step} of epoch 1 .step {4 + step} in all"
  with pytest.raises(ValueError, match=match):
    run(loss=trap, data=data, hyper=RATES | trapped, strategy=strategy)


@pytest.mark.parametrize(
  "changes, match",
  [
    ({"stack": {}}, "no leaves"),
    (
      {"stack": starts() | {"w": np.full((M, D), np.nan)}},
      "NaN in 'w' of model 0",
    ),
    ({"data": {}}, "no examples"),
    ({"data": jax.tree.map(lambda x: x[:0], problem())}, "no examples"),
    (
      {"data": problem() | {"y": np.zeros(N - 1)}},
      "'y' has 21 examples, exp.* 22",
    ),
    (
      {"data": problem() | {"y": np.float32(1)}},
      r"'y' has shape \(\), expected",
    ),
    (
      {"shared_data": False},
      r"'x' has shape \(22, 3\), expected \[4, N, \.\.\.\]",
    ),
    ({"batch_size": N + 1}, "batch_size: 23, expected 1 to 22"),
    ({"batch_size": 0}, "batch_size: 0"),
    ({"epochs": 0}, "epochs: 0"),
    (
      {"hyper": {"learning_rate": np.ones(3)}},
      r"'learning_rate' has shape \(3,\)",
    ),
    ({"hyper": {"learning_rate": 0.1}}, r"'learning_rate' has shape \(\)"),
    (
      {"hyper": RATES | {"typo": np.ones(M)}},
      r"'typo' is no arg.*learning_rate",
    ),
    ({"hyper": {"key": np.ones(M)}, "prepare": noisy}, "'key' is no argument"),
    ({"seeds": [1, 2, -3, 4]}, "seeds: -3, expected 0 to"),
    ({"seeds": [1]}, "seeds: 1, expected one for each of 4"),
    ({"strategy": "fast"}, "strategy: 'fast'"),
    ({"strategy": "scan step"}, "strategy: 'scan step'"),
    ({"mesh": devices(3)}, "3 devices along 'population' for 4 models"),
    ({"mesh": devices(2), "strategy": "vmap"}, "a mesh if and only if"),
    ({"strategy": "sharded"}, "a mesh if and only if"),
  ],
)
def test_bad_input(changes, match):
  with pytest.raises(ValueError, match=match):
    run(**changes)


def test_members_take_turns_on_the_cpu():
  assert placement.choose("auto") == ("scan", "sequential")
  assert placement.choose("step") == ("step", "sequential")
  assert placement.choose("sharded", devices(2), 4) == ("scan", "sequential")


def test_convolutions_are_fast_in_the_loop():
  """XLA's CPU backend has quick kernels for this order alone in a loop."""
  model = models.build(name="vgg", norm="none", widths=(2, 3), depths=(1, 1))
  x = jnp.ones((2, 4, 4, 3))
  stack = jax.tree.map(lambda leaf: leaf[None], model.init(KEY, x))
  score = losses.of(model.apply, losses.cross_entropy)
  plan = steps.Plan(score, optax.sgd(0.1), None, ())
  state = steps.begin_all(plan, stack, {})
  data = {"x": x, "y": jnp.zeros(2, int)}
  given = data, jnp.zeros((1, 3, 2), int), jax.random.split(KEY, (1, 3)), {}
  text = steps.advance.lower(plan, state, *given).as_text()
  orders = re.findall(r"dim_numbers = (.*?), window", text)
  # Two outputs, two kernel gradients, and the gradient of one input.
  assert orders == ["[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"] * 5
