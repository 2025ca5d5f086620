"""Quantised checkpoints: codes and their scales, read as the weights they are.

fp8 with one scale, a scale for each row or each 128 x 128 block, and int8 with
row scales are shown as what they stand for, leaf by leaf as they are read; the
same form can be written again.  Other methods are refused by their names: their
codes are no numbers, and a mean of them means nothing.

>>> codes, scales = np.array([[100, -50], [127, 0]], np.int8), np.ones((2, 1))
>>> stored = {"w.weight": codes, "w.weight_scale": scales / 100}
>>> kinds = {name: (x.shape, x.dtype) for name, x in stored.items()}
>>> reader = Reader("m", kinds, lambda name, index: stored[name])
>>> seen, forms = as_weights(reader, {})
>>> seen.keys(), seen.read("w.weight").tolist()
(['w.weight'], [[1.0, -0.5], [1.2699999809265137, 0.0]])
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from weightspace.checkpoints.readers import Reader
from weightspace.checkpoints.tensor_files import Kind

CONFIG = "quantization_config"
FP8 = tuple(map(np.dtype, (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)))
CODES = (*FP8, np.dtype(np.int8))
SCALES = ("_scale_inv", "_scale", ".scale")  # behind the name of the codes
# Beside the codes in some files: what activations are multiplied by.
ACTIVATIONS = re.compile(r"(^|[._])(input_scale|output_scale|[kv]_scale)$")
READ = (
  "fp8",
  "fbgemm_fp8",
  "compressed-tensors",
  "modelopt",
  "finegrained_fp8",
)
BLOCK = 128
FOREIGN: dict[str, str] = {  # how the leaves of other methods are called
  r"\.(qweight|qzeros|g_idx)$": "GPTQ or AWQ",
  r"\.(absmax|nested_absmax|quant_map|nested_quant_map|SCB)$": "bitsandbytes",
  r"\.quant_state\.": "bitsandbytes",
  r"_blocks$": "mxfp4",
  r"\.weight_scale_2$": "NVFP4",
  r"\.bitmask$": "compressed-tensors, sparse",
  r"\.weight_packed$": "compressed-tensors, packed",
  r"\.weight_zero_point$": "compressed-tensors with zero points",
}


class Form(NamedTuple):
  """How one leaf is kept: its codes, and scales that each span some entries."""

  codes: np.dtype
  scale: str  # the name of the scales
  kind: Kind  # of the scales
  spans: tuple[int, ...]  # entries along each axis that share a scale

  @property
  def largest(self) -> float:
    """The largest code."""
    if self.codes == np.int8:
      return 127.0
    return float(ml_dtypes.finfo(self.codes).max)


def as_weights(
  reader: Reader, settings: Mapping[str, Any]
) -> tuple[Reader, dict[str, Form]]:
  """Return a view of a checkpoint in float32 where it holds codes.

  Args:
    reader: the checkpoint.
    settings: its config.json.

  Returns:
    The view, without scales, and how each leaf that was one of codes is kept.

  Raises:
    ValueError: naming the method of a checkpoint that is not read here, or
      codes whose scales are missing or of a shape that fits no rule.
  """
  config = settings.get(CONFIG) or {}
  if "group_size" in (settings.get("quantization") or {}):
    config = {"quant_method": "mlx"}
  method = config.get("quant_method") or ("one unnamed" if config else None)
  _refuse_foreign(reader, config)
  forms: dict[str, Form] = {}
  scales = set()
  for name, kind in reader.kinds.items():
    scale = _scale_of(reader, name)
    if kind[1] in CODES and scale is not None:
      forms[name] = _form(reader, name, scale, config)
      scales.add(scale)
    elif kind[1] in CODES and config and name.endswith(".weight"):
      raise ValueError(
        f"{reader.path!r}: {name!r} holds codes of {method} without scales"
      )
  if method is not None and (not forms or method not in READ):
    raise ValueError(
      f"{reader.path!r}: {CONFIG} names {method}, whose codes are not read,"
      " expected fp8 or int8 with scales, or the weights before they were"
      " quantised"
    )
  if not forms:
    return reader, {}
  kinds = {}
  for name, kind in reader.kinds.items():
    if name in forms:
      kinds[name] = kind[0], np.dtype(np.float32)
    elif name not in scales and not ACTIVATIONS.search(name):
      kinds[name] = kind

  def load(name: str, index: Any) -> np.ndarray:
    found = reader.read(name, index)
    if name not in forms:
      return found
    shape, form = reader.shape(name), forms[name]
    scale = _spread(reader.read(form.scale), form, shape, index)
    return found.astype(np.float32) * scale

  return reader._replace(kinds=kinds, load=load), forms


def _refuse_foreign(reader: Reader, config: Mapping[str, Any]) -> None:
  named = config.get("quant_method")
  for name, (_, dtype) in reader.kinds.items():
    for pattern, method in FOREIGN.items():
      if re.search(pattern, name) and not (
        method == "mxfp4" and dtype != np.uint8
      ):
        raise ValueError(
          f"{reader.path!r} is quantised by {named or method}: {name!r} holds"
          " codes that are not read, expected fp8 or int8 with scales, or the"
          " weights before they were quantised"
        )


def _scale_of(reader: Reader, name: str) -> str | None:
  """Return the name of the scales of codes."""
  stem = name.removesuffix(".weight")
  for scale in (*(f"{name}{end}" for end in SCALES), f"{stem}.scale_weight"):
    if scale in reader.kinds:
      return scale
  return None


def _form(
  reader: Reader, name: str, scale: str, config: Mapping[str, Any]
) -> Form:
  """Return how codes are kept, by the shape of their scales."""
  shape, dtype = reader.kinds[name]
  given, kind = reader.shape(scale), reader.kinds[scale]
  block = config.get("weight_block_size") or [BLOCK] * len(shape)
  spans: list[int] = []
  full = given + (1,) * (len(shape) - len(given))
  if int(np.prod(given)) == 1:
    full = (1,) * len(shape)
  for axis, (size, count) in enumerate(zip(shape, full)):
    side = block[axis - len(shape)] if axis - len(shape) >= -len(block) else 1
    if count == 1:
      spans.append(max(size, 1))
    elif count == size:
      spans.append(1)
    elif count == -(-size // side):
      spans.append(side)
  if len(spans) != len(shape) or len(full) != len(shape):
    raise ValueError(
      f"{reader.path!r}: {scale!r} is {given} beside {name!r} {shape}, expected"
      f" one scale, one for each row, or blocks of {block}"
    )
  return Form(dtype, scale, kind, tuple(spans))


def _spread(
  scales: np.ndarray, form: Form, shape: tuple[int, ...], index: Any
) -> np.ndarray:
  """Return the scale of each entry of `leaf[index]`."""
  counts = tuple(-(-size // span) for size, span in zip(shape, form.spans))
  wide = scales.astype(np.float32).reshape(counts)
  cuts = index if isinstance(index, tuple) else (index,)
  places = []
  for axis, (size, span) in enumerate(zip(shape, form.spans)):
    cut = cuts[axis] if axis < len(cuts) else None
    rows = np.arange(size) if cut is None else np.arange(size)[cut]
    places.append(rows // span)
  return wide[np.ix_(*places)] if places else wide


def encode(leaf: np.ndarray, name: str, form: Form) -> dict[str, np.ndarray]:
  """Return a leaf as codes and scales: the largest code stands for the largest.

  Args:
    leaf: float32, whole.
    name: of it.
    form: how it is to be kept.

  Returns:
    The scales and the codes, by name.

  >>> form = Form(np.dtype(np.int8), "s", ((1,), np.dtype("float32")), (2,))
  >>> made = encode(np.float32([1.0, -2.0]), "w", form)
  >>> made["w"].tolist(), made["s"].tolist()
  ([64, -127], [0.015748031437397003])
  """
  x = leaf.astype(np.float32)
  tops = np.abs(x)
  for axis, span in enumerate(form.spans):
    tops = _block_max(tops, axis, span)
  shape, dtype = form.kind
  scales = (tops / np.float32(form.largest)).astype(dtype)
  scales = np.where(scales > 0, scales, np.ones((), dtype))
  spread = _spread(scales, form, x.shape, None)
  ratio = x / spread
  limit = np.float32(form.largest)
  codes = np.clip(ratio, -limit, limit)
  if form.codes == np.int8:
    codes = np.rint(codes)
  return {form.scale: scales.reshape(shape), name: codes.astype(form.codes)}


def _block_max(x: np.ndarray, axis: int, span: int) -> np.ndarray:
  """Return the largest of each `span` entries along an axis."""
  starts = np.arange(0, x.shape[axis], span)
  return np.maximum.reduceat(x, starts, axis)
