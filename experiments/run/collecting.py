"""Runs of a folder as records: what each was, what it measured, seed by seed.

A record has the run's identity, its settings flattened to dotted names, the
numbers of its table by "row / column", and per seed what it logged, so that two
runs can be compared with a paired interval.

>>> flat({"a": {"b": 1}, "c": [1, 2]})
{'a.b': 1, 'c': [1, 2]}
"""

import csv
import io
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.run import runs
from experiments.run.verdicts import FAILS, HOLDS

Record = dict[str, Any]
WORDS = {True: HOLDS, False: FAILS, None: "-"}  # of results without a verdict
LEFT_OUT = {"checkpoints", "figures"}  # folders of a run, without results


def collect(folder: str | os.PathLike[str]) -> list[Record]:
  """Return the record of every finished run below a folder, in path order.

  Raises:
    ValueError: when the folder is missing or no run below it is finished, or
      a result cannot be read, naming it.
  """
  root = pathlib.Path(folder)
  if not root.is_dir():
    raise ValueError(f"{folder}: no folder")
  found = [record(path, root) for path in sorted(_finished(root))]
  if not found:
    raise ValueError(f"{folder}: no finished run (result.json) below it")
  return found


def _finished(root: pathlib.Path) -> Iterator[pathlib.Path]:
  for at, folders, files in os.walk(root):
    folders[:] = [name for name in folders if name not in LEFT_OUT]
    if "result.json" in files:
      folders.clear()
      yield pathlib.Path(at)


def record(path: pathlib.Path, root: pathlib.Path) -> Record:
  """Return the record of one run folder."""
  try:
    result = runs.load(path / "result.json")
    config = runs.load(path / "config.json")
    lines = runs.read_lines(path / "metrics.jsonl")
  except (OSError, ValueError, KeyError) as error:
    raise ValueError(f"{path}: cannot be read: {error}") from error
  table = result.get("numbers", {})
  numbers = {
    f"{row} / {column}": entry
    for row, entries in table.items()
    for column, entry in entries.items()
  }
  return {
    "run": path.relative_to(root).as_posix() or ".",
    "experiment": result.get("experiment"),
    "title": result.get("title"),
    "holds": result.get("holds"),
    "verdict": result.get("verdict") or WORDS[result.get("holds")],
    "measured": result.get("measured"),
    "seconds": result.get("seconds"),
    "git": result.get("git"),
    "overrides": _overrides(path, root),
    "figures": [
      at.relative_to(root).as_posix()
      for at in sorted((path / "figures").glob("*.png"))
    ],
    "settings": flat(config),
    "numbers": numbers,
    "seeds": by_seed(lines),
  }


def _overrides(path: pathlib.Path, root: pathlib.Path) -> dict[str, Any]:
  """Return what a sweep changed for this run; nothing for a run by itself."""
  for folder in (path, *path.parents):
    about = folder / "unit.json"
    if about.exists():
      return runs.load(about)["overrides"]
    if folder == root:
      break
  return {}


def flat(tree: Any, path: str = "") -> dict[str, Any]:
  """Return nested settings by dotted name; lists stay values."""
  if not isinstance(tree, Mapping):
    return {path: tree}
  found: dict[str, Any] = {}
  for name, value in tree.items():
    found |= flat(value, f"{path}.{name}" if path else str(name))
  return found


def by_seed(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
  """Return {"method / metric": {seed: value}} of what a run logged.

  >>> by_seed([{"seed": 0, "method": "mean", "loss": 0.5, "seconds": 1.0}])
  {'mean / loss': {'0': 0.5}}
  """
  found: dict[str, dict[str, float]] = {}
  for line in lines:
    if "seed" not in line:
      continue
    words = [str(v) for k, v in line.items() if _word(k, v)]
    for name, value in line.items():
      if isinstance(value, float) and name != "seconds":
        key = " / ".join([*words, name])
        found.setdefault(key, {})[str(line["seed"])] = value
  return found


def _word(name: str, value: Any) -> bool:
  return name != "seed" and isinstance(value, str | int)


def table(records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
  """Return the tidy table of records: its columns and rows.

  Settings that are the same in all runs are left out; an interval has a column
  each for its mean, low and high; "-" is where nothing was decided or claimed.
  """
  first = ("run", "experiment", "holds", "verdict")
  names: dict[str, None] = dict.fromkeys(first)
  changed = differing(records)
  rows: list[dict[str, Any]] = []
  for item in records:
    row = {name: item[name] for name in first}
    row["holds"] = "-" if row["holds"] is None else row["holds"]
    row |= {name: item["settings"].get(name) for name in changed}
    for name, entry in item["numbers"].items():
      row |= _columns(name, entry)
    row["seconds"] = item["seconds"]
    rows.append(row)
    names |= dict.fromkeys(row)
  return list(names), [[row.get(name) for name in names] for row in rows]


def _columns(name: str, entry: Any) -> dict[str, Any]:
  if not isinstance(entry, Mapping):
    return {name: entry}
  ends = {f"{name} ({end})": entry.get(end) for end in ("low", "high")}
  return {name: entry.get("mean")} | ends


def differing(records: Sequence[Record]) -> list[str]:
  """Return the settings that are not the same in all runs."""
  names = dict.fromkeys(n for item in records for n in item["settings"])
  first = records[0]["settings"]
  absent = object()
  return [
    name
    for name in names
    if any(
      item["settings"].get(name, absent) != first.get(name, absent)
      for item in records
    )
  ]


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """Return the table as CSV; lists and levels as JSON.

  >>> as_csv(["a", "b"], [[1, None], [[2], "x, y"]]).splitlines()
  ['a,b', '1,', '[2],"x, y"']
  """
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(columns)
  for row in rows:
    writer.writerow(
      [json.dumps(x) if isinstance(x, list | dict) else x for x in row]
    )
  return text.getvalue()
