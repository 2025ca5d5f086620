"""The run folder: what an experiment leaves behind, safe to kill at any moment.

`runs/<experiment>/<config>-<hash>/` holds config.json, metrics.jsonl (one line
per point), checkpoints/ (one per finished stage), figures/, report.html, and
last of all result.json, whose presence means done.  Every file is written aside
and renamed, or appended by whole lines, so the same command goes on from what
is there.  This module imports no jax: a finished run answers at once.

>>> digest({"seed": 0}) == digest({"seed": 0})
True
"""

import hashlib
import json
import math
import os
import pathlib
import shutil
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, NamedTuple

Folder = pathlib.Path
Table = dict[str, dict[str, Any]]  # {row: {column: Interval or number}}


class Run(NamedTuple):
  """What `main(run)` gets: its settings, and its folder to write to."""

  config: Any  # ConfigDict
  folder: Folder
  data_dir: str | None
  about: dict[str, str]  # name, experiment, command: for the page
  lines: dict[str, dict[str, Any]]  # what metrics.jsonl holds, by identity
  since: float  # time.monotonic() at the start, less the seconds of before
  lock: IO[bytes]  # held while this process runs
  own: Mapping[str, Callable[..., Any]] = types.MappingProxyType({})  # own.py
  download: bool = False  # whether missing data may be fetched

  @property
  def key(self) -> Any:
    """The key of the run's seed: `jax.random.key(config.seed)`."""
    import jax

    return jax.random.key(self.config.seed)

  @property
  def seconds(self) -> float:
    """Seconds spent on this folder, over all resumptions."""
    return time.monotonic() - self.since

  def data(self) -> Any:
    """Return the splits that the config names, or its file's own."""
    import weightspace as ws

    if "data" in self.own:
      return self.own["data"](self.config, self.data_dir)
    return ws.data.load(self.config.data, self.data_dir, download=self.download)

  def model(self) -> Any:
    """Return the model that the config names, or its file's own."""
    import weightspace as ws

    if "model" in self.own:
      return self.own["model"](self.config)
    return ws.models.build(**self.config.model)

  def metric(self) -> Callable[[Any, Any], Any]:
    """Return `metric(outputs, y) -> [B]`: accuracy, or the file's own."""
    import weightspace as ws

    return self.own.get("metric", ws.losses.accuracy)

  def recipes(self) -> dict[str, Any]:
    """Return the recipes that the config's file brings, by name."""
    return self.own["recipes"](self.config) if "recipes" in self.own else {}

  def log(self, **numbers: Any) -> None:
    """Append one line to metrics.jsonl, unless it is there already.

    Words and whole numbers say which line it is (`seed=0, method="greedy"`),
    floats what was measured: a resumed run logs each line once.
    """
    numbers = plain(numbers)
    line = identity(numbers)
    if line not in self.lines:
      record = numbers | {"seconds": round(self.seconds, 3)}
      append(self.folder / "metrics.jsonl", json.dumps(record) + "\n")
      self.lines[line] = record

  def once(self, name: str, stage: Callable[[], Any]) -> Any:
    """Return the tree that `stage()` makes, kept in checkpoints/ when done.

    A resumed run reads it back.  What is returned was read from the disk in
    either case, so both runs go on from the same thing.
    """
    import weightspace as ws

    path = self.folder / "checkpoints" / name
    if not path.exists():
      ws.checkpoints.save(path, stage())
    self.log(stage=name)
    return ws.checkpoints.restore(path)

  def members(
    self, name: str, stage: Callable[[], tuple[Any, Sequence[Any]]]
  ) -> tuple[Any, list[Any]]:
    """Return (Stack, [Member]) that `stage()` makes, one file per member.

    As `once`; each model is a checkpoint of its own with its provenance beside
    it, `checkpoints/<name>/<index>.safetensors`, which other tools read too.
    """
    import weightspace as ws

    folder = self.folder / "checkpoints" / name
    if not folder.exists():
      aside = folder.with_name(f".{name}.writing")
      shutil.rmtree(aside, ignore_errors=True)  # what a killed run left
      stack, members = stage()
      for index, params in enumerate(ws.unstack(stack)):
        path = aside / f"{index:03d}.safetensors"
        ws.checkpoints.save(path, params, members[index])
      os.replace(aside, folder)
    self.log(stage=name)
    paths = sorted(folder.iterdir())
    stack = ws.stack([ws.checkpoints.restore(path) for path in paths])
    return stack, [ws.checkpoints.member(path) for path in paths]

  def finish(
    self,
    claim: str,
    measured: str,
    numbers: Table,
    holds: bool | None,
    figures: dict[str, Any] | None = None,
  ) -> None:
    """Write figures/, report.html and, last of all, result.json.

    Args:
      claim: the statement that was tested.
      measured: what was found, in one line with its interval.
      numbers: {row: {column: Interval or number}}: the table.
      holds: whether the claim holds here; None where nothing is claimed.
      figures: {name: (matplotlib Figure or None, caption)}.
    """
    from experiments import results

    found = {
      "title": self.config.get("title", self.about["name"]),
      "paper": self.config.get("paper"),
      "claim": claim,
      "measured": measured,
      "numbers": numbers,
      "holds": holds,
      "seed": self.config.get("seed"),
      "seconds": round(self.seconds, 1),
    }
    found |= self.about | results.describe()
    results.write(self.folder, plain(found, "result"), figures or {})


def plain(value: Any, path: str = "value") -> Any:
  """Return `value` as JSON has it: arrays of one number become numbers.

  JSON has no infinity or NaN; they become null.

  Raises:
    ValueError: naming the path of what JSON cannot hold, such as a function.
  """
  if hasattr(value, "_asdict"):
    value = value._asdict()
  if hasattr(value, "tolist"):
    value = value.tolist()
  if isinstance(value, dict):
    return {str(key): plain(v, f"{path}.{key}") for key, v in value.items()}
  if isinstance(value, list | tuple):
    return [plain(v, f"{path}[{i}]") for i, v in enumerate(value)]
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if value is None or isinstance(value, bool | int | str):
    return value
  raise ValueError(f"{path} is a {type(value).__name__}, expected JSON values")


def identity(numbers: dict[str, Any]) -> str:
  """Return what tells one line of metrics.jsonl from another: all but floats.

  >>> identity({"step": 3, "loss": 0.5})
  '{"step": 3}'
  """
  known = {
    key: value
    for key, value in numbers.items()
    if value is not None and not isinstance(value, float)
  }
  return json.dumps(known, sort_keys=True)


def digest(config: dict[str, Any]) -> str:
  """Return the short hash of a config that names its folder."""
  text = json.dumps(config, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def write(path: Folder, content: str | bytes) -> None:
  """Put text or bytes at `path`, whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  aside = path.with_name(f".{path.name}.writing")
  data = content.encode() if isinstance(content, str) else content
  with open(aside, "wb") as file:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
  os.replace(aside, path)


def append(path: Folder, text: str) -> None:
  """Add whole lines at the end; where the disk is full, none of them."""
  size = path.stat().st_size if path.exists() else 0
  left = text.encode()
  with open(path, "ab", buffering=0) as file:
    try:
      while left:  # a nearly full disk takes a part, and only then complains
        left = left[file.write(left) :]
    except OSError:
      os.truncate(path, size)
      raise


def read_lines(path: Folder) -> list[dict[str, Any]]:
  """Read metrics.jsonl, cutting off the half line that a kill left."""
  if not path.exists():
    return []
  text = path.read_bytes()
  whole = text.rfind(b"\n") + 1
  if whole < len(text):
    os.truncate(path, whole)
  return [json.loads(line) for line in text[:whole].splitlines()]


def dump(value: Any) -> str:
  """Return JSON as the folder keeps it: sorted, one entry on a line."""
  return json.dumps(value, indent=1, sort_keys=True) + "\n"


def load(path: Folder) -> Any:
  """Read a JSON file."""
  return json.loads(path.read_text(encoding="utf-8"))


def check_config(found: Any, config: Any, path: str = "config") -> None:
  """Raise a ValueError at the first key where the folder's config differs."""
  if isinstance(found, dict) and isinstance(config, dict):
    for key in sorted(found.keys() | config.keys()):
      inner = f"{path}.{key}"
      if key not in found or key not in config:
        where = "the folder" if key in found else "this command"
        raise ValueError(f"{inner} is set by {where} alone")
      check_config(found[key], config[key], inner)
  elif found != config:
    raise ValueError(f"{path} is {found!r} in the folder, not {config!r}")
