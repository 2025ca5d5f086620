"""LoRA adapters in the peft layout, merged into their base leaf by leaf.

A view of the base in which the leaves that are adapted read as W + scale B A;
nothing is written and no other leaf is touched.

>>> scale_of({"lora_alpha": 16, "use_rslora": True}, "layers.0.q_proj", 4)
8.0
"""

import math
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from weightspace.checkpoints import readers
from weightspace.cli.inputs import references

PREFIX = "base_model.model."
WEIGHTS = "adapter_model.safetensors"
SETTINGS = "adapter_config.json"
PART = re.compile(
  r"^(?P<module>.*)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])"
  r"(?:\.default)?(?:\.weight)?$"
)
REFUSED = {  # settings that change what an adapter means
  "use_dora": "DoRA",
  "use_qalora": "QALoRA",
  "alora_invocation_tokens": "activated LoRA",
  "trainable_token_indices": "trainable tokens",
  "target_parameters": "adapted parameters by name",
}


class Factors(NamedTuple):
  """How one leaf is changed: names of A [r, in] and B [out, r]."""

  a: str
  b: str
  scale: float
  turned: bool  # whether the leaf is [in, out]


def merged(base: readers.Reader, adapter: str) -> readers.Reader:
  """Return a view of the base with an adapter merged into it.

  Args:
    base: the checkpoint that the adapter was trained on.
    adapter: a folder with adapter_config.json and adapter_model.safetensors.

  Raises:
    ValueError: naming the adapter and what it has that the base lacks, or a
      kind of adapter that is not a product of two factors.
  """
  settings, file = opened(adapter)
  factors, replaced = _match(base, file, settings)

  def load(name: str, index: Any) -> np.ndarray:
    if name in replaced:  # peft may keep what it adapts, too
      leaf = file.read(replaced[name], index).astype(base.dtype(name))
    else:
      leaf = base.read(name, index)
    if name not in factors:
      return leaf
    return _changed(leaf, file, factors[name], index)

  # The adapter's path tells two adapters of one base apart.
  return readers.Reader(adapter, base.kinds, load)


def refuse_alone(folder: str, reference: str) -> None:
  """Refuse the folder of an adapter where a whole model is expected.

  The factors of two adapters cannot be averaged apart: the product of the means
  has cross terms A1 B2, and a weight would count twice.

  Raises:
    ValueError: with what to write instead.
  """
  names = os.listdir(folder) if os.path.isdir(folder) else []
  if WEIGHTS in names and not any(n.startswith("model") for n in names):
    base = references.table(folder, SETTINGS).get("base_model_name_or_path")
    raise ValueError(
      f"{reference}: an adapter alone, whose factors A and B cannot be merged"
      f" apart, expected {base or 'BASE'}+{reference}, or recipe: rmm"
    )


def opened(adapter: str) -> tuple[dict[str, Any], readers.Reader]:
  """Return the settings and the factors of an adapter's folder.

  Raises:
    ValueError: naming the adapter, for a kind that is not a product of two
      factors.
  """
  settings = references.table(adapter, SETTINGS)
  kind = settings.get("peft_type")
  if kind != "LORA":
    raise ValueError(f"{adapter!r} is {kind or 'no adapter'}, expected LORA")
  for key, what in REFUSED.items():
    if settings.get(key):
      raise ValueError(f"{adapter!r}: {key!r}: {what} is not supported")
  return settings, readers.open(os.path.join(adapter, WEIGHTS))


def saved(adapter: str) -> list[str]:
  """Return the names of an adapter's leaves that replace those of the base."""
  where = os.path.join(adapter, WEIGHTS)
  keys = readers.open(where).keys() if os.path.isfile(where) else []
  return [key for key in keys if not PART.match(key)]


def _changed(
  leaf: np.ndarray, file: readers.Reader, factors: Factors, index: Any
) -> np.ndarray:
  """Return W + scale B A, of the rows that were read, in float32."""
  a = file.read(factors.a).astype(np.float32)
  b = file.read(factors.b).astype(np.float32)
  rows, columns = (a.T, b.T) if factors.turned else (b, a)
  cuts = index if isinstance(index, tuple) else (index,)
  if cuts[0] is not None:
    rows = rows[cuts[0]]
  if len(cuts) > 1:
    columns = columns[:, cuts[1]]
  change = np.float32(factors.scale) * (rows @ columns)
  return (leaf.astype(np.float32) + change).astype(leaf.dtype)


def _match(
  base: readers.Reader, file: readers.Reader, settings: Mapping[str, Any]
) -> tuple[dict[str, Factors], dict[str, str]]:
  """Return the leaves that are changed, and those that are replaced."""
  sides: dict[tuple[str, bool], dict[str, str]] = {}
  replaced = {}
  for key in file.keys():
    name = key.removeprefix(PREFIX)
    part = PART.match(name)
    if part:
      changed = part["module"], bool(part["embedding"])
      sides.setdefault(changed, {})[part["side"]] = key
    else:
      name = re.sub(r"\.(modules_to_save(\.default)?|base_layer)\.", ".", name)
      replaced[_leaf(base, name, file)] = key
  factors = {}
  for (module, embedding), found in sides.items():
    name = _leaf(base, f"{module}.weight", file)
    if set(found) != {"A", "B"}:
      raise ValueError(f"{file.path!r}: {module!r} has {sorted(found)} of A, B")
    turned = embedding or bool(settings.get("fan_in_fan_out"))
    rank = file.shape(found["A"])[0]
    scale = scale_of(settings, module, rank)
    factors[name] = Factors(found["A"], found["B"], scale, turned)
    _check_shape(base, name, file, factors[name])
  for name, key in replaced.items():
    if base.shape(name) != file.shape(key):
      raise ValueError(
        f"{file.path!r}: {key!r} is {file.shape(key)}, expected"
        f" {base.shape(name)}"
      )
  return factors, replaced


def _leaf(base: readers.Reader, name: str, file: readers.Reader) -> str:
  """Return the leaf of the base; a prefix of its names may be left out."""
  for known in (name, name.partition(".")[2]):
    if known in base.kinds:
      return known
  fits = [key for key in base.keys() if key.endswith(f".{name}")]
  if len(fits) == 1:
    return fits[0]
  raise ValueError(f"{file.path!r} changes {name!r}, which {base.path!r} lacks")


def scale_of(settings: Mapping[str, Any], module: str, rank: int) -> float:
  """Return alpha / rank of a module, or alpha / sqrt(rank) for rslora."""
  alpha = _by_pattern(settings.get("alpha_pattern"), module)
  alpha = settings.get("lora_alpha", rank) if alpha is None else alpha
  return float(alpha) / (
    math.sqrt(rank) if settings.get("use_rslora") else rank
  )


def _by_pattern(patterns: Mapping[str, Any] | None, module: str) -> Any:
  """Return the value of the first pattern that ends a module's name."""
  for pattern, value in (patterns or {}).items():
    if re.fullmatch(rf"(.*\.)?({pattern})", module):
      return value
  return None


def _check_shape(
  base: readers.Reader, name: str, file: readers.Reader, factors: Factors
) -> None:
  a, b = file.shape(factors.a), file.shape(factors.b)
  made = (b[0], *a[1:]) if len(a) == len(b) == 2 else ()
  made = made[::-1] if factors.turned else made
  if made != base.shape(name) or a[0] != b[1]:
    raise ValueError(
      f"{file.path!r}: factors {a} and {b} of {name!r}, expected a product of"
      f" {base.shape(name)}"
    )
