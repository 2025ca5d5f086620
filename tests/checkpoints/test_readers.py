"""Readers and writers: every layout, every byte, every broken header."""

import json
import os
import pathlib

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from weightspace import checkpoints
from weightspace.checkpoints import readers, tensor_files, writers

LEAVES = {
  "a/kernel": np.arange(24, dtype=np.float32).reshape(4, 3, 2),
  "a/bias": np.arange(3, dtype=ml_dtypes.bfloat16),
  "scale": np.array(2.5, np.float64),
  "steps": np.array([1, 2, 3], np.int64),
  "none": np.zeros((0, 3), np.float16),
}
SLICES = [
  slice(1, 3),
  slice(None, None, -1),
  slice(0, 4, 2),
  slice(3, 0, -2),
  slice(2, 2),
  (slice(1, 3), slice(0, 2)),
  (slice(None, None, -1), slice(2, 0, -1), slice(1)),
]


def file_of(folder: pathlib.Path, **leaves) -> pathlib.Path:
  path = folder / "model.safetensors"
  safetensors.numpy.save_file(leaves or LEAVES, path)
  return path


def sharded(folder: pathlib.Path) -> pathlib.Path:
  kinds = {name: (x.shape, x.dtype) for name, x in LEAVES.items()}
  writer = writers.begin(folder / "out", kinds, shard_bytes=64)
  for name in reversed(LEAVES):
    writer.write(name, LEAVES[name])
  writer.finish()
  return folder / "out"


def stored(folder: pathlib.Path, kind: str) -> pathlib.Path:
  if kind == "file":
    return file_of(folder)
  if kind == "folder":
    return file_of(folder).parent
  if kind == "shards":
    return sharded(folder)
  if kind == "npz":
    kept = {n: x for n, x in LEAVES.items() if x.dtype != ml_dtypes.bfloat16}
    np.savez(folder / "model.npz", **kept)
    return folder / "model.npz"
  tree = {"a": {"kernel": LEAVES["a/kernel"], "bias": LEAVES["a/bias"]}}
  checkpoints.save(folder / "orbax", tree | {"steps": LEAVES["steps"]})
  return folder / "orbax"


@pytest.mark.parametrize("kind", ["file", "folder", "shards", "npz", "orbax"])
def test_a_reader_gives_what_was_stored(tmp_path, kind):
  reader = checkpoints.open(stored(tmp_path, kind))
  assert set(reader.keys()) <= set(LEAVES) and "a/kernel" in reader.keys()
  for name in reader.keys():
    leaf = reader.read(name)
    assert (reader.shape(name), reader.dtype(name)) == (leaf.shape, leaf.dtype)
    assert leaf.dtype == LEAVES[name].dtype
    np.testing.assert_array_equal(leaf, LEAVES[name])


@pytest.mark.parametrize("kind", ["file", "npz", "orbax"])
@pytest.mark.parametrize("index", SLICES, ids=str)
def test_a_slice_is_the_slice_of_the_leaf(tmp_path, kind, index):
  reader = readers.open(stored(tmp_path, kind))
  part = reader.read("a/kernel", index)
  np.testing.assert_array_equal(part, LEAVES["a/kernel"][index])


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_empty_arrays_of_our_trees_are_there(tmp_path, name):
  tree = {"a": {"w": np.ones(2)}, "none": [np.zeros((0, 3), np.int8), None]}
  checkpoints.save(tmp_path / name, tree)
  reader = readers.open(tmp_path / name)
  assert reader.keys() == ["a/w", "none/0"]
  assert (reader.shape("none/0"), reader.dtype("none/0")) == ((0, 3), np.int8)
  assert reader.read("none/0").shape == (0, 3)
  assert reader.read("a/w").tolist() == [1.0, 1.0]


def test_a_slice_reads_its_rows_only(tmp_path):
  """Rows that are cut off the file do not matter to the rows before them."""
  path = file_of(tmp_path, w=LEAVES["a/kernel"])
  reader = readers.open(path)
  os.truncate(path, path.stat().st_size - 4)
  np.testing.assert_array_equal(
    reader.read("w", slice(0, 3)), LEAVES["a/kernel"][:3]
  )
  with pytest.raises(ValueError, match=r"model.safetensors.*'w' ends after"):
    reader.read("w")


def test_written_shards_are_what_other_readers_read(tmp_path):
  folder = sharded(tmp_path)
  index = json.loads((folder / "model.safetensors.index.json").read_text())
  total = sum(x.nbytes for x in LEAVES.values())
  assert index["metadata"]["total_size"] == total
  for name, shard in index["weight_map"].items():
    leaf = safetensors.numpy.load_file(folder / shard)[name]
    assert leaf.dtype == LEAVES[name].dtype
    np.testing.assert_array_equal(leaf, LEAVES[name])
  assert len(set(index["weight_map"].values())) > 1


def test_strided_and_device_arrays_keep_their_values(tmp_path):
  x = np.arange(12, dtype=np.float32).reshape(3, 4)
  leaves = {"t": x.T, "s": x[:, ::2], "r": x[::-1], "j": jnp.asarray(x).T}
  kinds = {n: (v.shape, np.dtype(v.dtype)) for n, v in leaves.items()}
  writer = writers.begin(tmp_path / "out.safetensors", kinds)
  for name, leaf in leaves.items():
    writer.write(name, leaf)
  writer.finish()
  found = safetensors.numpy.load_file(tmp_path / "out.safetensors")
  for name, leaf in leaves.items():
    np.testing.assert_array_equal(found[name], leaf)
  assert os.listdir(tmp_path) == ["out.safetensors"]


def test_a_killed_writer_goes_on(tmp_path):
  kinds = {name: (x.shape, x.dtype) for name, x in LEAVES.items()}
  first = writers.begin(tmp_path / "out", kinds, about="one")
  first.write("a/bias", LEAVES["a/bias"])
  with open(tmp_path / ".out.writing" / writers.JOURNAL, "a") as journal:
    journal.write('"a/ker')  # torn by the kill
  assert not (tmp_path / "out").exists()
  second = writers.begin(tmp_path / "out", kinds, about="one")
  assert second.done == {"a/bias"}
  for name in set(LEAVES) - second.done:
    second.write(name, LEAVES[name])
  third = writers.begin(tmp_path / "out", kinds, about="one")
  assert third.done == set(LEAVES)
  third.finish()
  reader = readers.open(tmp_path / "out")
  for name, leaf in LEAVES.items():
    np.testing.assert_array_equal(reader.read(name), leaf)


def test_another_plan_does_not_go_on(tmp_path):
  kinds = {"w": ((2,), np.dtype("float32"))}
  writers.begin(tmp_path / "out", kinds, about="one").write(
    "w", np.ones(2, np.float32)
  )
  assert writers.begin(tmp_path / "out", kinds, about="two").done == set()


def test_a_writer_refuses_what_was_not_planned(tmp_path):
  writer = writers.begin(tmp_path / "o", {"w": ((2,), np.dtype("float32"))})
  with pytest.raises(ValueError, match="'v' is not planned"):
    writer.write("v", np.ones(2))
  with pytest.raises(ValueError, match=r"'w' is \(3,\) float64, expected"):
    writer.write("w", np.ones(3))
  with pytest.raises(ValueError, match="'w' was not written"):
    writer.finish()
  with pytest.raises(ValueError, match="no leaves"):
    writers.begin(tmp_path / "p", {})
  with pytest.raises(ValueError, match="'w' is complex128, unknown"):
    writers.begin(tmp_path / "p", {"w": ((2,), np.dtype("complex128"))})
  with pytest.raises(ValueError, match="exists"):
    writers.begin(tmp_path, {"w": ((2,), np.dtype("float32"))})
  with pytest.raises(ValueError, match="bytes, but the disk has"):
    writers.begin(tmp_path / "q", {"w": ((2**55,), np.dtype("float32"))})
  assert not (tmp_path / ".q.writing").exists()


def header_file(
  folder: pathlib.Path, header, tail: bytes = b""
) -> pathlib.Path:
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  path = folder / "bad.safetensors"
  path.write_bytes(len(text).to_bytes(8, "little") + text + tail)
  return path


def fields(dtype="F32", shape=(2,), offsets=(0, 8)):
  return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


BROKEN = [
  (b"", "no JSON"),
  (b"[]", "no JSON object"),
  (b"[" * 100_000, "no JSON"),
  (b'{"w": 1, "w": 2}', "'w' stands twice"),
  ({"w": 3}, "'w' is 3, expected dtype and shape"),
  ({"w": fields(dtype="F31")}, "'w' has dtype 'F31'"),
  ({"w": fields(dtype=["F32"])}, "'w' has dtype"),
  ({"w": fields(shape=[-2])}, "'w' has shape"),
  ({"w": fields(shape=[True])}, "'w' has shape"),
  ({"w": fields(shape=[2**70])}, "'w' has shape"),
  ({"w": fields(shape="2")}, "'w' has shape"),
  ({"w": fields(offsets=[8, 0])}, "'w' has -8 bytes, expected 8"),
  ({"w": fields(offsets=[0])}, "'w' has data_offsets"),
  ({"w": fields(offsets=[0, 12])}, "'w' has 12 bytes, expected 8"),
  ({"w": fields(offsets=[8, 16])}, "'w' begins at byte 8, expected 0"),
  ({"v": fields(), "w": fields()}, "begins at byte 0, expected 8"),
  (
    {"w": fields(shape=[3], offsets=[0, 12])},
    "8 bytes of tensors, expected 12",
  ),
  ({}, "8 bytes of tensors, expected 0"),
]


@pytest.mark.parametrize("header, message", BROKEN, ids=lambda x: str(x)[:30])
def test_a_broken_header_is_named(tmp_path, header, message):
  path = header_file(tmp_path, header, bytes(8))
  with pytest.raises(ValueError, match=r"bad\.safetensors.*" + message):
    readers.open(path)


def test_mutated_headers_are_read_or_refused(tmp_path):
  """Whatever a header says, opening ends in a reader or one ValueError."""
  whole = file_of(tmp_path).read_bytes()
  rng = np.random.default_rng(0)
  length = 8 + int.from_bytes(whole[:8], "little")
  path, refused = tmp_path / "mutant.safetensors", 0
  for _ in range(2000):
    mutant = bytearray(whole)
    for _ in range(rng.integers(1, 4)):
      mutant[rng.integers(length)] = rng.integers(256)
    mutant = (
      mutant[: rng.integers(len(mutant) + 1)] if rng.random() < 0.2 else mutant
    )
    path.write_bytes(mutant)
    try:
      reader = readers.open(path)
    except ValueError as error:
      assert "mutant.safetensors" in str(error)
      refused += 1
    else:
      for name in reader.keys():
        reader.read(name)
  assert refused > 1000


def bad_index(folder, weight_map):
  index = folder / "model.safetensors.index.json"
  index.write_text(json.dumps({"weight_map": weight_map}))
  return folder


def test_an_index_must_agree_with_its_shards(tmp_path):
  file_of(tmp_path, w=np.ones(2), v=np.ones(3))
  both = {"w": "model.safetensors", "v": "model.safetensors"}
  assert readers.open(bad_index(tmp_path, both)).keys() == ["v", "w"]
  wrong = [
    ({"w": "../../etc/passwd"}, "'w' lies in '../../etc/passwd', expected a"),
    ({"w": "/etc/passwd"}, "'w' lies in '/etc/passwd', expected a file of"),
    (both | {"u": "other.safetensors"}, "shard 'other.safetensors' is missing"),
    (both | {"u": "model.safetensors"}, "'u' of the index is in no shard"),
    ({"w": "model.safetensors"}, "'v' lies in .* but the index says None"),
    ({}, "has no weight_map"),
  ]
  for weight_map, message in wrong:
    with pytest.raises(ValueError, match=message):
      readers.open(bad_index(tmp_path, weight_map))


def test_two_shards_with_one_name(tmp_path):
  for name in ("a", "b"):
    safetensors.numpy.save_file(
      {"w": np.ones(2)}, tmp_path / f"{name}.safetensors"
    )
  bad_index(tmp_path, {"w": "a.safetensors", "v": "b.safetensors"})
  with pytest.raises(ValueError, match="'w' lies in two shards"):
    readers.open(tmp_path)


def test_what_is_no_checkpoint_is_refused(tmp_path):
  with pytest.raises(ValueError, match="is missing, expected a checkpoint"):
    readers.open(tmp_path / "no")
  with pytest.raises(ValueError, match="holds 0 safetensors files"):
    readers.open(tmp_path)
  (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
  with pytest.raises(ValueError, match="a pickle, which is not read"):
    readers.open(tmp_path)
  with pytest.raises(ValueError, match="is a pickle, which can run code"):
    readers.open(tmp_path / "pytorch_model.bin")
  np.savez(tmp_path / "o.npz", w=np.array([None], object))
  with pytest.raises(ValueError, match="'w' is object, expected numbers"):
    readers.open(tmp_path / "o.npz")
  (tmp_path / "t.npz").write_bytes(b"PK\x03\x04 cut")
  with pytest.raises(ValueError, match=r"t\.npz.*truncated or foreign"):
    readers.open(tmp_path / "t.npz")
  reader = readers.open(file_of(tmp_path))
  for ask in (reader.read, reader.shape, reader.dtype):
    with pytest.raises(ValueError, match="no leaf 'x'"):
      ask("x")


def test_metadata_and_layout(tmp_path):
  kinds = {"w": ((2, 3), np.dtype("float16"))}
  head, entries = tensor_files.lay_out(kinds, "f", {"made": "here"})
  path = tmp_path / "f.safetensors"
  path.write_bytes(head + bytes(entries["w"].size))
  assert tensor_files.metadata(str(path)) == {"made": "here"}
  assert len(head) % 8 == 0
