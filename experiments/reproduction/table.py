"""The table of reproductions, made of the ledger's lines.

Claims of papers stand apart from identities and from what holds by
construction, which no data could refuse.  Holm's procedure is over the claims
of papers that were run as registered.

>>> holm({"a": 0.001, "b": 0.02, "c": 0.5})
{'a'}
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.run.registration import PAPER
from experiments.run.verdicts import HOLDS

LEVEL = 0.025  # one-sided, of each claim
HEAD = """# Reproductions

Claims of papers, measured again with this code on two CPU cores: small models
and data sets, whose statements are those of this table and not always all that
a paper says. Each is a mean over seeds with a 95 % interval, and a verdict:
*holds* where the whole interval lies on the side that is claimed, *does not
hold* where it lies on the other, *undecided* between.

Intervals cover what the column *seeds* says was drawn anew for each seed: the
starts, the order of the examples and, in some studies, the examples; unless it
says so, all seeds share one data set and one test set. A claim is registered in
its config before its table run, with statistic, threshold and number of seeds;
seeds below 7000 are for tuning, and the table is run once at 7000 or above.
Rows "before registration" are older: their settings were chosen while results
were looked at, on the same test images.

Written by `python -m experiments.reproduce`, which makes a row again with
`--only=NAME --data_dir=DIR`; `--check` compares a new run with the table.
"""
NAMES = "claim|statement|paper's number|measured|threshold|seeds|verdict"
NAMES += "|after Holm|fresh seeds|seconds"
PARTS = {
  "Claims of papers": PAPER,
  "Claims of ours": ("ours",),
  "Identities, and what holds by construction": (
    "identity",
    "by construction",
  ),
}
ORDINALS = ("first", "second", "third", "fourth", "fifth")


def holm(p: Mapping[str, float], level: float = LEVEL) -> set[str]:
  """Return the claims that hold after Holm's correction.

  Ordered by p, the k-th of m is compared with level / (m - k), k from 0, until
  one fails.

  Holm 1979, "A simple sequentially rejective multiple test procedure",
  https://www.jstor.org/stable/4615733.
  """
  kept: set[str] = set()
  for place, name in enumerate(sorted(p, key=lambda n: p[n])):
    if p[name] > level / (len(p) - place):
      break
    kept.add(name)
  return kept


def latest(lines: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
  """Return the last line of each claim; registered ones before all others."""
  found: dict[str, Mapping[str, Any]] = {}
  for line in lines:
    known = found.get(line["name"])
    if known is None or line["registration"] or not known["registration"]:
      found[line["name"]] = line
  return found


def text(lines: Sequence[Mapping[str, Any]], names: Iterable[str] = ()) -> str:
  """Return the whole table.

  Args:
    lines: of the ledger.
    names: of all claims that configs register; those without a line of their
      registration are listed as not run.
  """
  rows = latest(lines)
  kept = holm(_p(rows.values()))
  parts = [HEAD, f"**{summary(lines)}**\n"]
  for title, kinds in PARTS.items():
    part = [x for x in rows.values() if x["registered"]["kind"] in kinds]
    if part:
      body = "".join(row(line, lines, kept) + "\n" for line in part)
      parts.append(f"## {title}\n\n{_head()}{body}")
  earlier = _earlier(lines, rows)
  if earlier:
    body = "".join(row(line, lines, kept) + "\n" for line in earlier)
    parts.append(f"## Results under earlier registrations\n\n{_head()}{body}")
  waiting = [n for n in names if not rows.get(n, {}).get("registration")]
  if waiting:
    parts.append(
      "## Registered and not run yet\n\nTheir rows above, if any, are of before"
      f" registration: {', '.join(waiting)}.\n"
    )
  parts.append(f"{summary(lines)}\n")
  return "\n".join(parts)


def _head() -> str:
  columns = NAMES.split("|")
  return f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}\n"


def _p(lines: Iterable[Mapping[str, Any]]) -> dict[str, float]:
  """Return the p-values of claims of papers that were run as registered."""
  return {
    line["name"]: line["p"]
    for line in lines
    if line["registered"]["kind"] in PAPER
    and line["registration"]
    and line["p"] is not None
  }


def _earlier(
  lines: Sequence[Mapping[str, Any]], rows: Mapping[str, Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
  """Return what claims that were registered again had measured before."""
  return [
    line
    for line in lines
    if line["registration"]
    and line["registration"] != rows[line["name"]]["registration"]
  ]


def row(
  line: Mapping[str, Any],
  lines: Sequence[Mapping[str, Any]],
  kept: set[str],
) -> str:
  """Return one line of the table.

  Args:
    line: the result.
    lines: of the ledger, for what was registered and run before.
    kept: the claims that hold after Holm's correction.
  """
  known = line["registered"]
  number = known.get("paper_number") or "-"
  after = "-"
  if line["name"] in _p([line]) and line["verdict"] == HOLDS:
    after = "yes" if line["name"] in kept else "no"
  bound = "-"
  if "threshold" in known:
    numbers = known["threshold"]
    several = isinstance(numbers, list | tuple)
    bound = ", ".join(map(str, numbers)) if several else str(numbers)
    bound = f"{bound} ({known['threshold_by']}):"
    bound = f"{bound} {known['statistic']}"
  cells = [
    f"[{line['name']}](configs/{line['config']}.py)",
    known["statement"],
    f"{number} ({known['paper']})",
    line["measured"],
    bound,
    _seeds(line),
    line["verdict"],
    after,
    fresh(line, lines),
    f"{line['seconds']:.0f}",
  ]
  return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _seeds(line: Mapping[str, Any]) -> str:
  known = line["registered"]
  data = known.get("data", "one data set")
  tiny = ", tiny" if line["mode"] == "tiny" else ""
  return f"{known.get('seeds', '?')} from {line['seed']}, {data}{tiny}"


def fresh(line: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
  """Say whether a result's seeds had not been looked at before."""
  if not line["registration"]:
    note = line.get("note")
    return "no, before registration" + (f": {note}" if note else "")
  before = []
  for other in lines:
    if other is line or other == line:
      break
    if other["name"] == line["name"] and other["registration"]:
      before.append(other)
  registrations = {x["registration"] for x in before} - {line["registration"]}
  said = "no" if line["seed"] in {x["seed"] for x in before} else "yes"
  if registrations:
    place = min(len(registrations), len(ORDINALS) - 1)
    said += f", {ORDINALS[place]} registration"
  return said


def summary(lines: Sequence[Mapping[str, Any]]) -> str:
  """Return the last line of the table: how many hold, and how sure that is."""
  rows = latest(lines).values()
  papers = [line for line in rows if line["registered"]["kind"] in PAPER]
  run = [line for line in papers if line["registration"]]
  old = [line for line in papers if not line["registration"]]
  hold = sum(line["verdict"] == HOLDS for line in run)
  kept = holm(_p(run))
  after = sum(x["verdict"] == HOLDS and x["name"] in kept for x in run)
  changed = len({x["name"] for x in _earlier(lines, latest(lines))})
  said = (
    f"{hold} hold of {len(run)} claims of papers that were run as registered,"
    f" {after} after Holm; {LEVEL * len(run):.1f} expected to hold by chance if"
    f" none were true; {changed} changed after a first look."
  )
  if old:
    first = sum(bool(line.get("note")) for line in old)
    good = sum(line["verdict"] == HOLDS for line in old)
    said += (
      f" Before registration: {good} of {len(old)} held, {first} of which"
      " had their seeds or settings changed after a first no."
    )
  return said
