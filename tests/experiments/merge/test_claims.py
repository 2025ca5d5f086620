"""The multi-task bed: tasks, methods, tuning, probes, verdicts."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import weightspace as ws
from experiments.bench import task_vectors, tasks
from experiments.merge import claims, judges, methods, results
from experiments.merge.results import BASE, EXPERTS, START, TUNED, UNTUNED
from experiments.run import app
from experiments.run.claims import gather, low
from weightspace import intervals, losses

KEY = jax.random.key(0)
METHODS = {
  "average": {"recipe": "uniform", "scale": 1.0, "tuned": False},
  "sum": {"recipe": "task_arithmetic", "scale": 0.3},
}


@pytest.fixture
def run(tmp_path):
  about = {"experiment": "merge", "name": "n", "command": "c"}
  config = ml_collections.ConfigDict(
    {
      "seed": 0,
      "seeds": 2,
      "head": "",
      "budget": 4,
      "scales": {"least": 0.1, "most": 2.0},
      "shown": {"validation": 20, "test": 30},
      "base": {"task": {"data": "digits"}},
      "tasks": {"a": {"data": "digits"}, "b": {"data": "digits", "rotate": 90}},
      "methods": METHODS,
      "counts": (2,),
      "beds": {"bed": {}},
      "probes": (),
    }
  )
  begun = app.begin(tmp_path, config, config.to_dict(), about, None)
  yield begun
  begun.lock.close()


def bed(run):
  """A linear model on digits: a base of zeros and two drawn experts."""
  model = ws.models.build("mlp", hidden=())
  start = model.init(KEY, jnp.ones((1, 8, 8, 1)))
  keys = jax.random.split(KEY, 4)
  bases = jax.tree.map(lambda x: jnp.zeros((2, *x.shape)), start)
  experts = jax.tree.map(
    lambda x: jnp.stack([jax.random.normal(k, x.shape) for k in keys]).reshape(
      2, 2, *x.shape
    ),
    start,
  )
  loss = losses.of(model.apply, losses.cross_entropy)
  score = losses.of(model.apply, losses.accuracy)
  return task_vectors.Bed("bed", run, model, loss, score, bases, experts)


def test_a_task_is_drawn_without_replacement_and_shifted(run):
  task = {"data": "digits"}
  whole = ws.data.load("digits").train
  count = len(whole["y"])
  plain = tasks.draw(run, task, "train", KEY, count)
  np.testing.assert_array_equal(plain["x"], whole["x"])
  some = tasks.draw(run, task, "train", KEY, 50)
  turned = tasks.draw(run, task | {"rotate": 90}, "train", KEY, 50)
  want = np.rot90(np.asarray(some["x"]), axes=(1, 2))
  np.testing.assert_allclose(turned["x"], want, atol=1e-5)
  moved = tasks.draw(run, task | {"shift": (0.25, 0)}, "train", KEY, 50)
  np.testing.assert_allclose(moved["x"][:, 2:], some["x"][:, :-2], atol=1e-5)
  other = tasks.draw(run, task, "train", jax.random.key(1), 50)
  assert (some["y"] != other["y"]).any()


def test_classes_are_kept_and_counted_from_zero(run):
  task = {"data": "digits", "classes": (5, 7), "relabel": True}
  found = tasks.draw(run, task, "test", KEY, 40)
  assert set(np.asarray(found["y"]).tolist()) == {0, 1}


def test_a_memory_of_other_classes_is_there_in_training_alone(run):
  memory = {"classes": (0, 1), "examples": 10}
  task = {"data": "digits", "classes": (5, 6), "memory": memory}
  train = np.asarray(tasks.draw(run, task, "train", KEY, 40)["y"])
  assert (train < 2).sum() == 10 and (train > 4).sum() == 30
  test = np.asarray(tasks.draw(run, task, "test", KEY, 40)["y"])
  assert (test > 4).all()


def test_a_corruption_has_draws_of_its_own(run):
  task = {"data": "digits", "corrupt": "gaussian_noise", "severity": 3}
  first = tasks.draw(run, task, "train", KEY, 20)
  again = tasks.draw(run, task, "train", KEY, 20)
  np.testing.assert_array_equal(first["x"], again["x"])
  clean = tasks.draw(run, {"data": "digits"}, "train", KEY, 20)
  np.testing.assert_array_equal(first["y"], clean["y"])
  assert np.abs(np.asarray(first["x"] - clean["x"])).mean() > 0.03


def test_text_is_one_character_ahead_in_every_spelling(run):
  for spelling in tasks.SPELLINGS:
    task = {"text": "own", "spelling": spelling, "length": 16}
    found = tasks.draw(run, task, "train", KEY, 30)
    assert found["x"].shape == found["y"].shape == (30, 16)
    np.testing.assert_array_equal(found["x"][:, 1:], found["y"][:, :-1])
  spelt = tasks.spell("Abe rode", "no vowels")
  assert spelt == "b rd" and tasks.spell("ab", "rot13") == "no"
  back = tasks.encode("a~\n\té")
  letters = [tasks.ALPHABET[place] for place in back]
  assert letters == ["a", "~", "\n", " ", " "]


@pytest.mark.parametrize(
  ("task", "words"),
  [
    ({"data": "mnist", "turn": 3}, "task 'a': 'turn', expected data or text"),
    ({"rotate": 3}, "task 'a': 'rotate', expected data or text"),
    ({"text": "own", "data": "mnist"}, "task 'a': 'text', expected"),
    ({}, "task 'a': 'nothing', expected"),
  ],
)
def test_a_task_that_says_nonsense_is_refused(task, words):
  with pytest.raises(ValueError, match=words):
    tasks.check("a", task)


def test_bad_counts_and_spellings_are_refused(run):
  with pytest.raises(ValueError, match="test: 9999 examples, expected 1 to"):
    tasks.draw(run, {"data": "digits"}, "test", KEY, 9999)
  with pytest.raises(ValueError, match="spelling: 'latin', expected one of"):
    tasks.spell("a", "latin")


def test_a_budget_is_shared_by_settings_and_has_the_untuned():
  made = methods.settings({"a": (1, 2), "b": [3, 4], "c": "x"})
  assert made[0] == {"a": 1, "b": 3, "c": "x"} and len(made) == 4
  grid = methods.scales({"least": 0.1, "most": 4.0}, 5, 0.3)
  assert len(grid) == 6 and 0.3 in grid and (np.diff(grid) > 0).all()
  assert grid[0] == pytest.approx(0.1) and grid[-1] == pytest.approx(4.0)
  for bad in ({"least": 0.0, "most": 1.0}, {"least": 2.0, "most": 1.0}):
    with pytest.raises(ValueError, match="scales: 3 from"):
      methods.scales(bad, 3, 1.0)


def test_a_recipe_runs_at_scale_one_and_in_another_order():
  stack = {"w": jnp.array([[1.0, 2.0], [3.0, -1.0], [0.0, 5.0]])}
  base = {"w": jnp.zeros(2)}
  found, seconds = methods.merge("task_arithmetic", {}, stack, base, KEY)
  assert found["w"].tolist() == [4.0, 6.0] and seconds > 0
  tie = {"w": jnp.array([[1.0], [-1.0], [1.0], [-1.0]])}
  zero = {"w": jnp.zeros(1)}
  firsts = {
    methods.merge("magmax", {"order": k}, tie, zero, KEY)[0]["w"].item()
    for k in range(6)
  }
  assert firsts == {1.0, -1.0}  # the earlier of equals wins
  with pytest.raises(ValueError, match="recipe: 'mean', expected one of"):
    methods.merge("mean", {}, stack, base, KEY)
  with pytest.raises(ValueError, match="ties: unknown option 'share', expec"):
    methods.merge("ties", {"share": 1}, stack, base, KEY)


def test_every_try_is_the_accuracy_of_its_mix(run):
  made = bed(run)
  results.measure(made, 1)
  sets = task_vectors.sets(made, 1, "test")
  base, experts = made.seed(1, 2)
  both = jax.tree.map(lambda x: x.sum(0), experts)
  line = next(
    x
    for x in run.lines.values()
    if x.get("tried") == "sum" and x["scale"] == "0.3"
  )
  mixed = jax.tree.map(lambda a, b: a + 0.3 * b, base, both)
  want = np.mean([made.score(mixed, sets[n]).mean() for n in "ab"])
  assert line["test"] == pytest.approx(100 * want, abs=1e-3)
  single = gather(run, "on b", method=EXPERTS)[0, 0]
  own = jax.tree.map(lambda x: x[1], experts)
  assert single == pytest.approx(100 * float(made.score(own, sets["b"]).mean()))
  start = gather(run, f"on {BASE}", method=START)[0, 0]
  zero = 100 * float(made.score(base, sets[BASE]).mean())
  assert start == pytest.approx(zero, abs=1e-4)


def test_tuning_takes_the_best_try_on_validation(run):
  made = bed(run)
  for seed in range(2):
    results.measure(made, seed)
  tries = [x for x in run.lines.values() if x.get("tried") == "sum"]
  for seed in range(2):
    best = max(x["validation"] for x in tries if x["seed"] == seed)
    chosen = results.of(run, "sum", TUNED, "chosen by")[seed]
    plain = results.of(run, "sum", UNTUNED, "chosen by")[seed]
    assert chosen == pytest.approx(best) and chosen >= plain
  np.testing.assert_array_equal(
    results.of(run, "average", TUNED),
    results.of(run, "average", UNTUNED),
  )
  table = claims.table(run)
  assert next(iter(table)) == EXPERTS and list(table)[-1] == START
  assert table["sum"]["tuned (%)"].size == 2
  assert table["average"]["tuned (%)"] is None


def test_heads_are_never_merged(run):
  config = run.config.copy_and_resolve_references()
  config.head = "Dense_0/bias"
  own = bed(run._replace(config=config))
  base, experts = own.seed(0, 2)
  body = task_vectors.shared(experts, config.head)
  assert list(body) == ["Dense_0/kernel"]
  expert = jax.tree.map(lambda x: x[1], experts)
  whole = task_vectors.with_head({"Dense_0/kernel": jnp.ones((64, 10))}, expert)
  np.testing.assert_array_equal(
    whole["Dense_0"]["bias"], expert["Dense_0"]["bias"]
  )
  results.measure(own, 0)
  sets = task_vectors.sets(own, 0, "test")
  start = {"Dense_0/kernel": base["Dense_0"]["kernel"]}
  model = task_vectors.with_head(start, expert)
  want = float(own.score(model, sets["b"]).mean())
  found = gather(run, "on b", method=START)[0, 0]
  assert found == pytest.approx(100 * want, abs=1e-4)


def test_more_experts_than_tasks_are_refused(run):
  config = run.config.copy_and_resolve_references()
  config.counts = (3,)
  with pytest.raises(ValueError, match="counts: 3, expected 1 to 2 tasks"):
    results.measure(bed(run._replace(config=config)), 0)


def test_normalised_is_the_mean_of_shares():
  found = {"a": 30.0, "b": 90.0, BASE: 1.0}
  assert results.normalised(found, {"a": 60.0, "b": 90.0}) == 75.0


def logged(run, values):
  """Log {method: {choice: [S]}} as the bed would."""
  for method, choices in values.items():
    for choice, numbers in choices.items():
      for seed, value in enumerate(numbers):
        run.log(
          bed="bed",
          seed=seed,
          count=2,
          method=method,
          choice=choice,
          accuracy=float(value),
        )


@pytest.mark.parametrize(
  ("ties", "holds"), [((62.0, 63.0), True), ((59.0, 63.5), False)]
)
def test_the_order_of_ties_needs_both_gaps(run, ties, holds):
  run.config.methods = {
    "average": METHODS["average"],
    "task arithmetic": METHODS["sum"],
    "TIES": METHODS["sum"],
  }
  sums = np.array([60.0, 61.0])
  both = {TUNED: sums, UNTUNED: sums}
  logged(
    run,
    {
      EXPERTS: {UNTUNED: (90.0, 91.0)},
      "average": {UNTUNED: (50.0, 51.0)},
      "task arithmetic": both,
      "TIES": {TUNED: ties, UNTUNED: ties},
    },
  )
  text, found = judges.ties(run)
  assert bool(found) is holds and "over 2 seeds" in text
  gap = judges.gap(run, "TIES", "task arithmetic")
  np.testing.assert_allclose(gap, np.subtract(ties, sums))
  assert low(gap) == intervals.mean_interval(gap).low
