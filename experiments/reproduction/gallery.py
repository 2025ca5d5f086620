"""The gallery: one page with figure, verdict and paper's number of each claim.

>>> "<h1>Reproductions</h1>" in page([], ".")
True
"""

import base64
import html
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reproduction import table
from weightspace import report

MARKS = {"holds": "yes", "does not hold": "no", "undecided": "note"}
STYLE = """
body { max-width: 90rem }
section { border-top: 1px solid var(--line); padding: 1rem 0 }
section img { max-width: 100%; background: #fff }
"""


def page(
  lines: Sequence[Mapping[str, Any]], workdir: str | os.PathLike[str]
) -> str:
  """Return the page of the ledger's lines as one HTML document.

  Args:
    lines: of the ledger.
    workdir: the folder of the run folders, where figures are taken from.
  """
  body = "\n".join(
    _section(line, lines, pathlib.Path(workdir))
    for line in table.latest(lines).values()
  )
  return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reproductions</title>
<style>{report.STYLE}{STYLE}</style>
</head>
<body>
<div class="kicker">weightspace</div>
<h1>Reproductions</h1>
<p>{html.escape(table.summary(lines))}</p>
{body}
</body>
</html>
"""


def _section(
  line: Mapping[str, Any],
  lines: Sequence[Mapping[str, Any]],
  workdir: pathlib.Path,
) -> str:
  known = line["registered"]
  number = known.get("paper_number") or "no number"
  word, kind = line["verdict"], known["kind"]
  about = (
    f"{known['paper']}; paper: {number}; kind: {kind}; fresh seeds:"
    f" {table.fresh(line, lines)}"
  )
  return f"""<section id="{html.escape(line["name"])}">
<h2>{html.escape(line["name"])}</h2>
<div class="verdict {MARKS[word]}"><b>{word.capitalize()}.</b>
{html.escape(known["statement"])}<p>{html.escape(line["measured"])}</p></div>
<p class="soft">{html.escape(about)}</p>
{_figures(workdir / (line.get("folder") or "?"))}
</section>"""


def _figures(folder: pathlib.Path) -> str:
  """Return a run's figures, or a word where they are not on this machine."""
  paths = sorted((folder / "figures").glob("*.png"))
  if not paths:
    return '<p class="soft">The run folder with its figure is not here.</p>'
  return "\n".join(
    f'<img alt="{html.escape(path.stem)}" src="data:image/png;base64,'
    f'{base64.b64encode(path.read_bytes()).decode()}">'
    for path in paths
  )
