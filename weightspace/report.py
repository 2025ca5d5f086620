"""The run's page: one self-contained HTML file, made from a run's numbers.

It says what was claimed, whether it holds, what was measured with intervals,
and how to run it again.  Figures are inline, nothing is fetched, and it reads
on light and dark screens and on paper.

>>> number({"mean": 0.5, "low": 0.41, "high": 0.59, "size": 5})
'0.500 [0.410, 0.590]'
"""

import html
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

MARKS = {"holds": "yes", "does not hold": "no", "undecided": "note"}

STYLE = """
:root { color-scheme: light dark; --ink: #1a1b1e; --soft: #5d636d;
  --line: #d9dce1; --paper: #fdfdfc; --card: #f3f4f5; --yes: #1f7a4d;
  --no: #b3402a; --note: #3867a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e8ea; --soft: #a0a6b0;
  --line: #393d44; --paper: #16181b; --card: #1f2226; --yes: #5cc08d;
  --no: #ef8a70; --note: #82ade6; } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 58rem;
  color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { margin: .2rem 0 .6rem; font-size: 1.75rem; line-height: 1.2; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.05rem; }
a { color: var(--note) }
.kicker, .soft, figcaption { color: var(--soft); font-size: .875rem; }
.verdict { margin: 1.4rem 0; padding: .9rem 1.1rem; background: var(--card);
  border-left: 4px solid var(--note); border-radius: 0 6px 6px 0; }
.verdict b { color: var(--note) }
.verdict.yes { border-color: var(--yes) } .verdict.yes b { color: var(--yes) }
.verdict.no { border-color: var(--no) } .verdict.no b { color: var(--no) }
.verdict p { margin: .25rem 0 0 }
figure { margin: 1.6rem 0 } svg { width: 100%; height: auto; display: block }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .925rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .9rem .4rem 0; text-align: left;
  border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { border-bottom-color: var(--soft); font-weight: 600; }
tbody th { font-weight: 500 }
td .soft { margin-left: .45rem; white-space: nowrap; }
pre { margin: 0; padding: .8rem 1rem; overflow-x: auto; background: var(--card);
  border-radius: 6px; font: .85rem/1.5 ui-monospace, monospace; }
.pair { display: grid; gap: 0 2.5rem;
  grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); }
.pair table { font-size: .825rem } .pair td { overflow-wrap: anywhere }
@media print { body { padding: 0; max-width: none } }
"""


def decimals(entries: Iterable[Any]) -> int:
  """Return the decimals that give a typical half interval two digits.

  >>> decimals([{"mean": 0.5, "low": 0.41, "high": 0.59}])
  3

  Two digits of an uncertainty: GUM, section 7.2.6, JCGM 100:2008.
  """
  halves = [
    (entry["high"] - entry["low"]) / 2
    for entry in entries
    if isinstance(entry, Mapping) and None not in entry.values()
  ]
  halves = sorted(half for half in halves if half > 0)
  if not halves:
    return 3
  typical = halves[len(halves) // 2]
  return min(6, max(0, 1 - math.floor(math.log10(typical))))


def _parts(entry: Any, places: int) -> tuple[str, str]:
  """Split a number into its text and that of its interval."""
  if entry is None:
    return "-", ""
  if isinstance(entry, Mapping):
    mean, low, high = entry["mean"], entry["low"], entry["high"]
    if low is None or high is None:
      return f"{mean:.{places}f}", ""
    return f"{mean:.{places}f}", f"[{low:.{places}f}, {high:.{places}f}]"
  return (f"{entry:.4g}" if isinstance(entry, float) else str(entry)), ""


def number(entry: Any, places: int | None = None, brief: bool = False) -> str:
  """Return a number, or an interval as `mean [low, high]`, for people.

  Args:
    entry: a number, None, or a mapping with mean, low and high, as an
      `Interval` is in JSON; low and high are None where one value was measured.
    places: decimals of an interval; None gives its half two digits.
    brief: write an interval that lies evenly about its mean as `mean ± half`.

  Returns:
    Text.

  >>> number(None), number(3), number(0.123456)
  ('-', '3', '0.1235')

  The rounding: `decimals`.
  """
  places = decimals([entry]) if places is None else places
  if brief and isinstance(entry, Mapping) and entry["low"] is not None:
    left, right = entry["mean"] - entry["low"], entry["high"] - entry["mean"]
    if math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-12):
      return f"{entry['mean']:.{places}f} ± {right:.{places}f}"
  return " ".join(filter(None, _parts(entry, places)))


def columns(numbers: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
  """Return {column: decimals} of `{row: {column: entry}}`, in order of mention.

  >>> columns({"a": {"loss": 1.0}, "b": {"accuracy": 0.5, "loss": 2.0}})
  {'loss': 3, 'accuracy': 3}

  The table of a run's result.json, a format of ours.
  """
  names = dict.fromkeys(name for row in numbers.values() for name in row)
  rows = numbers.values()
  return {name: decimals(row.get(name) for row in rows) for name in names}


def _table(numbers: Mapping[str, Mapping[str, Any]]) -> str:
  names = columns(numbers)
  head = "".join(f"<th>{html.escape(name)}</th>" for name in ["", *names])
  body = []
  for row, entries in numbers.items():
    cells = [f"<th>{html.escape(row)}</th>"]
    for name, places in names.items():
      value, interval = _parts(entries.get(name), places)
      soft = f'<span class="soft">{interval}</span>' if interval else ""
      cells.append(f"<td>{value}{soft}</td>")
    body.append(f"<tr>{''.join(cells)}</tr>")
  rows = "\n".join(body)
  return (
    f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
    f"<tbody>{rows}</tbody></table></div>"
  )


def _settings(tree: Any, path: str = "") -> dict[str, str]:
  """Flatten nested settings to `{a.b: text}`."""
  if not isinstance(tree, Mapping):
    return {path: "-" if tree is None else str(tree)}
  flat: dict[str, str] = {}
  for key, value in tree.items():
    flat |= _settings(value, f"{path}.{key}" if path else str(key))
  return flat


def _pairs(tree: Mapping[str, Any]) -> str:
  rows = "".join(
    f"<tr><th>{html.escape(key)}</th><td>{html.escape(text)}</td></tr>"
    for key, text in _settings(tree).items()
  )
  return f"<table><tbody>{rows}</tbody></table>"


def _linked(text: str) -> str:
  """Escape text and make its addresses links."""
  link = r'<a href="\1">\1</a>'
  return re.sub(r"(https?://[^\s<>\"']+[\w/])", link, html.escape(text))


def verdict(result: Mapping[str, Any]) -> str:
  """Return the verdict of a result.json in words, a format of ours.

  >>> verdict({"verdict": "undecided"}), verdict({"holds": None})
  ('undecided', 'measured')
  """
  old = {True: "holds", False: "does not hold", None: "measured"}
  return result.get("verdict") or old[result.get("holds")]


def _registered(known: Mapping[str, Any] | None) -> str:
  """Return what was registered of a claim before it was run, folded."""
  if not known:
    return ""
  rest = {name: v for name, v in known.items() if name != "statement"}
  rest["controls"] = "; ".join(known.get("controls", ())) or None
  opened = "<details><summary>Registered before the run</summary>"
  return f"{opened}{_pairs(rest)}</details>"


def page(
  result: Mapping[str, Any],
  config: Mapping[str, Any],
  figures: Mapping[str, str],
) -> str:
  """Return the page of a run as HTML.

  Args:
    result: what result.json holds: title, claim, paper, measured, holds (True,
      False or None), numbers {row: {column: entry}}, command, seconds, seed,
      git, versions, device, and the like.
    config: what config.json holds.
    figures: {caption: inline SVG}.

  Returns:
    One HTML document that refers to nothing outside itself.

  >>> text = page({"title": "A soup", "numbers": {}, "holds": True}, {}, {})
  >>> "<h1>A soup</h1>" in text
  True

  The layout of a run's folder, a format of ours.
  """
  get = lambda name: html.escape(str(result.get(name) or ""))  # noqa: E731
  word = verdict(result)
  shown = "title claim paper measured holds verdict numbers command".split()
  shown.append("registered")
  settings = {key: v for key, v in config.items() if key not in shown}
  rest = {key: v for key, v in result.items() if key not in shown}
  drawn = "\n".join(
    f"<figure>{svg}<figcaption>{html.escape(name)}</figcaption></figure>"
    for name, svg in figures.items()
  )
  return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{get("title")}</title>
<style>{STYLE}</style>
</head>
<body>
<div class="kicker">weightspace · {get("experiment")} · {get("name")}</div>
<h1>{get("title")}</h1>
<div class="soft">{_linked(str(result.get("paper") or ""))}</div>
<div class="verdict {MARKS.get(word, "note")}"><b>{word.capitalize()}.</b>
{get("claim")}<p>{get("measured")}</p></div>
{_registered(result.get("registered"))}
{drawn}
<h2>Numbers</h2>
{_table(result["numbers"])}
<p class="soft">Mean over seeds, with its 95&nbsp;% interval.</p>
<h2>Run it again</h2>
<pre>{get("command")}</pre>
<div class="pair">
<div><h2>Settings</h2>{_pairs(settings)}</div>
<div><h2>Provenance</h2>{_pairs(rest)}</div>
</div>
</body>
</html>
"""
