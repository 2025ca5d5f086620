"""The data sets by name, each as three splits of arrays in memory.

`load` gives images as float32 in [0, 1] (NHWC) with int32 labels, or windows of
characters.  The splits follow from a rule, not from a random draw, so that they
are the same on every machine and version: of each class, every k-th example in
file order is held out.  Validation comes out of the training part, never out of
the test part.

>>> rest, held = hold_out(np.array([0, 0, 1, 1, 0, 0]), every=2)
>>> rest.tolist(), held.tolist()
([0, 2, 4], [1, 3, 5])
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from weightspace.data import layouts, sources

Arrays = dict[str, np.ndarray]
DataDir = str | os.PathLike[str] | None


class Splits(NamedTuple):
  """A data set: three dicts of "x" [N, ...] and "y" [N, ...]."""

  train: Arrays
  validation: Arrays
  test: Arrays


def hold_out(y: np.ndarray, every: int) -> tuple[np.ndarray, np.ndarray]:
  """Split examples into two stratified parts by rule.

  With the examples in order of class, and in file order within a class, every
  k-th is held out: N // every of them, each class's share to less than one.

  Args:
    y: labels [N].
    every: the period, at least 2.

  Returns:
    The indices of the rest and those held out, each ascending.

  >>> [len(part) for part in hold_out(np.zeros(10), every=5)]
  [8, 2]
  """
  order = np.argsort(y, kind="stable")
  held = np.sort(order[every - 1 :: every])
  return np.delete(np.arange(len(y)), held), held


def take(data: Arrays, indices: np.ndarray) -> Arrays:
  """Return the examples at `indices` of every array.

  >>> take({"y": np.array([5, 6, 7])}, np.array([2, 0]))["y"].tolist()
  [7, 5]
  """
  return {key: value[indices] for key, value in data.items()}


def _images(x: np.ndarray, y: np.ndarray) -> Arrays:
  return {"x": np.divide(x, 255, dtype=np.float32, order="C"), "y": y}


def _with_validation(train: Arrays, test: Arrays, every: int) -> Splits:
  rest, held = hold_out(train["y"], every)
  return Splits(take(train, rest), take(train, held), test)


def _digits(name: str, data_dir: DataDir, download: bool) -> Splits:
  try:
    from sklearn import datasets  # an extra, slow to import
  except ImportError as error:
    raise ImportError(
      "digits come with scikit-learn: pip install 'weightspace[data]'"
    ) from error
  bundled = datasets.load_digits()
  x = np.divide(bundled.images[..., None], 16).astype(np.float32)
  data = {"x": x, "y": bundled.target.astype(np.int32)}
  rest, test = hold_out(data["y"], every=5)
  return _with_validation(take(data, rest), take(data, test), every=4)


def _idx(name: str, data_dir: DataDir, download: bool) -> Splits:
  files = sources.IDX_FILES
  optional = files[:2] if name == "notmnist" else ()
  found = sources.find(name, files, data_dir, download, optional)
  test = _images(*layouts.read_idx_pair(found[files[2]], found[files[3]]))
  if files[0] in found:
    train = _images(*layouts.read_idx_pair(found[files[0]], found[files[1]]))
  else:
    rest, held = hold_out(test["y"], every=5)
    train, test = take(test, rest), take(test, held)
  if train["x"].shape[1:] != test["x"].shape[1:]:
    raise ValueError(
      f"{found[files[2]]}: images of shape {test['x'].shape[1:]}, expected"
      f" {train['x'].shape[1:]} as in {files[0]}"
    )
  return _with_validation(train, test, every=10)


def _cifar10(name: str, data_dir: DataDir, download: bool) -> Splits:
  found = sources.find(name, sources.CIFAR_FILES, data_dir, download)
  parts = [layouts.read_cifar10(path) for path in found.values()]
  # Records have no header: a file cut between two of them shows only here.
  for path, (_, y) in zip(found.values(), parts):
    if len(y) != max(len(labels) for _, labels in parts):
      raise ValueError(
        f"{path}: {len(y)} images, fewer than in another of the six files,"
        " expected equally many (10,000 officially): truncated"
      )
  x, y = (np.concatenate(part) for part in zip(*parts[:-1]))
  return _with_validation(_images(x, y), _images(*parts[-1]), every=10)


def _text(
  name: str,
  data_dir: DataDir,
  download: bool,
  file: str = "tinyshakespeare.txt",
  length: int = 64,
) -> Splits:
  path = sources.find(name, (file,), data_dir, download)[file]
  tokens, _ = layouts.read_text(path)
  parts = np.split(tokens, [len(tokens) * 8 // 10, len(tokens) * 9 // 10])
  if length < 1 or min(map(len, parts)) <= length:
    raise ValueError(
      f"{path}: length {length}, expected between 1 and"
      f" {min(map(len, parts)) - 1}: a tenth of {len(tokens)} characters must"
      " hold a window and the character after it"
    )
  return Splits(*(_windows(part, length) for part in parts))


def _windows(tokens: np.ndarray, length: int) -> Arrays:
  count = (len(tokens) - 1) // length
  x, y = tokens[: count * length], tokens[1 : count * length + 1]
  return {"x": x.reshape(count, length), "y": y.reshape(count, length)}


LOADERS: dict[str, Callable[..., Splits]] = {
  "digits": _digits,
  "mnist": _idx,
  "fashion_mnist": _idx,
  "notmnist": _idx,
  "cifar10": _cifar10,
  "text": _text,
}


def load(
  name: str, data_dir: DataDir = None, *, download: bool = False, **options: Any
) -> Splits:
  """Load a data set by name as train, validation and test.

  | name | what | train / validation / test |
  |---|---|---|
  | digits | scikit-learn's bundled 8x8 digits | three, one, one fifth |
  | mnist, fashion_mnist | 28x28 grey, IDX .gz | 9/10, 1/10 of train; test |
  | notmnist | letters A-J, IDX .gz | as MNIST, or from the t10k pair alone |
  | cifar10 | 32x32 RGB, binary version | 9/10, 1/10 of train; test |
  | text | characters of `file` | first 8, next 1, last 1 tenth |

  Image splits are stratified by `hold_out`; of notMNIST's t10k pair alone, a
  fifth is the test part and a tenth of the rest validation.  Text is cut into
  windows that do not overlap; y is x one character later; tokens count through
  `vocabulary`.

  Args:
    name: one of the above.
    data_dir: a folder that holds the files or a sub-folder of that name;
      otherwise, and after it, the cache is looked in (`sources.places`).
    download: whether files found nowhere may be fetched into the cache.
    **options: text only: `file` ("tinyshakespeare.txt") and `length` (64).

  Returns:
    Splits: "x" float32 [N, H, W, C] in [0, 1] and "y" int32 [N], or for text
    both int32 [N, length].

  Raises:
    ValueError: for an unknown name, a damaged file, a wrong checksum.
    FileNotFoundError: naming the file, the places and the layout.
    ImportError: for digits without scikit-learn, naming the extra.

  >>> load("digits").train["x"].shape
  (1079, 8, 8, 1)
  """
  if name not in LOADERS:
    raise ValueError(
      f"unknown data set {name!r}, expected one of {', '.join(LOADERS)}"
    )
  return LOADERS[name](name, data_dir, download, **options)


def vocabulary(
  data_dir: DataDir = None,
  *,
  file: str = "tinyshakespeare.txt",
  download: bool = False,
) -> str:
  """Return the characters that `load("text")` counts through, sorted.

  Token i stands for character i; its length is a language model's `vocab`.
  """
  path = sources.find("text", (file,), data_dir, download)[file]
  return layouts.read_text(path)[1]
