"""Folders as publishers lay them out: one rule says what the model is."""

import json

import numpy as np
import pytest
import safetensors.numpy

from weightspace import checkpoints
from weightspace.checkpoints import places, publishers, readers, writers

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)
TREE = {"a": {"w": KERNEL}, "b": np.ones(2)}


def put(folder, name, **leaves):
  safetensors.numpy.save_file(leaves, folder / f"{name}.safetensors")


@pytest.mark.parametrize(
  "other",
  ["consolidated", "adapter_model", "optimizer", "model.fp16", "zzz"],
)
def test_the_model_is_the_model_whatever_lies_beside_it(tmp_path, other):
  put(tmp_path, "model", w=np.ones(2))
  put(tmp_path, other, x=np.zeros(2))
  assert readers.open(tmp_path).keys() == ["w"]
  assert readers.weight_files(str(tmp_path)) == ["model.safetensors"]


def test_an_index_beside_another_and_one_that_is_stale(tmp_path):
  kinds = {n: ((4,), np.dtype("float32")) for n in "ab"}
  writer = writers.begin(tmp_path / "m", kinds, shard_bytes=16)
  for name in kinds:
    writer.write(name, np.ones(4, np.float32))
  writer.finish()
  put(tmp_path / "m", "consolidated", x=np.zeros(2))
  index = {"weight_map": {"x": "consolidated.safetensors"}}
  second = tmp_path / "m" / "consolidated.safetensors.index.json"
  second.write_text(json.dumps(index))
  assert readers.open(tmp_path / "m").keys() == ["a", "b"]
  assert len(readers.weight_files(str(tmp_path / "m"))) == 3
  put(tmp_path / "m", "model", new=np.ones(1))  # saved later, in one file
  assert readers.open(tmp_path / "m").keys() == ["new"]


def test_shards_without_an_index_are_a_model_when_all_are_there(tmp_path):
  put(tmp_path, "model-00001-of-00002", a=np.ones(1))
  with pytest.raises(ValueError, match="expected one file, or shards"):
    put(tmp_path, "model-00003-of-00002", c=np.ones(1))
    put(tmp_path, "model-00004-of-00002", d=np.ones(1))
    readers.open(tmp_path)
  for number in (3, 4):
    (tmp_path / f"model-0000{number}-of-00002.safetensors").unlink()
  put(tmp_path, "model-00002-of-00002", b=np.ones(1))
  assert readers.open(tmp_path).keys() == ["a", "b"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  import orbax.checkpoint as ocp

  at = tmp_path_factory.mktemp("runs")
  with ocp.CheckpointManager(at / "run") as manager:
    for step in (2, 10):
      tree = {"a": TREE["a"], "b": TREE["b"] * step}
      manager.save(step, args=ocp.args.StandardSave(tree))
    manager.wait_until_finished()
  with ocp.CheckpointManager(at / "items") as manager:
    both = {name: ocp.args.StandardSave(TREE) for name in ("params", "opt")}
    manager.save(3, args=ocp.args.Composite(**both))
    manager.wait_until_finished()
  (at / "run" / "12.orbax-checkpoint-tmp-1").mkdir()
  return at


@pytest.mark.parametrize(
  "name, step",
  [
    ("run", 10),
    ("run@2", 2),
    ("run/2", 2),
    ("run/10/default", 10),
    ("run@10", 10),
  ],
)
def test_a_run_stands_for_its_last_step(runs, name, step):
  reader = checkpoints.open(runs / name)
  assert reader.keys() == ["a/w", "b"]
  assert reader.read("b").tolist() == [step, step]
  assert checkpoints.restore(runs / name)["b"].tolist() == [step, step]


def test_items_and_steps_that_are_not_clear_are_named(runs):
  with pytest.raises(ValueError, match="has the items opt, params, expected"):
    checkpoints.open(runs / "items")
  assert checkpoints.open(runs / "items" / "3" / "params").shape("b") == (2,)
  with pytest.raises(ValueError, match="has no step '7', the last is 10"):
    checkpoints.open(runs / "run@7")


def test_a_store_never_becomes_a_local_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ("gs://b/m.safetensors", "s3://b/m.safetensors"):
    with pytest.raises(ValueError, match="safetensors cannot lie in a store"):
      checkpoints.save(name, {"w": np.ones(2)})
  with pytest.raises(ValueError, match="files of safetensors cannot lie in"):
    writers.begin("gs://b/m", {"w": ((2,), np.dtype("float32"))})
  assert list(tmp_path.iterdir()) == []


def test_a_store_is_reached_by_epath(tmp_path, monkeypatch):
  """A store whose objects of `etils.epath` lie on this machine."""
  from etils import epath

  assert str(places.place("gs://bucket/a") / "b") == "gs://bucket/a/b"

  def here(path):
    return epath.Path(tmp_path / str(path).split("://")[-1])

  monkeypatch.setattr(places, "place", here)
  checkpoints.save("here://run/1", TREE)
  assert (tmp_path / "run" / "1" / publishers.TREE).exists()
  assert checkpoints.restore("here://run")["b"].tolist() == [1.0, 1.0]
  assert checkpoints.open("here://run/1").shape("a/w") == (2, 3)
  with pytest.raises(ValueError, match="exists, expected a new path"):
    checkpoints.save("here://run/1", TREE)
  checkpoints.save("here://run/1", {"c": np.zeros(1)}, overwrite=True)
  assert checkpoints.open("here://run/1").keys() == ["c"]
  assert places.is_remote("here://run")
