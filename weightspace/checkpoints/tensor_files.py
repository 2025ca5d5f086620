"""Safetensors files by byte range: what a header says, and single tensors.

A file is eight bytes of length, a JSON header and the bytes of its tensors,
one after another.  Tensors are read by position, so that neither a whole file
nor its pages stay in memory, and a file can be laid out before its tensors
are known.  Every header is checked before anything is read.

>>> import tempfile
>>> path = f"{tempfile.mkdtemp()}/a.safetensors"
>>> with open(path, "wb") as file:
...   head, entries = lay_out({"w": ((2,), np.dtype("int8"))}, path)
...   _ = file.write(head + bytes([3, 4]))
>>> read(header(path)["w"]).tolist()
[3, 4]
"""

import json
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

import ml_dtypes
import numpy as np

LARGEST_HEADER = 100_000_000  # bytes: the limit of the format
METADATA = "__metadata__"
ALIGNMENT = 64  # bytes
DTYPES = {
  "BOOL": np.dtype(bool),
  "U8": np.dtype("uint8"),
  "I8": np.dtype("int8"),
  "U16": np.dtype("<u2"),
  "I16": np.dtype("<i2"),
  "U32": np.dtype("<u4"),
  "I32": np.dtype("<i4"),
  "U64": np.dtype("<u8"),
  "I64": np.dtype("<i8"),
  "F16": np.dtype("<f2"),
  "BF16": np.dtype(ml_dtypes.bfloat16),
  "F32": np.dtype("<f4"),
  "F64": np.dtype("<f8"),
  "C64": np.dtype("<c8"),
  "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
  "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}

Kind = tuple[tuple[int, ...], np.dtype]  # shape and dtype of a tensor


class Entry(NamedTuple):
  """One tensor: where its bytes lie in which file."""

  name: str
  file: str
  shape: tuple[int, ...]
  dtype: np.dtype
  start: int  # of its first byte, in the file

  @property
  def size(self) -> int:
    """Bytes of the tensor."""
    return math.prod(self.shape) * self.dtype.itemsize


def header(path: str) -> dict[str, Entry]:
  """Return the tensors of a safetensors file, by name, in file order.

  Raises:
    ValueError: naming the file, and the tensor where there is one, when the
      header is truncated, malformed, or does not fit the file.
  """
  entries = {}
  found, begin, end = _parse(path)
  for name, fields in found.items():
    if name != METADATA:
      entries[name] = _entry(path, name, fields, begin)
  ordered = sorted(entries.values(), key=lambda e: (e.start, e.size))
  place = begin
  for entry in ordered:
    if entry.start != place:
      raise ValueError(
        f"{path!r}: {entry.name!r} begins at byte {entry.start - begin},"
        f" expected {place - begin}, where the tensor before it ends"
      )
    place += entry.size
  if place != end:
    raise ValueError(
      f"{path!r}: {end - begin} bytes of tensors, expected {place - begin} as"
      " the header says (truncated or overwritten)"
    )
  return {entry.name: entry for entry in ordered}


def metadata(path: str) -> dict[str, str]:
  """Return the free-text entries of a file's header."""
  found = _parse(path)[0].get(METADATA, {})
  if not isinstance(found, dict):
    raise ValueError(f"{path!r}: {METADATA} is no dict of strings")
  return {str(name): str(value) for name, value in found.items()}


def _parse(path: str) -> tuple[dict[str, Any], int, int]:
  """Return the header's JSON, where the tensors begin, and the file's end."""
  total = os.path.getsize(path)
  with open(path, "rb") as file:
    first = file.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > min(total - 8, LARGEST_HEADER):
      raise ValueError(
        f"{path!r}: a header of {length} bytes in a file of {total}, expected"
        " a safetensors file (truncated or foreign)"
      )
    text = file.read(length)
  try:
    found = json.loads(text.decode("utf-8"), object_pairs_hook=_distinct)
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path!r}: the header is no JSON: {error}") from None
  if not isinstance(found, dict):
    raise ValueError(f"{path!r}: the header is no JSON object")
  return found, 8 + length, total


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  result: dict[str, Any] = {}
  for name, value in pairs:
    if name in result:
      raise ValueError(f"{name!r} stands twice")
    result[name] = value
  return result


def _entry(path: str, name: str, fields: Any, begin: int) -> Entry:
  """Check what the header says of one tensor."""
  where = f"{path!r}: {name!r}"
  if not isinstance(fields, dict):
    raise ValueError(f"{where} is {fields!r:.40}, expected dtype and shape")
  code, shape = fields.get("dtype"), fields.get("shape")
  if not isinstance(code, str) or code not in DTYPES:
    raise ValueError(
      f"{where} has dtype {code!r:.40}, expected one of {', '.join(DTYPES)}"
    )
  if not _naturals(shape):
    raise ValueError(f"{where} has shape {shape!r:.40}, expected sizes")
  offsets = fields.get("data_offsets")
  if not _naturals(offsets) or len(offsets) != 2:
    raise ValueError(f"{where} has data_offsets {offsets!r:.40}, expected two")
  entry = Entry(name, path, tuple(shape), DTYPES[code], begin + offsets[0])
  if offsets[1] - offsets[0] != entry.size:
    raise ValueError(
      f"{where} has {offsets[1] - offsets[0]} bytes, expected {entry.size} for"
      f" {code} {list(entry.shape)}"
    )
  return entry


def _naturals(values: Any) -> TypeGuard[list[int]]:
  return isinstance(values, list) and all(
    type(value) is int and 0 <= value < 2**63 for value in values
  )


def read(entry: Entry, index: Any = None) -> np.ndarray:
  """Read a tensor, or `tensor[index]` by its rows.

  Args:
    entry: from `header`.
    index: a slice of the first axis, or a tuple of slices; only the rows
      between the first and the last that it takes are read.

  Raises:
    ValueError: naming the file and tensor, when the file has become shorter.
  """
  if index is None or not entry.shape:
    return _read_rows(entry, 0, 1, entry.shape)
  parts: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
  rows = range(*parts[0].indices(entry.shape[0]))
  low, high = (min(rows), max(rows) + 1) if rows else (0, 0)
  part = _read_rows(entry, low, high, (high - low, *entry.shape[1:]))
  if rows.step == 1 or not rows:
    return part[(slice(None), *parts[1:])]
  start = 0 if rows.step > 0 else high - low - 1
  return part[(slice(start, None, rows.step), *parts[1:])]


def _read_rows(
  entry: Entry, low: int, high: int, shape: tuple[int, ...]
) -> np.ndarray:
  """Read `shape` from row `low` on; the whole tensor is one row."""
  count = math.prod(shape) * entry.dtype.itemsize
  row = count // (high - low) if high > low else 0
  buffer = aligned(count)
  view, done = buffer.data, 0
  file = os.open(entry.file, os.O_RDONLY)
  try:
    while done < count:
      place = entry.start + low * row + done
      got = os.preadv(file, [view[done : done + 2**30]], place)
      if not got:
        raise ValueError(
          f"{entry.file!r}: {entry.name!r} ends after {done} bytes, expected"
          f" {count} (truncated while it was read)"
        )
      done += got
  finally:
    os.close(file)
  return buffer.view(entry.dtype).reshape(shape)


def aligned(count: int) -> np.ndarray:
  """Return uint8 [count] at an address that JAX can take over without a copy.

  >>> aligned(3).ctypes.data % ALIGNMENT, aligned(3).shape
  (0, (3,))
  """
  memory = np.empty(count + ALIGNMENT, np.uint8)
  first = -memory.ctypes.data % ALIGNMENT
  return memory[first : first + count]


def lay_out(
  kinds: Mapping[str, Kind], path: str, about: Mapping[str, str] | None = None
) -> tuple[bytes, dict[str, Entry]]:
  """Return the head of a file that will hold tensors, and where each goes.

  Args:
    kinds: shape and dtype by name, in file order.
    path: of the file.
    about: free text for the header.

  Raises:
    ValueError: naming the first tensor whose dtype the format does not have.
  """
  fields: dict[str, Any] = {METADATA: dict(about)} if about else {}
  place, starts = 0, {}
  for name, (shape, dtype) in kinds.items():
    if dtype not in CODES:
      raise ValueError(
        f"{path!r}: {name!r} is {dtype}, unknown to safetensors, expected one"
        f" of {', '.join(map(str, CODES))}"
      )
    size = math.prod(shape) * dtype.itemsize
    fields[name] = {
      "dtype": CODES[dtype],
      "shape": list(shape),
      "data_offsets": [place, place + size],
    }
    starts[name] = place
    place += size
  text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
  text += b" " * (-len(text) % 8)
  head = len(text).to_bytes(8, "little") + text
  return head, {
    name: Entry(name, path, tuple(shape), dtype, len(head) + starts[name])
    for name, (shape, dtype) in kinds.items()
  }
