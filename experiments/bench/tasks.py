"""Tasks of one shape: a data set under one shift, or a text in one spelling.

A task is a few words of a config.  Of images, `data` is a data set, and they
may be restricted to `classes` (with `relabel`, counted from 0), in training
with a few examples of others (`memory`: `classes` and how many `examples`), put
into several domains in turn (`mix`), turned (`rotate`, degrees), moved
(`shift`, shares of the height, down and right) or corrupted (`corrupt`,
`severity`).  Of text, `text` is a file of the text folder, or "own" for this
library's sources, in one of SPELLINGS and windows of some `length`.

>>> spell("To be", "upper"), spell("To be", "no vowels")
('TO BE', 'T b')
>>> bool(encode("a")[0] == encode("banana")[1])
True
"""

import codecs
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.run import runs
from weightspace.data import corruptions, domains, geometry
from weightspace.types import Data, Key

# A text of our own that stays as it is when the library changes.
FROZEN = pathlib.Path(__file__).parent / "frozen_data.txt"
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))  # of every text
WORDS = {  # what a task may say
  "data": (
    *("data", "classes", "relabel", "memory"),
    *("mix", "rotate", "shift", "corrupt"),
  ),
  "text": ("text", "spelling", "length"),
}
SPELLINGS: dict[str, Callable[[str], str]] = {
  "plain": lambda text: text,
  "upper": str.upper,
  "no vowels": lambda text: "".join(c for c in text if c not in "aeiouAEIOU"),
  "no spaces": lambda text: text.replace(" ", ""),
  "reversed": lambda text: text[::-1],
  "rot13": lambda text: codecs.encode(text, "rot13"),
}


def spell(text: str, spelling: str) -> str:
  """Return a text in one of SPELLINGS.

  Raises:
    ValueError: for another spelling.
  """
  if spelling not in SPELLINGS:
    known = ", ".join(SPELLINGS)
    raise ValueError(f"spelling: {spelling!r}, expected one of {known}")
  return SPELLINGS[spelling](text)


def encode(text: str) -> np.ndarray:
  """Return a text as places in ALPHABET; foreign characters are spaces."""
  places = {character: place for place, character in enumerate(ALPHABET)}
  return np.array([places.get(c, places[" "]) for c in text], np.int32)


def check(name: str, task: Mapping[str, Any]) -> None:
  """Refuse a task that says what no task says.

  Raises:
    ValueError: naming the task and the word.

  >>> check("turned", {"data": "mnist", "rotate": 90})
  """
  kinds = [kind for kind in WORDS if kind in task]
  known = WORDS[kinds[0]] + ("severity",) if len(kinds) == 1 else tuple(WORDS)
  unknown = [word for word in task if word not in known]
  if len(kinds) != 1 or unknown:
    said = repr((unknown or list(task) or ["nothing"])[0])
    raise ValueError(
      f"task {name!r}: {said}, expected {' or '.join(WORDS)} and then"
      f" {', '.join(known)}"
    )


def draw(
  run: runs.Run, task: Mapping[str, Any], split: str, key: Key, count: int
) -> Data:
  """Return `count` examples of a task, drawn from a split without replacement.

  Args:
    run: knows where data are.
    task: what the config says of it.
    split: "train", "validation" or "test".
    key: of the draw and of the corruption.
    count: how many.

  Raises:
    ValueError: when the split has fewer.
  """
  if "text" in task:
    spelling, length = task.get("spelling", "plain"), task.get("length", 64)
    where = run.data_dir, run.download
    return _some(
      _text(task["text"], spelling, length, *where)[split], split, key, count
    )
  whole = getattr(_images(task["data"], run.data_dir, run.download), split)
  part, relabel = whole, task.get("relabel", False)
  if "classes" in task:
    part = ws.data.keep_classes(whole, list(task["classes"]), relabel)
  draw_key, shift_key, memory_key = jax.random.split(key, 3)
  if "memory" in task and split == "train":
    memory = task["memory"]
    old = ws.data.keep_classes(whole, list(memory["classes"]))
    old = _some(old, split, memory_key, memory["examples"])
    part = _some(part, split, draw_key, count - memory["examples"])
    part = {name: np.concatenate([x, old[name]]) for name, x in part.items()}
  return _shifted(_some(part, split, draw_key, count), task, shift_key)


def _some(part: Data, split: str, key: Key, count: int) -> Data:
  """Return `count` examples, drawn without replacement, in order."""
  total = len(part["y"])
  if not 1 <= count <= total:
    raise ValueError(f"{split}: {count} examples, expected 1 to {total}")
  kept = np.asarray(jax.random.permutation(key, total)[:count])
  return ws.data.take(part, np.sort(kept))


@functools.lru_cache(maxsize=4)
def _images(name: str, data_dir: str | None, download: bool) -> Any:
  return ws.data.load(name, data_dir, download=download)


def _shifted(part: Data, task: Mapping[str, Any], key: Key) -> Data:
  if "mix" in task:
    part = domains.mix(key, part, task["mix"])
  x = jnp.asarray(part["x"])
  if "rotate" in task:
    x = geometry.rotate(x, float(task["rotate"]))
  if "shift" in task:
    moved = [round(share * x.shape[1]) for share in task["shift"]]
    x = geometry.translate(x, jnp.array(moved, float))
  if "corrupt" in task:
    x = corruptions.corrupt(key, x, task["corrupt"], task.get("severity", 3))
  return {"x": x, "y": jnp.asarray(part["y"])}


@functools.lru_cache(maxsize=16)
def _text(
  file: str, spelling: str, length: int, data_dir: str | None, download: bool
) -> dict[str, dict[str, np.ndarray]]:
  """Return the splits of a text in a spelling."""
  parts = _own() if file == "own" else _read(file, data_dir, download)
  return {n: _windows(spell(t, spelling), length) for n, t in parts.items()}


def _read(file: str, data_dir: str | None, download: bool) -> dict[str, str]:
  splits = ws.data.load(
    "text", data_dir, download=download, file=file, length=1
  )
  known = ws.data.vocabulary(data_dir, file=file, download=download)
  characters = np.array(list(known))
  return {
    name: "".join(characters[part["x"].ravel()])
    for name, part in splits._asdict().items()
  }


def _own() -> dict[str, str]:
  """Return a frozen text of the library's own, as three parts."""
  text = FROZEN.read_text()
  cuts = [0, len(text) * 8 // 10, len(text) * 9 // 10, len(text)]
  names = ("train", "validation", "test")
  return {n: text[a:b] for n, a, b in zip(names, cuts, cuts[1:])}


def _windows(text: str, length: int) -> dict[str, np.ndarray]:
  """Return "x" [N, length] and, one character later, "y"."""
  tokens = encode(text)
  count = (len(tokens) - 1) // length
  x, y = tokens[: count * length], tokens[1 : count * length + 1]
  return {"x": x.reshape(count, length), "y": y.reshape(count, length)}
