"""Checkpoints: exact round trips, whole or nothing, clear refusals."""

import os
import pathlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from weightspace.checkpoints import folders, tree_json
from weightspace.types import Member

NAMES = ("model", "model.safetensors")
BACKENDS = pytest.mark.parametrize("name", NAMES)


def same(a, b):
  """Equal structure, dtypes, shapes and bytes."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    x, y = np.asarray(x), np.asarray(y)
    assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


@BACKENDS
def test_round_trip_is_exact(tmp_path, name):
  tree = {
    "dense": {"kernel": np.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)},
    "layers": [{"w": np.int8([1, -1])}, (np.float16(2.0), None)],
    "half": jnp.array([1.0, 2.5], jnp.bfloat16),
    "step": 3,
    "rate": 0.1,
    "on": True,
    "empty": {},
    "none": [],
    "no_rows": np.zeros((0, 3), np.int32),
    "z": np.complex64([1j]),
    "a name": np.uint64([2**63]),
  }
  folders.save(tmp_path / name, tree)
  out = folders.restore(tmp_path / name)
  same(out, tree)
  assert isinstance(out["layers"][1], tuple)
  assert all(type(x) is np.ndarray for x in jax.tree.leaves(out))


@BACKENDS
def test_prng_keys_are_wrapped_again(tmp_path, name):
  keys = jax.random.split(jax.random.key(3), 2)
  rbg = jax.random.key(1, impl="rbg")
  folders.save(tmp_path / name, {"keys": keys, "rbg": rbg})
  out = folders.restore(tmp_path / name)
  assert out["keys"].dtype == keys.dtype and out["rbg"].dtype == rbg.dtype
  same(jax.random.key_data(out["keys"]), jax.random.key_data(keys))


@BACKENDS
def test_strided_arrays_keep_their_values(tmp_path, name):
  x = np.arange(12.0, dtype=np.float32).reshape(3, 4)
  tree = {
    "t": x.T,
    "s": x[:, ::2],
    "r": x[::-1],
    "b": np.broadcast_to(x, (2, 3, 4)),
  }
  folders.save(tmp_path / name, tree)
  out = folders.restore(tmp_path / name)
  for key, leaf in tree.items():
    np.testing.assert_array_equal(out[key], leaf)


def test_sharded_arrays_are_stored_whole(tmp_path):
  mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
  x = jnp.arange(8.0)
  shards = jax.device_put(x, jax.NamedSharding(mesh, jax.P("x")))
  for name in NAMES:
    folders.save(tmp_path / name, {"x": shards})
    np.testing.assert_array_equal(folders.restore(tmp_path / name)["x"], x)


@pytest.mark.parametrize("dtype", sorted(tree_json.ORBAX_ONLY))
def test_rare_dtypes_are_orbax_only(tmp_path, dtype):
  x = np.array([[1, 0, 1]]).astype(jnp.dtype(dtype))
  folders.save(tmp_path / "model", {"x": x})
  same(folders.restore(tmp_path / "model"), {"x": x})
  with pytest.raises(ValueError, match=f"'x' is {dtype}.*Orbax path"):
    folders.save(tmp_path / "m.safetensors", {"x": x})


@BACKENDS
def test_member_lies_beside_the_tree(tmp_path, name):
  record = Member("abc", seed=7, data="mnist", recipe="sgd")
  folders.save(tmp_path / name, {"w": np.ones(1)}, member=record)
  assert folders.member(tmp_path / name) == record
  folders.save(tmp_path / f"2{name}", {"w": np.ones(1)})
  assert folders.member(tmp_path / f"2{name}") is None
  same(folders.restore(tmp_path / name), {"w": np.ones(1)})


@BACKENDS
@pytest.mark.parametrize(
  "tree, match",
  [
    ({}, "no arrays"),
    ({"a": {}}, "no arrays"),
    (np.ones(2), "a ndarray, expected a dict"),
    ({"a": {"b": "text"}}, "'a/b' is a str"),
    ({"a": np.array(["x"])}, "'a' is <U1"),
    ({"a": np.array([object()])}, "'a' is object"),
    ({0: np.ones(1)}, "key 0 under ''"),
    ({"a": {"": np.ones(1)}}, "key '' under 'a'"),
  ],
)
def test_what_has_no_form_is_refused_by_name(tmp_path, name, tree, match):
  with pytest.raises(ValueError, match=match):
    folders.save(tmp_path / name, tree)
  assert not os.listdir(tmp_path)


def test_names_that_a_format_cannot_tell_apart(tmp_path):
  tree = {"a": {"b": np.ones(1)}, "a.b": np.zeros(1)}
  with pytest.raises(ValueError, match=r"'a\.b' and 'a/b' are one name"):
    folders.save(tmp_path / "model", tree)
  folders.save(tmp_path / "m.safetensors", tree)
  same(folders.restore(tmp_path / "m.safetensors"), tree)
  with pytest.raises(ValueError, match="'__metadata__' is reserved"):
    folders.save(tmp_path / "n.safetensors", {"__metadata__": np.ones(1)})


@BACKENDS
def test_nothing_is_overwritten_unasked(tmp_path, name):
  path = tmp_path / name
  folders.save(path, {"w": np.zeros(1)})
  with pytest.raises(ValueError, match=f"{name}' exists, expected"):
    folders.save(path, {"w": np.ones(1)})
  assert folders.restore(path)["w"] == 0
  folders.save(path, {"w": np.ones(1)}, overwrite=True)
  assert folders.restore(path)["w"] == 1
  assert os.listdir(tmp_path) == [name]


@BACKENDS
def test_only_checkpoints_are_ever_replaced(tmp_path, name):
  (tmp_path / name).mkdir()
  (tmp_path / name / "thesis.tex").write_text("precious")
  with pytest.raises(ValueError, match="is no checkpoint, so"):
    folders.save(tmp_path / name, {"w": np.ones(1)}, overwrite=True)
  assert (tmp_path / name / "thesis.tex").read_text() == "precious"


@BACKENDS
def test_a_failed_save_leaves_the_path_as_it_was(tmp_path, name, monkeypatch):
  path = tmp_path / name
  folders.save(path, {"w": np.zeros(1)})
  writer = "_write_safetensors" if "." in name else "_write_orbax"

  def full(aside, arrays, record):
    pathlib.Path(aside).write_text("half")
    raise OSError("No space left on device")

  with monkeypatch.context() as patch:
    patch.setattr(folders, writer, full)
    with pytest.raises(OSError, match="No space"):
      folders.save(path, {"w": np.ones(1)}, overwrite=True)
  assert folders.restore(path)["w"] == 0
  assert os.listdir(tmp_path) == [name]


@BACKENDS
def test_relative_paths_and_new_parents(tmp_path, name, monkeypatch):
  monkeypatch.chdir(tmp_path)
  folders.save(f"new/{name}", {"w": np.ones(2)})
  same(folders.restore(f"new/{name}"), {"w": np.ones(2)})


@BACKENDS
def test_missing_and_foreign_paths(tmp_path, name):
  for read in (folders.restore, folders.member):
    with pytest.raises(ValueError, match=f"{name}' is missing, expected a"):
      read(tmp_path / name)
  other = tmp_path / name
  other.mkdir() if "." in name else other.write_bytes(b"hello")
  with pytest.raises(ValueError, match="is no checkpoint, expected a"):
    folders.restore(other)


@pytest.mark.parametrize("keep", [0, 4, 60, 0.5, 0.99])
def test_truncated_safetensors(tmp_path, keep):
  path = tmp_path / "m.safetensors"
  folders.save(path, {"w": np.ones(100), "b": np.ones(3)})
  data = path.read_bytes()
  path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
  with pytest.raises(ValueError, match="truncated or foreign, expected a safe"):
    folders.restore(path)


def test_truncated_orbax(tmp_path):
  folders.save(tmp_path / "m", {"w": np.random.default_rng(0).normal(size=999)})
  files = [f for f in (tmp_path / "m").rglob("*") if f.stat().st_size > 500]
  files = [f for f in files if f.is_file() and f.name[0] not in "_c"]
  assert files
  for file in files:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="truncated or foreign, expected an O"):
      folders.restore(tmp_path / "m")
    file.write_bytes(data)
  folders.restore(tmp_path / "m")


def test_a_file_that_lacks_what_its_record_lists(tmp_path):
  path = tmp_path / "m.safetensors"
  folders.save(path, {"w": np.ones(1), "b": [np.ones(2)]})
  with folders.safe_open(path, "np") as file:
    metadata = file.metadata()
  safetensors.numpy.save_file({"w": np.ones(1)}, path, metadata)
  with pytest.raises(ValueError, match=r"foreign.*'b/0' is missing"):
    folders.restore(path)


def test_checkpoints_of_other_tools(tmp_path):
  import orbax.checkpoint as ocp

  tree = {"model.layers.0": np.ones(2), "a/b": np.zeros(1)}
  safetensors.numpy.save_file(tree, tmp_path / "hf.safetensors")
  out = folders.restore(tmp_path / "hf.safetensors")
  same(out, {"model.layers.0": np.ones(2), "a": {"b": np.zeros(1)}})
  assert folders.member(tmp_path / "hf.safetensors") is None
  half = np.ones(2, ml_dtypes.bfloat16)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "orbax", {"a": [half, {"b": jnp.ones(3)}]})
  same(
    folders.restore(tmp_path / "orbax"),
    {"a": [half, {"b": np.float32([1, 1, 1])}]},
  )
  safetensors.numpy.save_file(
    {"a": tree["a/b"], "a/b": tree["a/b"]}, tmp_path / "x.safetensors"
  )
  with pytest.raises(ValueError, match="'a/b' lies below another array"):
    folders.restore(tmp_path / "x.safetensors")
