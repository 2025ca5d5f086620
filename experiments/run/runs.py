"""The run folder: what an experiment leaves behind, safe to kill at any moment.

`runs/<experiment>/<config>-<hash>/` holds config.json, metrics.jsonl (one line
per point), checkpoints/ (one per finished stage, and while a long one trains
its state now and then), figures/, report.html, and last of all result.json,
whose presence means done.  Every file is written aside and renamed, or appended
by whole lines, so the same command goes on from what is there.  This module
imports no jax: a finished run answers at once.

>>> digest({"seed": 0}) == digest({"seed": 0})
True
"""

import contextlib
import json
import os
import shutil
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, NamedTuple

from experiments.run.files import (
  Folder,
  append,
  check_config,
  digest,
  dump,
  identity,
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
  save_every: float = 0.0  # seconds between saves within a stage; 0: none
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

    path = self._keep(name, stage, ws.checkpoints.save)
    return ws.checkpoints.restore(path)

  def members(
    self, name: str, stage: Callable[[], tuple[Any, Sequence[Any]]]
  ) -> tuple[Any, list[Any]]:
    """Return (Stack, [Member]) that `stage()` makes, one file per member.

    As `once`; each model is a checkpoint of its own with its provenance beside
    it, `checkpoints/<name>/<index>.safetensors`, which other tools read too.
    """
    import weightspace as ws

    paths = sorted(self._keep(name, stage, _write_members).iterdir())
    stack = ws.stack([ws.checkpoints.restore(path) for path in paths])
    return stack, [ws.checkpoints.member(path) for path in paths]

  def training(self, name: str) -> Any:
    """Return `fit_population`'s checkpoint within a stage; None for none.

    A run that is killed in the stage goes on from the last save; all are
    removed when the stage is done.  What other code saved, or hardware that
    rounds the starts otherwise, is not gone on with: the stage begins anew.

    Args:
      name: of the stage, in which one population at most is trained.
    """
    from weightspace.train import resume

    if not self.save_every:
      return None
    saved = self._training(name)
    return resume.Checkpoint(saved, seconds=self.save_every, anew=True)

  def _training(self, name: str) -> Folder:
    return self.folder / "checkpoints" / f".{name}.training"

  def _keep(
    self, name: str, stage: Callable[[], Any], write: Callable[..., None]
  ) -> Folder:
    """Compute and write a stage, unless it is there; return where it is."""
    from weightspace.hosts import multihost

    path, saved = self.folder / "checkpoints" / name, self._training(name)
    if not multihost.share("done" if path.exists() else ""):
      with self._traced():
        made = stage()
      write(path, made)
    # Also what a kill just after the stage left.
    multihost.first(lambda: shutil.rmtree(saved, ignore_errors=True))
    self.log(stage=name)
    return path

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
    holds: Any,
    figures: dict[str, Any] | None = None,
  ) -> None:
    """Write figures/, report.html and, last of all, result.json.

    Args:
      claim: the statement that was tested.
      measured: what was found, in one line with its interval.
      numbers: {row: {column: Interval or number}}: the table.
      holds: a Verdict, or plain true or false; None where nothing is claimed.
        Over a single seed nothing is decided, whatever this says (verdicts.py).
      figures: {name: (matplotlib Figure or None, caption)}.
    """
    from experiments.run import results, verdicts
    from weightspace.hosts import multihost

    measured, verdict = verdicts.settle(
      measured, verdicts.of(holds), self.lines.values()
    )
    found = {
      "title": self.config.get("title", self.about["name"]),
      "paper": self.config.get("paper"),
      "claim": claim,
      "measured": measured,
      "numbers": numbers,
      **verdicts.entries(verdict),
      "registered": self.config.get("registered"),
      "seed": self.config.get("seed"),
      "seconds": round(self.seconds, 1),
    }
    found |= self.about | results.describe(self.mesh)
    if self.meter:
      found["speed"] = self.meter.report()
    whole, charts = plain(found, "result"), figures or {}
    multihost.first(lambda: results.write(self.folder, whole, charts))


def _write_members(folder: Folder, made: tuple[Any, Sequence[Any]]) -> None:
  import weightspace as ws
  from weightspace.hosts import multihost

  stack, members = made
  aside = folder.with_name(f".{folder.name}.writing")
  # What a killed run left.
  multihost.first(lambda: shutil.rmtree(aside, ignore_errors=True))
  for index, params in enumerate(ws.unstack(stack)):
    path = aside / f"{index:03d}.safetensors"
    ws.checkpoints.save(path, params, members[index])
  multihost.first(lambda: os.replace(aside, folder))
