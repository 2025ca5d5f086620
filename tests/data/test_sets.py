"""Loading: layouts round trip, damage is refused by name, look-up in order."""

import gzip
import hashlib
import io
import math
import struct
import sys
import tarfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from weightspace import data
from weightspace.data import layouts, sources

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = sources.IDX_FILES
CHEAP = hypothesis.settings(max_examples=40, deadline=None)


def idx(array):
  """The IDX layout, written from its description."""
  sizes = struct.pack(f">{array.ndim}I", *array.shape)
  return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def images(count, start=0):
  """Images that tell their own number in their first two pixels."""
  number = np.arange(start, start + count)
  x = np.random.default_rng(start).integers(0, 256, (count, 5, 4), np.uint8)
  x[:, 0, 0], x[:, 0, 1] = number // 256, number % 256
  return x, (number % 10).astype(np.uint8)


def numbers(part):
  pixels = np.rint(part["x"][:, 0, :2, 0] * 255).astype(int)
  return (pixels @ [256, 1]).tolist()


def write_pair(folder, names, count, start):
  folder.mkdir(parents=True, exist_ok=True)
  for name, array in zip(names, images(count, start)):
    (folder / name).write_bytes(gzip.compress(idx(array)))


def write_idx(folder, train=200, test=50):
  write_pair(folder, (IMAGES, LABELS), train, 0)
  write_pair(folder, (TEST_IMAGES, TEST_LABELS), test, 1000)
  return folder


def write_cifar(folder, count=20):
  rng = np.random.default_rng(0)
  folder.mkdir(parents=True)
  for name in sources.CIFAR_FILES:
    records = rng.integers(0, 256, (count, 3073), np.uint8)
    records[:, 0] = np.arange(count) % 10
    records.tofile(folder / name.split("/")[1])
  return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("WEIGHTSPACE_DATA", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  return tmp_path_factory.mktemp("files") / "some.gz"


@CHEAP
@hypothesis.given(st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_idx_round_trip(file, shape):
  array = np.arange(math.prod(shape), dtype=np.uint8).reshape(shape)
  file.write_bytes(gzip.compress(idx(array)))
  np.testing.assert_array_equal(layouts.read_idx(file, len(shape)), array)


@CHEAP
@hypothesis.given(st.floats(0, 1, exclude_max=True), st.booleans())
def test_truncated_idx_is_refused_by_name(file, share, outside):
  whole = idx(images(7)[0])
  packed = gzip.compress(whole)
  cut = packed[: int(share * len(packed))]
  if not outside:
    cut = gzip.compress(whole[: int(share * len(whole))])
  file.write_bytes(cut)
  with pytest.raises(ValueError, match=r"some\.gz"):
    layouts.read_idx(file, 3)


def test_bytes_after_the_last_are_refused(file):
  file.write_bytes(gzip.compress(idx(images(7)[0]) + b"x"))
  with pytest.raises(ValueError, match=r"some\.gz: 157 bytes.*expected 156"):
    layouts.read_idx(file, 3)


@CHEAP
@hypothesis.given(st.binary(max_size=40), st.booleans())
def test_foreign_bytes_never_crash(file, content, packed):
  file.write_bytes(gzip.compress(content) if packed else content)
  with pytest.raises(ValueError, match=r"some\.gz"):
    layouts.read_idx(file, 3)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "notmnist"])
@pytest.mark.parametrize("place", ["folder", "sub-folder", "relative", "cache"])
def test_idx_sets_split_and_scale(name, place, tmp_path, cache, monkeypatch):
  monkeypatch.chdir(tmp_path)
  where = {
    "folder": tmp_path / "some",
    "sub-folder": tmp_path / "some" / name,
    "relative": tmp_path / "some" / name,
    "cache": cache / name,
  }[place]
  write_idx(where)
  given = {"relative": "some", "cache": None}.get(place, tmp_path / "some")
  splits = data.load(name, given)
  train, validation, test = map(numbers, splits)
  assert sorted(train + validation) == list(range(200))
  assert (len(validation), test) == (20, list(range(1000, 1050)))
  for part in splits:
    assert part["x"].shape[1:] == (5, 4, 1) and part["x"].dtype == np.float32
    assert part["y"].dtype == np.int32
    np.testing.assert_array_equal(part["y"], np.array(numbers(part)) % 10)
  assert np.bincount(splits.validation["y"]).tolist() == [2] * 10
  x = images(50, 1000)[0][..., None]
  np.testing.assert_array_equal(splits.test["x"], x / np.float32(255))


def test_not_mnist_from_its_test_pair_alone(tmp_path):
  write_pair(tmp_path / "notmnist", (TEST_IMAGES, TEST_LABELS), 500, 0)
  splits = data.load("notmnist", tmp_path)
  parts = [numbers(part) for part in splits]
  assert [len(part) for part in parts] == [360, 40, 100]
  assert sorted(np.concatenate(parts)) == list(range(500))
  assert np.bincount(splits.test["y"]).tolist() == [10] * 10
  with pytest.raises(FileNotFoundError, match=f"mnist: '{IMAGES}' not found"):
    data.load("mnist", tmp_path / "notmnist")


def test_the_data_dir_comes_before_the_cache(tmp_path, cache):
  write_idx(cache / "mnist", train=200)
  write_idx(tmp_path / "mnist", train=100)
  assert len(data.load("mnist", tmp_path).train["x"]) == 90
  assert len(data.load("mnist").train["x"]) == 180


def test_another_sets_folder_is_not_taken(tmp_path):
  write_idx(tmp_path / "mnist")
  data.load("mnist", tmp_path / "mnist")
  with pytest.raises(FileNotFoundError, match="fashion_mnist"):
    data.load("fashion_mnist", tmp_path / "mnist")


@pytest.mark.parametrize("name", ["mnist", "notmnist", "cifar10", "text"])
def test_a_missing_set_names_file_places_and_layout(name, tmp_path, cache):
  with pytest.raises(FileNotFoundError) as error:
    data.load(name, tmp_path)
  message = str(error.value)
  for part in (str(tmp_path / name), str(cache / name), "Expected layout"):
    assert part in message
  file = {"cifar10": "data_batch_1.bin", "text": "tinyshakespeare.txt"}
  assert file.get(name, IMAGES) in message


@pytest.mark.parametrize("missing", sources.IDX_FILES)
def test_a_set_in_part_names_what_is_missing(missing, tmp_path):
  write_idx(tmp_path)
  (tmp_path / missing).unlink()
  with pytest.raises(FileNotFoundError, match=f"'{missing}' not found .found"):
    data.load("mnist", tmp_path)


@pytest.mark.parametrize(
  ("file", "array", "expected"),
  [
    (IMAGES, images(3)[0], "one for each image"),
    (IMAGES, np.zeros((200, 5, 0), np.uint8), "shape"),
    (IMAGES, images(200)[1], "magic '00 00 08 03'"),
    (LABELS, images(200)[0], "magic '00 00 08 01'"),
    (LABELS, np.full(200, 10, np.uint8), "label 10 at example 0"),
    (TEST_IMAGES, np.zeros((50, 6, 4), np.uint8), r"expected \(5, 4, 1\)"),
  ],
)
def test_idx_files_that_do_not_fit(file, array, expected, tmp_path):
  write_idx(tmp_path)
  (tmp_path / file).write_bytes(gzip.compress(idx(array)))
  with pytest.raises(ValueError, match=expected) as error:
    data.load("mnist", tmp_path)
  assert file in str(error.value)


@pytest.mark.parametrize("sub", ["cifar10/cifar-10-batches-bin", "."])
def test_cifar_planes_become_channels(sub, tmp_path):
  root = tmp_path / "data"
  folder = write_cifar(root / sub if sub != "." else root)
  splits = data.load("cifar10", root)
  assert [len(part["y"]) for part in splits] == [90, 10, 20]
  record = np.fromfile(folder / "test_batch.bin", np.uint8)[3073 * 7 :][:3073]
  row, column, channel = 3, 5, 2
  value = record[1 + 1024 * channel + 32 * row + column] / np.float32(255)
  assert splits.test["x"][7, row, column, channel] == value
  assert splits.test["y"][7] == record[0]


@pytest.mark.parametrize("keep", [0, 3072, 3073 * 10, 3073 * 20 - 1])
@pytest.mark.parametrize("file", ["data_batch_3.bin", "test_batch.bin"])
def test_truncated_cifar_is_refused(file, keep, tmp_path):
  folder = write_cifar(tmp_path / "cifar-10-batches-bin")
  content = (folder / file).read_bytes()
  (folder / file).write_bytes(content[:keep])
  with pytest.raises(ValueError, match=f"{file}.*truncated"):
    data.load("cifar10", tmp_path)


def test_foreign_cifar_is_refused(tmp_path):
  folder = write_cifar(tmp_path / "cifar-10-batches-bin")
  np.full(3073 * 20, 77, np.uint8).tofile(folder / "data_batch_2.bin")
  with pytest.raises(ValueError, match=r"data_batch_2.bin: label 77"):
    data.load("cifar10", tmp_path)


def test_text_is_windows_of_one_sequence(tmp_path):
  text = "".join(np.random.default_rng(0).choice(list("bdß a\n€c"), 1000))
  (tmp_path / "a.txt").write_bytes(text.encode())
  splits = data.load("text", tmp_path, file="a.txt", length=9)
  vocabulary = data.vocabulary(tmp_path, file="a.txt")
  assert vocabulary == "".join(sorted(set(text)))
  for part, piece in zip(splits, (text[:800], text[800:900], text[900:])):
    count = (len(piece) - 1) // 9
    assert part["x"].shape == part["y"].shape == (count, 9)
    assert part["x"].dtype == part["y"].dtype == np.int32
    read = ["".join(vocabulary[i] for i in part[k].ravel()) for k in "xy"]
    assert read == [piece[: count * 9], piece[1 : count * 9 + 1]]


@pytest.mark.parametrize(
  ("content", "length", "expected"),
  [
    (b"", 4, "empty"),
    (b"\xff\xfe\xfa" * 9, 4, "UTF-8"),
    (b"abc" * 10, 3, "length 3, expected between 1 and 2"),
    (b"abc" * 10, 0, "length 0"),
  ],
)
def test_bad_text_is_refused(content, length, expected, tmp_path):
  (tmp_path / "a.txt").write_bytes(content)
  with pytest.raises(ValueError, match=expected) as error:
    data.load("text", tmp_path, file="a.txt", length=length)
  assert "a.txt" in str(error.value)


def test_digits_are_bundled_and_split_three_ways():
  splits = data.load("digits")
  assert [len(part["y"]) for part in splits] == [1079, 359, 359]
  every = np.concatenate([part["x"].reshape(-1, 64) for part in splits])
  assert every.min() == 0 and every.max() == 1 and every.dtype == np.float32
  from sklearn import datasets

  original = datasets.load_digits().data / 16
  assert sorted(map(bytes, every)) == sorted(
    map(bytes, original.astype(np.float32))
  )
  shares = [np.bincount(part["y"]) / len(part["y"]) for part in splits]
  np.testing.assert_allclose(shares[1:], shares[:1] * 2, atol=2 / 359)


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, "sklearn", None)
  with pytest.raises(ImportError, match=r"weightspace\[data\]"):
    data.load("digits")


def test_unknown_names_and_options():
  with pytest.raises(ValueError, match="'minst', expected one of digits, mni"):
    data.load("minst")
  with pytest.raises(TypeError, match="length"):
    data.load("mnist", length=3)


@CHEAP
@hypothesis.given(
  st.lists(st.integers(0, 3), min_size=20, max_size=60), st.integers(2, 4)
)
def test_hold_out_is_stratified_to_one_example(labels, every):
  y = np.array(labels, int)
  rest, held = data.hold_out(y, every)
  assert sorted([*rest, *held]) == list(range(len(y)))
  assert len(held) == len(y) // every
  counts = np.bincount(y, minlength=4) / every
  assert np.all(np.abs(np.bincount(y[held], minlength=4) - counts) < 1)


def serve(monkeypatch, folder, name, contents, members=()):
  """Publish bytes at file:// addresses in place of a data set's own site."""
  remotes = {}
  for file, content in contents.items():
    (folder / file).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    remotes[file] = sources.Remote((folder / file).as_uri(), digest, members)
  monkeypatch.setitem(sources.REMOTES, name, remotes)
  return remotes


def test_download_only_when_asked_for(tmp_path, cache, monkeypatch):
  site = write_idx(tmp_path / "site")
  contents = {f: (site / f).read_bytes() for f in sources.IDX_FILES}
  serve(monkeypatch, site, "mnist", contents)
  with pytest.raises(FileNotFoundError, match="download=True fetches it from"):
    data.load("mnist")
  assert not cache.exists()
  first = data.load("mnist", download=True)
  assert sorted(p.name for p in (cache / "mnist").iterdir()) == sorted(contents)
  for file in contents:
    (site / file).unlink()
  np.testing.assert_array_equal(data.load("mnist").test["x"], first.test["x"])
  (cache / "mnist" / LABELS).unlink()
  with pytest.raises(FileNotFoundError, match=f"{LABELS}.*cannot be read"):
    data.load("mnist", download=True)


def test_a_wrong_checksum_keeps_nothing(tmp_path, cache, monkeypatch):
  remotes = serve(monkeypatch, tmp_path, "text", {"a.txt": b"abc" * 99})
  (tmp_path / "a.txt").write_bytes(b"abc" * 98)
  with pytest.raises(ValueError, match=f"expected {remotes['a.txt'].sha256}"):
    data.load("text", file="a.txt", download=True)
  assert not list(cache.rglob("*.txt"))


def test_an_archive_is_unpacked_by_member(tmp_path, cache, monkeypatch):
  folder = write_cifar(tmp_path / "cifar-10-batches-bin")
  packed = io.BytesIO()
  with tarfile.open(fileobj=packed, mode="w:gz") as archive:
    archive.add(folder, folder.name)
  packed = packed.getvalue()
  remotes = serve(
    monkeypatch, tmp_path, "cifar10", {"c.tgz": packed}, sources.CIFAR_FILES
  )
  monkeypatch.setitem(
    sources.REMOTES,
    "cifar10",
    dict.fromkeys(sources.CIFAR_FILES, remotes["c.tgz"]),
  )
  assert len(data.load("cifar10", download=True).test["y"]) == 20
  assert len([p for p in cache.rglob("*") if p.is_file()]) == 6


def test_no_address_is_said(tmp_path):
  with pytest.raises(FileNotFoundError, match="No address is known"):
    data.load("notmnist", tmp_path, download=True)
