"""Numbers that are searched before the one merge that is written."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

import weightspace as ws
from tests import llamas
from weightspace.cli import command
from weightspace.cli.search import scores, searching

BASE = llamas.leaves(0)
TUNED = [llamas.leaves(seed, near=BASE) for seed in (1, 2)]
GOAL = "lm_head.weight"
SCORING = """
import numpy as np
import pathlib

GOAL = np.load(pathlib.Path(__file__).parent / "goal.npy")

def near(params):
  with open("calls", "a") as calls:
    calls.write(".")
  return -float(((np.asarray(params["lm_head.weight"]) - GOAL) ** 2).sum())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """Models, and a score of one leaf: best at 0.3 and 0.9 task vectors."""
  for name, found in zip(("base", "a", "b"), (BASE, *TUNED)):
    llamas.write(tmp_path / name, found)
  changes = [tuned[GOAL] - BASE[GOAL] for tuned in TUNED]
  goal = BASE[GOAL] + 0.3 * changes[0] + 0.9 * changes[1]
  np.save(tmp_path / "goal.npy", goal)
  name = f"scoring_{abs(hash(tmp_path))}"  # a module is imported once
  (tmp_path / f"{name}.py").write_text(SCORING)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr("sys.path", [str(tmp_path), *__import__("sys").path])
  tmp_path.joinpath("scoring").write_text(f"{name}:near")
  return tmp_path


def config(folder, **keys):
  found = {
    "merge_method": "task_arithmetic",
    "base_model": "base",
    "models": [{"model": "a"}, {"model": "b"}],
    "search": {
      "parameters": {"weight": [-1, 2]},
      "score": (folder / "scoring").read_text(),
      "budget": 160,
    },
  }
  found |= keys
  return {key: value for key, value in found.items() if value is not None}


def merge(folder, found, out="out", *options):
  (folder / "config.yml").write_text(yaml.safe_dump(found))
  return command.main(["config.yml", out, "--quiet", *options])


def test_weights_are_searched_and_the_best_is_written(folder, capsys):
  assert merge(folder, config(folder)) == 0
  said = capsys.readouterr().out
  assert "search: 160 mixes, best score" in said
  merged = llamas.read(folder / "out")
  for name, start in BASE.items():
    changes = [tuned[name] - start for tuned in TUNED]
    wanted = start + 0.3 * changes[0] + 0.9 * changes[1]
    np.testing.assert_allclose(merged[name], wanted, atol=2e-3)
  card = (folder / "out/README.md").read_text()
  assert "# search: 160 mixes" in card and "search:\n" not in card
  found = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
  (folder / "again.yml").write_text(yaml.safe_dump(found))
  assert command.main(["again.yml", "again", "--quiet"]) == 0
  for name, leaf in llamas.read(folder / "again").items():
    np.testing.assert_array_equal(leaf, merged[name])
  assert not list(folder.glob(".out*"))  # neither state nor half an output


def test_weights_of_linear_sum_to_one(folder):
  search = config(folder)["search"] | {"parameters": {"weight": [0, 1]}}
  found = config(folder, merge_method="linear", base_model=None, search=search)
  assert merge(folder, found) == 0
  card = (folder / "out/README.md").read_text()
  found = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
  weights = [one["parameters"]["weight"] for one in found["models"]]
  assert found["parameters"] == {"normalize": False}
  np.testing.assert_allclose(sum(weights), 1, atol=1e-6)
  expected = sum(w * tuned[GOAL] for w, tuned in zip(weights, TUNED))
  np.testing.assert_allclose(
    llamas.read(folder / "out")[GOAL], expected, atol=1e-6
  )


@pytest.mark.parametrize("scored", ["python", "language_model"])
def test_numbers_of_a_recipe_are_those_that_tune_finds(folder, scored):
  ids = np.arange(41) * 7 % llamas.VOCAB
  np.save(folder / "text.npy", ids)
  space = {"scale": (0.0, 2.0)}
  search = {"parameters": {"scale": [0, 2]}, "budget": 20, "key": 3}
  if scored == "python":
    search["score"] = (folder / "scoring").read_text()
    goal = np.load(folder / "goal.npy")
    score, data = lambda p: -float(((p[GOAL] - goal) ** 2).sum()), None
  else:
    search |= {"score": scored, "text": "text.npy", "length": 8}
    settings = llamas.config()
    model = ws.models.build("lm", **ws.models.llama_hyper(settings))
    data = {"x": ids[:40].reshape(5, 8), "y": ids[1:].reshape(5, 8)}

    def score(params, data):
      logits = model.apply(ws.models.from_llama(params, settings), data["x"])
      return -ws.losses.cross_entropy(logits, data["y"])

  found = config(
    folder,
    merge_method=None,
    recipe="ties",
    parameters={"density": 0.5},
    search=search,
  )
  assert merge(folder, found) == 0
  tuned = ws.merge.tune(
    lambda scale: ws.merge.ties(0.5, scale),
    space,
    ws.stack(TUNED),
    score,
    data,
    jax.random.key(3),
    given={"base": jax.tree.map(jnp.asarray, BASE)},
    budget=20,
  )
  recipe = ws.merge.ties(0.5, tuned.hyper["scale"])
  expected = recipe(ws.stack(TUNED), base=BASE)
  for name, leaf in llamas.read(folder / "out").items():
    np.testing.assert_allclose(leaf, expected[name], atol=1e-5)


def test_a_search_goes_on_and_a_finished_one_is_not_repeated(
  folder, monkeypatch
):
  assert merge(folder, config(folder), "whole") == 0
  calls = len((folder / "calls").read_text())
  (folder / "calls").unlink()
  kept, broods = searching.searches.evolution.checkpoints.save, []

  def stop(path, state, **options):
    kept(path, state, **options)
    broods.append(path)
    if len(broods) in (2, 5):
      raise KeyboardInterrupt

  monkeypatch.setattr(searching.searches.evolution.checkpoints, "save", stop)
  ends = [merge(folder, config(folder)) for _ in range(3)]
  assert ends == [command.INTERRUPTED, command.INTERRUPTED, 0]
  assert len((folder / "calls").read_text()) == calls
  for name, leaf in llamas.read(folder / "out").items():
    np.testing.assert_array_equal(leaf, llamas.read(folder / "whole")[name])


def test_a_dry_run_searches_nothing(folder, capsys):
  assert merge(folder, config(folder), "out", "--dry-run") == 0
  said = capsys.readouterr().out
  assert "search: 160 mixes over weight" in said and "leaves:" in said
  assert not (folder / "calls").exists() and not (folder / "out").exists()


@pytest.mark.engines
def test_text_is_read_by_the_models_tokenizer(tmp_path):
  pytest.importorskip("tokenizers")
  tokens = [f"t{i}" for i in range(llamas.VOCAB)]
  folder = llamas.write(tmp_path / "a", BASE, tokens=tokens)
  (tmp_path / "text.txt").write_text("t3 t1 t4 t1 t5 t9 t2 t6")
  reader = ws.checkpoints.open(folder)
  _, data = scores.language_model(
    reader, llamas.config(), folder, str(tmp_path / "text.txt"), 3
  )
  assert data["x"].tolist() == [[3, 1, 4], [1, 5, 9]]
  assert data["y"].tolist() == [[1, 4, 1], [5, 9, 2]]


def change(**keys):
  return lambda found: found | {"search": found["search"] | keys}


@pytest.mark.parametrize(
  "edit, match",
  [
    (change(budget=0), "search.budget is 0, expected a whole number from 1"),
    (change(budget=2), "budget is 2, expected at least 4"),
    (change(what=1), "search: 'what' is unknown"),
    (change(parameters={}), "search.parameters is empty"),
    (change(parameters={"weight": [1, 1]}), "weight is [1, 1], expected [le"),
    (change(parameters={"density": [0, 1]}), "density of merge_method 'task"),
    (change(score="near"), "search.score is 'near', expected module:function"),
    (change(score="nowhere:near"), "search.score 'nowhere:near': No module"),
    (change(score="math:near"), "search.score 'math:near': module 'math' has"),
    (change(score="math:pi"), "search.score 'math:pi' is no function"),
    (change(score="language_model"), "search.text is None, expected a file"),
    (change(text="x.npy"), "search.text is 'x.npy', expected a file with"),
    (
      change(score="language_model", text="x.npy"),
      "search.text 'x.npy' is missing",
    ),
    (
      change(score="language_model", text="ids.npy"),
      "search.text 'ids.npy' has 3 tokens, expected at least 2, from 0 to 9",
    ),
    (
      change(score="language_model", text="goal.npy"),
      "search.text 'goal.npy' is float32[10, 8], expected whole numbers",
    ),
    (lambda found: found | {"parameters": {"weight": 1}}, "'weight' stands"),
    (lambda found: found | {"parameters": {"lambda": 1}}, "'lambda' beside"),
    (lambda found: found | {"merge_method": "ties"}, "weight of merge_method"),
  ],
)
def test_what_cannot_be_searched_is_one_line(folder, capsys, edit, match):
  np.save(folder / "ids.npy", np.array([0, 1, llamas.VOCAB]))
  assert merge(folder, edit(config(folder))) == 1
  said = capsys.readouterr().err
  assert said.startswith("error: ") and said.count("\n") == 1
  assert re.search(re.escape(match), said), said
  assert not (folder / "out").exists()


def test_numbers_that_build_a_recipe_are_refused(folder, capsys):
  search = config(folder)["search"] | {"parameters": {"iterations": [1, 5]}}
  found = config(folder, merge_method=None, recipe="karcher", search=search)
  assert merge(folder, found) == 1
  assert "iterations of 'karcher' cannot be searched" in capsys.readouterr().err
