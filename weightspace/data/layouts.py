"""Bytes on disk to arrays, in the layouts that the data sets' sites publish.

One function per layout: each reads one file whole, checks it against what the
layout promises and returns NumPy arrays, so that a damaged file is refused by
name before anything is computed from it.  Nothing is ever unpickled.

>>> import gzip, pathlib, tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...   path = pathlib.Path(folder) / "labels.gz"
...   _ = path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 0])))
...   read_idx(path, 1).tolist()
[5, 0]
"""

import gzip
import math
import pathlib
import zlib

import numpy as np

CIFAR_SHAPE = (3, 32, 32)  # red, green and blue planes, each row by row
CIFAR_RECORD = 1 + math.prod(CIFAR_SHAPE)  # one label byte, then the planes
CLASSES = 10


def _unzipped(path: pathlib.Path) -> bytes:
  try:
    return gzip.decompress(path.read_bytes())
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise ValueError(
      f"{path}: truncated or not gzip ({error}), expected a whole .gz file"
    ) from error


def read_idx(path: pathlib.Path, rank: int) -> np.ndarray:
  """Read unsigned bytes in the IDX layout from a .gz file.

  The header is 0, 0, 8 (unsigned byte), the rank, then one big-endian 32-bit
  size per axis; the values follow, last axis fastest.

  Args:
    path: the .gz file.
    rank: the number of axes expected: 3 for images, 1 for labels.

  Returns:
    A uint8 array with the shape that the header gives.

  Raises:
    ValueError: naming the file, for gzip or length that is wrong, or another
      magic number.

  MNIST's page, http://yann.lecun.com/exdb/mnist/.
  """
  data = _unzipped(path)
  magic = bytes([0, 0, 8, rank])
  if data[:4] != magic:
    raise ValueError(
      f"{path}: starts with {data[:4].hex(' ')!r}, expected the IDX magic"
      f" {magic.hex(' ')!r} (unsigned bytes, {rank} axes)"
    )
  start = 4 + 4 * rank
  header = data[4:start].ljust(4 * rank, b"\0")
  shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
  expected = start + math.prod(shape)
  if len(data) != expected:
    raise ValueError(
      f"{path}: {len(data)} bytes after gzip, expected {expected} for the"
      f" shape {shape} of its header: truncated or of another layout"
    )
  return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_idx_pair(
  images: pathlib.Path, labels: pathlib.Path
) -> tuple[np.ndarray, np.ndarray]:
  """Read IDX images and their labels.

  Returns:
    x [N, H, W, 1] uint8 and y [N] int32 in 0..9.

  Raises:
    ValueError: as `read_idx`, or when the two files do not belong together.
  """
  x, y = read_idx(images, 3), read_idx(labels, 1)
  if len(x) != len(y) or x.size == 0:
    raise ValueError(
      f"{images}: {len(x)} images of shape {x.shape[1:]}, but"
      f" {labels.name} has {len(y)} labels, expected one for each image"
    )
  _check_labels(labels, y)
  return x[..., None], y.astype(np.int32)


def read_cifar10(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Read records of CIFAR-10's binary version: a label, then 3 x 32 x 32 bytes.

  Returns:
    x [N, 32, 32, 3] uint8 and y [N] int32 in 0..9.

  Raises:
    ValueError: naming the file, when it is no whole number of records or a
      label is above 9.

  https://www.cs.toronto.edu/~kriz/cifar.html, "binary version".
  """
  data = path.read_bytes()
  if not data or len(data) % CIFAR_RECORD:
    raise ValueError(
      f"{path}: {len(data)} bytes, expected a multiple of {CIFAR_RECORD} (a"
      " label and 3 x 32 x 32 pixels): truncated or of another layout"
    )
  records = np.frombuffer(data, np.uint8).reshape(-1, CIFAR_RECORD)
  y = records[:, 0]
  _check_labels(path, y)
  x = records[:, 1:].reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1)
  return x, y.astype(np.int32)


def _check_labels(path: pathlib.Path, y: np.ndarray) -> None:
  if y.max() >= CLASSES:
    index = int(np.argmax(y >= CLASSES))
    raise ValueError(
      f"{path}: label {y[index]} at example {index}, expected 0 to"
      f" {CLASSES - 1}: of another layout or data set"
    )


def read_text(path: pathlib.Path) -> tuple[np.ndarray, str]:
  """Read characters as indices into the sorted set of those that occur.

  Returns:
    tokens [characters] int32 and the vocabulary, a string: character i is
    token i.

  Raises:
    ValueError: naming the file, when it is empty or not UTF-8.
  """
  try:
    text = path.read_bytes().decode("utf-8")
  except UnicodeDecodeError as error:
    raise ValueError(f"{path}: {error}, expected UTF-8 text") from error
  if not text:
    raise ValueError(f"{path}: empty, expected UTF-8 text")
  codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
  values, tokens = np.unique(codes, return_inverse=True)
  return tokens.astype(np.int32), "".join(map(chr, values))
