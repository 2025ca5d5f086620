"""The page of many runs: one self-contained HTML file.

The numbers lie in it as JSON; the scripts beside this module draw the table,
the parallel axes and the comparison from them.  Nothing is fetched; figures of
very many runs stay in the runs' folders beside the page.

>>> "<script>" in page("A sweep", [])
True
"""

import base64
import html
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from scipy import stats

from experiments.run import collecting
from weightspace import report

HERE = pathlib.Path(__file__).parent
SCRIPTS = ("collect.js", "collect_compare.js")
MOST_SEEDS = 64
FIGURES = 16 * 2**20  # bytes that lie in the page; further ones beside it

STYLE = """
body { max-width: 90rem }
input, select, button { font: inherit; color: inherit; background: var(--card);
  border: 1px solid var(--line); border-radius: 6px; padding: .3rem .6rem; }
input[type=search] { width: 22rem; max-width: 100% }
.bar { display: flex; gap: .8rem; flex-wrap: wrap; align-items: center;
  margin: 1.2rem 0 .6rem; }
#table th { cursor: pointer; white-space: nowrap; user-select: none }
#table th[aria-sort=ascending]::after { content: " \\2191" }
#table th[aria-sort=descending]::after { content: " \\2193" }
#table td { white-space: nowrap } tr.chosen { background: var(--card) }
#table .wide { max-height: 34rem; overflow: auto }
#table thead th { position: sticky; top: 0; background: var(--paper) }
.yes { color: var(--yes) } .no { color: var(--no) }
#axes path { fill: none; stroke: var(--note); stroke-opacity: .35 }
#axes path.chosen { stroke: var(--no); stroke-opacity: 1; stroke-width: 2.5 }
#axes line { stroke: var(--soft) }
#axes text { fill: var(--ink); font: 11px system-ui, sans-serif }
#compare { display: grid; gap: 0 2.5rem;
  grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); }
#compare > div { min-width: 0; overflow-x: auto }
#compare > p { grid-column: 1 / -1; margin: 0 }
#figures { display: grid; gap: 1rem 2.5rem;
  grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); }
#figures img { width: 100%; background: #fff }
"""


KEEP = "run experiment title verdict measured seconds settings numbers seeds"

BODY = """<div class="bar">
<input type="search" id="filter" placeholder="filter: words, or name=value"
  aria-label="filter runs">
<select id="experiment" aria-label="experiment"></select>
<span class="soft" id="count"></span>
<span class="soft">a click on a row chooses it; two are compared below</span>
</div>
<div id="table"></div>
<h2>Settings and numbers of each run</h2>
<div class="bar"><select id="metric" aria-label="number"></select></div>
<figure><svg id="axes" viewBox="0 0 1200 360" role="img"></svg>
<figcaption>One line for each run that is shown above, across the settings that
differ and the chosen number; those chosen in the table are marked.</figcaption>
</figure>
<h2>Two runs side by side</h2>
<div id="compare"><p class="soft">Choose two rows of the table.</p></div>
<div id="figures"></div>"""


def page(
  title: str,
  records: Sequence[collecting.Record],
  root: str | os.PathLike[str] = ".",
) -> str:
  """Return the page of records, as `collecting.collect` gives them.

  Args:
    title: of the page.
    records: the runs.
    root: the folder that they were collected from, for their figures.
  """
  # "</" would end the script early.
  embedded = json.dumps(_data(records, pathlib.Path(root))).replace(
    "</", "<\\/"
  )
  script = "\n".join((HERE / name).read_text("utf-8") for name in SCRIPTS)
  return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{report.STYLE}{STYLE}</style>
</head>
<body>
<div class="kicker">weightspace · {len(records)} runs</div>
<h1>{html.escape(title)}</h1>
{BODY}
<script>const DATA = {embedded};</script>
<script>{script}</script>
</body>
</html>
"""


def _data(
  records: Sequence[collecting.Record], root: pathlib.Path
) -> dict[str, Any]:
  """Return what the page's script draws from."""
  quantiles = [
    float(stats.t.ppf(0.975, degrees)) for degrees in range(1, MOST_SEEDS)
  ]
  left = FIGURES
  found: list[dict[str, Any]] = []
  for item in records:
    kept = {name: item[name] for name in KEEP.split()}
    kept["figures"] = {}
    for path in item["figures"]:
      data = (root / path).read_bytes() if left > 0 else b""
      left -= len(data)
      text = base64.b64encode(data).decode()
      kept["figures"][pathlib.PurePath(path).stem] = (
        f"data:image/png;base64,{text}" if text else path
      )
    found.append(kept)
  changed = collecting.differing(records) if records else []
  return {"runs": found, "changed": changed, "quantiles": quantiles}
