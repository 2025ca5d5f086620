"""Saves within a stage's training: when, whose, gone on with, and removed."""

import jax
import ml_collections
import numpy as np
import optax
import pytest

from experiments.bench import classifiers, fine_tuning, population
from experiments.rebasin import training
from experiments.run import app
from weightspace import checkpoints, models, train, trees
from weightspace.train import resume

KEY, M, N, EPOCHS = jax.random.key(0), 3, 12, 4
OFTEN = 1e-9
ABOUT = {"experiment": "e", "name": "n", "command": "c"}


def loss(params, batch):
  return (batch["x"] @ params["w"] - batch["y"]) ** 2


def problem():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
  return {"w": draw(M, 2)}, {"x": draw(N, 2), "y": draw(N)}


def fitted(checkpoint, epochs=EPOCHS, stop=None, rate=0.1, seen=None):
  """Train; be interrupted after so many epochs."""

  def on_epoch(epoch, _):
    if seen is not None:
      seen.append(epoch)
    if epoch == stop:
      raise KeyboardInterrupt

  stack, data = problem()
  settings = dict(key=KEY, epochs=epochs, batch_size=4, on_epoch=on_epoch)
  tx = optax.sgd(rate, 0.9)
  return train.fit_population(
    loss, stack, tx, data, checkpoint=checkpoint, **settings
  ).params


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def names(folder):
  return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def run(tmp_path):
  found = app.begin(tmp_path, None, {"seed": 0}, ABOUT, None)
  yield found._replace(save_every=OFTEN)
  found.lock.close()


@pytest.mark.parametrize(
  "seconds, since, expected",
  [(0.0, 0, [3, 6, 7]), (50.0, 0, []), (50.0, 60, [3, 6, 7])],
)
def test_saves_are_due(seconds, since, expected):
  """Every third epoch and the last, but not before so many seconds."""
  saved = resume.Checkpoint("x", 3, seconds)
  began = resume.time.monotonic() - since
  due = [n for n in range(1, 8) if resume.due(saved, n, 7, began)]
  assert due == expected


def test_short_training_saves_and_hashes_nothing(tmp_path):
  def never():
    raise AssertionError("all data were hashed")

  saved = resume.Checkpoint(tmp_path / "saved", seconds=3600.0)
  fitted(saved)
  assert not saved.folder.exists()
  assert resume.load(saved, never, "state", 3) == (0, [], "state")


def test_a_folder_of_another_run_is_begun_anew_where_that_is_allowed(tmp_path):
  saved = resume.Checkpoint(tmp_path, anew=True)
  fitted(saved, epochs=3, rate=0.2)
  seen = []
  with pytest.warns(UserWarning, match="000003' is of a run with other loss"):
    again = fitted(saved, seen=seen)
  assert seen == [1, 2, 3, 4] and names(tmp_path) == ["epoch-000004"]
  same(again, fitted(None))
  with pytest.raises(ValueError, match="other loss, opt"):
    fitted(resume.Checkpoint(tmp_path), rate=0.2)


def test_an_interrupted_stage_goes_on_and_removes_its_saves(run):
  def stage(**more):
    return lambda: fitted(run.training("stage"), **more)

  with pytest.raises(KeyboardInterrupt):
    run.once("stage", stage(stop=2))
  assert names(run.folder / "checkpoints") == [".stage.training"]
  seen = []
  same(run.once("stage", stage(seen=seen)), fitted(None))
  assert seen == [3, 4]
  assert names(run.folder / "checkpoints") == ["stage"]


def test_saves_beside_a_stage_that_is_done_are_removed(run):
  """A kill came between the two."""
  run.once("stage", lambda: {"x": np.ones(1)})
  fitted(run.training("stage"))
  run.once("stage", lambda: None)
  assert names(run.folder / "checkpoints") == ["stage"]


def test_without_saves_a_stage_has_no_place_for_them(run):
  assert run._replace(save_every=0.0).training("stage") is None


def config(**more):
  base = {"epochs": 2, "batch_size": 4, "learning_rate": 0.1}
  kept = {"seed": 0, "base": base, "weight_decay": 0.0, **base, **more}
  return ml_collections.ConfigDict(kept)


def trainings(run):
  """What every kind of main trains a population by."""
  model = models.build(name="mlp", hidden=(2,))
  x = np.ones((8, 2, 2, 1), np.float32)
  data = {"x": x, "y": np.zeros(8, np.int32)}
  some = population.Problem(model, data, data, data, None, None)
  some = some._replace(loss=classifiers.risk(model))
  stack = trees.stack([model.init(KEY, x)])
  flat = {n: (0.1, 0.1) for n in ("learning_rate", "weight_decay", "noise")}
  own = config(hyper=flat, adam=0.1)
  given, saved = (some, stack, own, KEY, "stage"), run.training("stage")
  each = trees.stack([data])
  tuned = run._replace(config=own), model, "base", stack, each
  begin = some.loss, lambda: stack, data
  stages = {
    "soup": lambda: population.fit(*given, saved=saved)[0],
    "adam": lambda: training.adam(*given, saved=saved),
    "fine": lambda: fine_tuning.fit(*tuned, stage="stage")[0],
  }
  kinds = {k: lambda k=k: run.once("stage", stages[k]) for k in stages}
  return kinds | {
    "landscape": lambda: classifiers.fit(
      run, "stage", *begin, settings=own, key=KEY
    )
  }


@pytest.mark.parametrize("kind", ["soup", "adam", "fine", "landscape"])
def test_every_kind_of_training_is_saved(run, kind):
  """The stage's own checkpoint cannot be written, so its saves stay."""
  kept = run.folder / "checkpoints"
  kept.mkdir()
  (kept / "stage").symlink_to("nowhere")
  with pytest.raises(ValueError, match="stage' exists, expected a new path"):
    trainings(run)[kind]()
  assert names(kept / ".stage.training") == ["epoch-000002"]


def test_the_state_is_saved_with_its_losses(tmp_path):
  fitted(resume.Checkpoint(tmp_path))
  tree = checkpoints.restore(tmp_path / "epoch-000004")
  assert tree["losses"].shape == (EPOCHS, 3, M)
