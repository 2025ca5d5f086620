"""Merges from files to files: the same as in memory, however they are cut."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest

import weightspace as ws
from tests.merge.test_recipes_matrix import ROWS
from weightspace import checkpoints
from weightspace.checkpoints import readers
from weightspace.merge.files import memory_slices, pipes, work_items

KEY = jax.random.key(7)
KINDS = {
  "embed": ((10, 4), np.float32),
  "layer.0.weight": ((6, 4), np.float32),
  "layer.0.bias": ((6,), np.float32),
  "layer.1.weight": ((6, 4), np.float32),
  "scale": ((), np.float32),
  "steps": ((3,), np.int32),
}


def drawn(seed: int, dtype=np.float32) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(seed)
  return {
    name: rng.integers(9, size=shape).astype(kind)
    if kind is np.int32
    else rng.normal(size=shape).astype(dtype)
    for name, (shape, kind) in KINDS.items()
  }


def saved(folder: pathlib.Path, count: int, dtype=np.float32) -> list[str]:
  """Write a base and models that lie around it; return their paths."""
  base, paths = drawn(0, dtype), []
  for index in range(count + 1):
    model = dict(base)
    for name, noise in drawn(index, dtype).items() if index else ():
      if base[name].dtype == dtype:
        model[name] = (base[name] + dtype(0.3) * noise).astype(dtype)
    path = folder / f"{index}.safetensors"
    checkpoints.save(path, model)
    paths.append(str(path))
  return paths


def stacked(paths: list[str]):
  return ws.stack([checkpoints.restore(path) for path in paths])


def read(path) -> dict[str, np.ndarray]:
  reader = readers.open(path)
  return {name: reader.read(name) for name in reader.keys()}


def close(got, wanted):
  assert set(got) == set(wanted)
  for name, leaf in wanted.items():
    leaf = np.asarray(leaf)
    assert (got[name].dtype, got[name].shape) == (leaf.dtype, leaf.shape)
    np.testing.assert_allclose(
      got[name].astype(np.float64), leaf.astype(np.float64), 1e-5, 1e-6
    )


def recipe_cases():
  quick = {"uniform", "ties", "dare", "task_arithmetic", "slerp", "transfer"}
  for name, row in ROWS.items():
    if row.streams and not row.stack:
      marks = () if name in quick else pytest.mark.slow
      yield pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", list(recipe_cases()))
def test_a_streamed_merge_is_the_merge_in_memory(tmp_path, name):
  row = ROWS[name]
  recipe = ws.merge.RECIPES[name](**row.hyper)
  start, *models = saved(tmp_path, max(row.least, row.most))
  base = start if row.base or "base" in recipe.needs else None
  given = dict.fromkeys(row.extra, start)
  if row.statistics:
    pytest.skip("its statistics are of another tree")
  key = KEY if row.key else None
  ws.merge.stream(recipe, models, tmp_path / "out", base, key=key, **given)
  trees = {n: checkpoints.restore(path) for n, path in given.items()}
  wanted = recipe(
    stacked(models),
    base=base and checkpoints.restore(base),
    key=key,
    **trees,
  )
  close(read(tmp_path / "out"), wanted)


@pytest.mark.parametrize("name", ["linear", "task_arithmetic", "dare"])
def test_many_models_stream(tmp_path, name):
  start, *models = saved(tmp_path, 7)
  hyper = {"linear": {"weights": list(range(1, 8))}, "dare": {"rate": 0.5}}
  recipe = ws.merge.RECIPES[name](**hyper.get(name, {"scale": 0.3}))
  base, key = (None, None) if name == "linear" else (start, KEY)
  key = key if name == "dare" else None
  ws.merge.stream(recipe, models, tmp_path / "out", base, key=key)
  tree = base and checkpoints.restore(base)
  close(read(tmp_path / "out"), recipe(stacked(models), base=tree, key=key))


def test_neither_models_nor_leaves_say_what_is_needed():
  """By shapes alone: two or sixteen models, of a leaf that is large or huge."""

  def need(recipe, models, rows):
    kinds = {"embed": ((rows, 1000), np.dtype(np.float32))}
    reader = readers.Reader("none", kinds, lambda name, index: None)
    part = work_items.Part(recipe, (reader,) * models)
    cut = memory_slices.cut(part, recipe.steps, "embed", None)
    assert [piece.start for piece in cut[1:]] == [
      1000 * piece.rows.start for piece in cut[1:]
    ]
    return memory_slices.need(part, recipe.steps, "embed", None)

  two = need(ws.merge.uniform(), 2, 30_000)
  assert need(ws.merge.uniform(), 16, 30_000) < 1.1 * two
  assert need(ws.merge.uniform(), 16, 960_000) < 1.1 * two
  whole = need(ws.merge.slerp(0.5), 2, 30_000)  # looks at whole leaves
  assert whole > 2 * two


def test_rows_within_a_budget_give_the_same_bytes(tmp_path):
  start, *models = saved(tmp_path, 3)
  recipe = ws.merge.dare(0.5, scale=0.5)
  ws.merge.stream(recipe, models, tmp_path / "whole", start, key=KEY)
  part = work_items.Part(
    recipe, tuple(map(readers.open, models)), readers.open(start)
  )
  tight = 4 * memory_slices.need_bytes(4, 4, 3, True)
  assert (
    len(memory_slices.cut(part, recipe.steps, "embed", tight)) == 5
  )  # equal ones
  assert work_items.plan([part], key=KEY, max_memory=tight).peak <= tight
  ws.merge.stream(
    recipe, models, tmp_path / "rows", start, key=KEY, max_memory=tight
  )
  whole, rows = read(tmp_path / "whole"), read(tmp_path / "rows")
  for name in whole:
    np.testing.assert_array_equal(whole[name], rows[name])


def test_bfloat16_stays_and_another_dtype_is_cast_once(tmp_path):
  half = ml_dtypes.bfloat16
  start, *models = saved(tmp_path, 2, half)
  recipe = ws.merge.task_arithmetic(0.4)
  ws.merge.stream(recipe, models, tmp_path / "a", start)
  wide = recipe(
    ws.trees.stack([widened(path) for path in models]), base=widened(start)
  )
  got = read(tmp_path / "a")["embed"]
  assert got.dtype == half
  np.testing.assert_array_equal(got, np.asarray(wide["embed"]).astype(half))
  ws.merge.stream(recipe, models, tmp_path / "b", start, dtype=np.float32)
  got = read(tmp_path / "b")
  assert got["steps"].dtype == np.int32
  np.testing.assert_allclose(got["embed"], wide["embed"], 1e-6)


def widened(path):
  return {
    name: x.astype(np.float32) if x.dtype == ml_dtypes.bfloat16 else x
    for name, x in checkpoints.restore(path).items()
  }


def digest(folder) -> dict[str, str]:
  return {
    name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
    for name in sorted(os.listdir(folder))
  }


class Stop(Exception):
  pass


@pytest.mark.parametrize("recipe", [ws.merge.ties(0.4), ws.merge.uniform()])
def test_an_interrupted_merge_goes_on_to_the_same_bytes(tmp_path, recipe):
  start, *models = saved(tmp_path, 3)
  base = start if "base" in recipe.needs else None
  options = {"base": base, "shard_bytes": 150, "extra": {"README.md": "card"}}
  ws.merge.stream(recipe, models, tmp_path / "whole", **options)
  out, read_before, calls = tmp_path / "out", [], 0
  while not out.exists():
    limit = sum(range(calls + 2))

    def stop(done, total, limit=limit):
      read_before.append(done)
      if len(read_before) >= limit:
        raise Stop

    calls += 1
    read_before.clear()
    try:
      ws.merge.stream(recipe, models, out, progress=stop, **options)
    except Stop:
      assert not out.exists()
    assert calls < 50
  assert calls > 2
  assert digest(out) == digest(tmp_path / "whole")
  assert sorted(os.listdir(tmp_path)) == sorted(
    [*map(os.path.basename, [start, *models]), "whole", "out"]
  )


def test_another_recipe_does_not_go_on(tmp_path):
  _, *models = saved(tmp_path, 2)

  def stop(done, total):
    raise Stop

  plans = []
  for weights in ([1.0, 0.0], [0.0, 1.0], [0.0, 1.0]):
    recipe = ws.merge.linear(weights)
    with pytest.raises(Stop):
      ws.merge.stream(recipe, models, tmp_path / "o", progress=stop)
    journal = tmp_path / ".o.writing" / "journal.jsonl"
    plans.append(json.loads(journal.read_text().splitlines()[0])["plan"])
  assert plans[0] != plans[1] == plans[2]
  ws.merge.stream(ws.merge.linear([0.0, 1.0]), models, tmp_path / "o")
  close(
    read(tmp_path / "o"),
    checkpoints.restore(models[1])
    | {"steps": checkpoints.restore(models[0])["steps"]},
  )


def test_parts_of_one_output(tmp_path):
  start, *models = saved(tmp_path, 2)

  def view(path, names):
    reader = readers.open(path)
    kinds = {name: reader.kinds[name] for name in names}
    return reader._replace(kinds=kinds)

  ends = ["embed", "scale", "steps"]
  middle = [name for name in KINDS if name not in ends]
  parts = [
    work_items.Part(
      ws.merge.uniform(), tuple(view(path, ends) for path in models)
    ),
    work_items.Part(
      ws.merge.task_arithmetic(1.0),
      (view(models[0], middle),),
      view(start, middle),
    ),
  ]
  ws.merge.stream_parts(parts, tmp_path / "out")
  got = read(tmp_path / "out")
  mean = ws.merge.uniform()(stacked(models))
  close({n: got[n] for n in ends}, {n: x for n, x in mean.items() if n in ends})
  first = checkpoints.restore(models[0])
  close({n: got[n] for n in middle}, {n: first[n] for n in middle})
  with pytest.raises(ValueError, match="'embed' belongs to two parts"):
    ws.merge.stream_parts([parts[0], parts[0]], tmp_path / "two")


def test_a_plan_says_what_a_merge_takes(tmp_path):
  start, *models = saved(tmp_path, 2)
  part = work_items.Part(
    ws.merge.ties(0.5), tuple(map(readers.open, models)), readers.open(start)
  )
  plan = ws.merge.plan([part])
  size = sum(x.nbytes for x in drawn(0).values())
  assert plan.written == size and plan.passes == part.recipe.passes
  assert plan.read == plan.passes * 3 * size
  assert plan.peak > 3 * drawn(0)["embed"].nbytes
  assert list(plan.kinds) == readers.open(start).keys()


def test_bad_input_is_named_and_nothing_is_written(tmp_path):
  start, *models = saved(tmp_path, 2)
  before = sorted(os.listdir(tmp_path))
  out = tmp_path / "out"

  def refuse(match, *args, **options):
    with pytest.raises(ValueError, match=match):
      ws.merge.stream(*args, **options)
    assert sorted(os.listdir(tmp_path)) == before

  uniform = ws.merge.uniform()
  refuse("no inputs", uniform, [], out)
  refuse("are one checkpoint", uniform, [models[0], models[0]], out)
  refuse("needs base=", ws.merge.ties(0.5), models, out)
  refuse("needs key=", ws.merge.dare(0.5), models, out, start)
  refuse("unknown input 'fisher'", uniform, models, out, fisher=start)
  refuse("exists", uniform, models, start)
  refuse("returns a Stack", ws.merge.tall(), models, out, start)
  refuse("does not stream", ws.merge.opcm(), models, out, start)
  refuse("made for 3 models", ws.merge.linear([1, 1, 1]), models, out)
  refuse(
    "max_memory: 'embed' needs",
    ws.merge.ties(0.5),
    models,
    out,
    start,
    max_memory=100,
  )
  other = tmp_path / "other.safetensors"
  for change, match in [
    ({"scale": None}, "other.*'scale' of .* missing"),
    ({"more": np.ones(2)}, "other.*'more' is not in"),
    ({"embed": np.ones((4, 10))}, r"other.*'embed' is \(4, 10\)"),
  ]:
    tree = {n: x for n, x in (drawn(0) | change).items() if x is not None}
    checkpoints.save(other, tree, overwrite=True)
    before = sorted(os.listdir(tmp_path))
    refuse(match, uniform, [models[0], other], out)


def test_nan_names_the_file_and_the_tensor(tmp_path):
  _, *models = saved(tmp_path, 2)
  tree = drawn(1)
  tree["layer.0.bias"][3] = np.nan
  checkpoints.save(models[1], tree, overwrite=True)
  with pytest.raises(ValueError, match=r"2\.safetensors.*NaN in 'layer.0.bi"):
    ws.merge.stream(ws.merge.uniform(), models, tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_reading_ahead_and_writing_behind():
  order = []

  def load(n):
    order.append(("load", n))
    return np.full(2, n, np.int8)

  counter = pipes.Counter(6, lambda done, total: order.append((done, total)))
  with pipes.behind() as write:
    for n, x in pipes.ahead([1, 2, 3], load, counter):
      assert x[0] == n
      write(order.append, ("write", n))
  assert [o for o in order if o[0] == "write"] == [
    ("write", n) for n in (1, 2, 3)
  ]
  assert order.index(("load", 2)) < order.index((4, 6))
  assert [o for o in order if o[1] == 6] == [(2, 6), (4, 6), (6, 6)]


def test_what_a_thread_raises_reaches_the_caller():
  def fail(*_):
    raise ValueError("no")

  with pytest.raises(ValueError, match="no"):
    list(pipes.ahead([1], fail))
  with pytest.raises(ValueError, match="no"):
    with pipes.behind() as write:
      write(fail)


SLOWLY = """
import sys, time
import weightspace as ws
start, out, *models = sys.argv[1:]
ws.merge.stream(
  ws.merge.ties(0.4), models, out, start, shard_bytes=150,
  progress=lambda done, total: time.sleep(0.1),
)
"""


@pytest.mark.slow
def test_a_killed_merge_goes_on_to_the_same_bytes(tmp_path):
  start, *models = saved(tmp_path, 2)
  recipe = ws.merge.ties(0.4)
  ws.merge.stream(recipe, models, tmp_path / "whole", start, shard_bytes=150)
  out, rng, kills = tmp_path / "out", np.random.default_rng(0), 0
  root = pathlib.Path(__file__).parents[3]
  env = os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
  while not out.exists():
    command = [sys.executable, "-c", SLOWLY, start, str(out), *models]
    worker = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)
    try:
      worker.communicate(timeout=2.0 + 2.0 * rng.random() + kills / 2)
    except subprocess.TimeoutExpired:
      worker.kill()
      worker.communicate()
      kills += 1
    assert kills < 20
  assert kills
  assert digest(out) == digest(tmp_path / "whole")


def test_statistics_are_checkpoints_too(tmp_path):
  _, *models = saved(tmp_path, 3)
  recipe = ws.merge.fisher()
  fishers = []
  for index in range(3):
    tree = {
      name: x**2 if x.dtype == np.float32 else x
      for name, x in drawn(10 + index).items()
    }
    fishers.append(str(tmp_path / f"fisher{index}.safetensors"))
    checkpoints.save(fishers[-1], tree)
  whole = tmp_path / "fisher.safetensors"
  checkpoints.save(whole, stacked(fishers))
  ws.merge.stream(recipe, models, tmp_path / "a", fisher=fishers)
  ws.merge.stream(recipe, models, tmp_path / "b", fisher=whole)
  wanted = recipe(stacked(models), fisher=stacked(fishers))
  close(read(tmp_path / "a"), wanted)
  close(read(tmp_path / "b"), wanted)


def test_gram_matrices_stream_with_their_models(tmp_path):
  """Leaves without one are empty; the ones of two models differ in nothing."""
  rng, models, grams = np.random.default_rng(0), [], []
  for index in range(2):
    rows = rng.normal(size=(9, 4)).astype(np.float32)
    gram = (rows.T @ rows / 9).reshape(4, 1, 4, 1)
    model = {"kernel": rng.normal(size=(4, 3)).astype(np.float32)}
    tree = {"kernel": gram, "bias": np.zeros(0, np.float32)}
    models.append(model | {"bias": np.ones(3, np.float32)})
    grams.append(tree)
    checkpoints.save(tmp_path / f"m{index}.safetensors", models[-1])
    checkpoints.save(tmp_path / f"g{index}.safetensors", tree)
  recipe = ws.merge.regmean()
  ws.merge.stream(
    recipe,
    [tmp_path / f"m{index}.safetensors" for index in range(2)],
    tmp_path / "out",
    gram=[tmp_path / f"g{index}.safetensors" for index in range(2)],
  )
  close(read(tmp_path / "out"), recipe(ws.stack(models), gram=grams))
