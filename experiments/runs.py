"""The run folder: what an experiment leaves behind, safe to kill at any moment.

`runs/<experiment>/<config>-<hash>/` holds config.json, metrics.jsonl (one line
per point), checkpoints/ (one per finished stage), figures/, report.html, and
last of all result.json, whose presence means done.  Every file is written aside
and renamed, or appended by whole lines, so the same command goes on from what
is there.  This module imports no jax: a finished run answers at once.

>>> digest({"seed": 0}) == digest({"seed": 0})
True
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, NamedTuple

from experiments.files import (
  Folder,
  append,
  check_config,
  dump,
  load,
  plain,
  read_lines,
  write,
)

__all__ = [
  "Folder",
  "Run",
  "Table",
  "append",
  "check_config",
  "digest",
  "dump",
  "identity",
  "load",
  "plain",
  "read_lines",
  "write",
]

Table = dict[str, dict[str, Any]]  # {row: {column: Interval or number}}


class Run(NamedTuple):
  """What `main(run)` gets: its settings, and its folder to write to."""

  config: Any  # ConfigDict
  folder: Folder
  data_dir: str | None
  about: dict[str, str]  # name, experiment, command: for the page
  lines: dict[str, dict[str, Any]]  # what metrics.jsonl holds, by identity
  since: float  # time.monotonic() at the start, less the seconds of before
  lock: IO[bytes] | None  # held while this process runs; by the first host
  own: Mapping[str, Callable[..., Any]] = types.MappingProxyType({})  # own.py
  download: bool = False  # whether missing data may be fetched
  writes: bool = True  # the others of several hosts only compute
  mesh: Any = None  # jax.sharding.Mesh of config.mesh; None for one device
  meter: Any = None  # profiling.Meter
  track: Callable[[Any], None] | None = None  # a tracker's writer

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
      if self.writes:
        append(self.folder / "metrics.jsonl", json.dumps(record) + "\n")
      if self.track:
        self.track(record)
      self.lines[line] = record

  def once(self, name: str, stage: Callable[[], Any]) -> Any:
    """Return the tree that `stage()` makes, kept in checkpoints/ when done.

    A resumed run reads it back.  What is returned was read from the disk in
    either case, so both runs go on from the same thing.
    """
    import weightspace as ws

    path = self.folder / "checkpoints" / name
    if not self._has(path):
      with self._traced():
        made = stage()
      ws.checkpoints.save(path, made)
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
    from weightspace import processes

    folder = self.folder / "checkpoints" / name
    if not self._has(folder):
      with self._traced():
        stack, members = stage()
      aside = folder.with_name(f".{name}.writing")
      # What a killed run left.
      processes.first(lambda: shutil.rmtree(aside, ignore_errors=True))
      for index, params in enumerate(ws.unstack(stack)):
        path = aside / f"{index:03d}.safetensors"
        ws.checkpoints.save(path, params, members[index])
      processes.first(lambda: os.replace(aside, folder))
    self.log(stage=name)
    paths = sorted(folder.iterdir())
    stack = ws.stack([ws.checkpoints.restore(path) for path in paths])
    return stack, [ws.checkpoints.member(path) for path in paths]

  def _has(self, path: Folder) -> bool:
    """Tell whether a stage is done, in all hosts alike."""
    from weightspace import processes

    return bool(processes.share("done" if path.exists() else ""))

  def _traced(self) -> Any:
    """Return the context of a stage that is computed."""
    if self.meter is None:
      return contextlib.nullcontext()
    return self.meter.traced(self.folder)

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
    from weightspace import processes

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
    found |= self.about | results.describe(self.mesh)
    if self.meter:
      found["speed"] = self.meter.report()
    whole, charts = plain(found, "result"), figures or {}
    processes.first(lambda: results.write(self.folder, whole, charts))


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
