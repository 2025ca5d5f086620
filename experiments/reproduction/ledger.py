"""The ledger: every result that the table has shown, one line each.

A line is a claim's result with the registration that it was judged under; none
is ever changed or taken out.  Results of before claims were registered have no
`registration`, and say so in the table.

>>> entry = {"name": "a", "registration": "12", "seed": 7000, "mode": "paper"}
>>> refusal([entry], entry, second=False) is None
True
>>> refusal([entry], entry | {"registration": "34"}, second=False)
'a: its registration changed after its first table run; --second_registration \
keeps both results'
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.run import registration, runs
from experiments.run.discovery import Claim

Line = dict[str, Any]


def path(out: pathlib.Path) -> pathlib.Path:
  """Return where the ledger of a table lies: beside it.

  >>> path(pathlib.Path("REPRODUCTIONS.md")).name
  'REPRODUCTIONS.jsonl'
  """
  return out.with_suffix(".jsonl")


def read(out: pathlib.Path) -> list[Line]:
  """Return the lines of a table's ledger, oldest first."""
  return runs.read_lines(path(out))


def add(out: pathlib.Path, line: Line) -> None:
  """Append a line, unless it is there already."""
  if line not in read(out):
    text = json.dumps(line, sort_keys=True, ensure_ascii=False)
    runs.append(path(out), text + "\n")


def name_of(claim: Claim, size: str) -> str:
  """Return the name of a claim's row, which at the paper's size is another.

  >>> name_of(Claim("mine", "soup", "my_config"), "paper")
  "mine, paper's size"
  """
  return claim.name if size == "ours" else f"{claim.name}, paper's size"


def line(
  claim: Claim, result: Mapping[str, Any], mode: str, size: str = "ours"
) -> Line:
  """Return the line of a claim's finished run.

  Args:
    claim: its name and config.
    result: what result.json holds.
    mode: "paper", or "tiny", which proves nothing.
    size: "ours", or "paper", which is a row of its own.
  """
  kept = ("measured", "verdict", "p", "seed", "seconds", "command", "git")
  registered = result["registered"]
  return {
    "name": name_of(claim, size),
    "experiment": claim.experiment,
    "config": claim.config,
    "mode": mode,
    "registered": registered,
    "registration": registration.digest(registered),
    "finished": result.get("finished"),
    "folder": result.get("folder"),
    **{name: result.get(name) for name in kept},
  }


def refusal(
  lines: Sequence[Mapping[str, Any]], new: Mapping[str, Any], second: bool
) -> str | None:
  """Return why a line may not enter the ledger, or None where it may.

  Args:
    lines: of the ledger.
    new: the line.
    second: whether a changed registration was asked for.
  """
  name = new["name"]
  if new["seed"] < registration.TABLE:
    return (
      f"{name}: seed {new['seed']} is for tuning, expected"
      f" {registration.TABLE} or above in the table"
    )
  before = [
    x for x in lines if x["name"] == name and x["registration"] is not None
  ]
  if new["mode"] == "tiny":
    real = any(x["mode"] != "tiny" for x in lines if x["name"] == name)
    return f"{name}: a tiny run replaces no row of the table" if real else None
  before = [x for x in before if x["mode"] != "tiny"]
  if not before or second:
    return None
  if new["registration"] != before[-1]["registration"]:
    return (
      f"{name}: its registration changed after its first table run;"
      " --second_registration keeps both results"
    )
  if new["seed"] != before[-1]["seed"]:
    return (
      f"{name}: seed {new['seed']}, expected {before[-1]['seed']} as in its"
      " first table run"
    )
  return None
