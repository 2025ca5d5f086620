"""What a finished run says: provenance, a table on the screen, its page.

result.json is written last, so its presence means that all else is there.

>>> sorted(describe())[:2]
['device', 'finished']
"""

import functools
import importlib.metadata
import pathlib
import platform
import subprocess
import time
from typing import Any

from experiments.run import files
from weightspace import figures, report

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def describe(mesh: Any = None) -> dict[str, Any]:
  """Return where and when this process runs: commit, versions, device."""
  import jax

  devices = jax.devices()
  versions = {name: importlib.metadata.version(name) for name in PACKAGES}
  layout: dict[str, Any] = {"mesh": dict(mesh.shape)} if mesh else {}
  if jax.process_count() > 1:
    layout["hosts"] = jax.process_count()
  return layout | {
    "git": _commit(),
    "versions": {"python": platform.python_version()} | versions,
    "device": f"{len(devices)} x {devices[0].device_kind}",
    "machine": f"{platform.system()} {platform.machine()}",
    "finished": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()) + " UTC",
  }


@functools.cache
def _commit() -> str | None:
  """Return the commit of this code, marked where files differ from it."""
  here = pathlib.Path(__file__).parent
  command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
  try:
    done = subprocess.run(
      command, cwd=here, capture_output=True, text=True, timeout=10
    )
  except (OSError, subprocess.TimeoutExpired):
    return None
  return done.stdout.strip() or None


def write(
  folder: files.Folder, result: dict[str, Any], charts: dict[str, Any]
) -> None:
  """Write figures/, report.html and result.json, then say where they are."""
  inline = {}
  for name, (figure, caption) in charts.items():
    if figure:
      files.write(folder / "figures" / f"{name}.png", figures.png(figure))
      inline[caption] = figures.svg(figure)
  page = report.page(result, files.load(folder / "config.json"), inline)
  files.write(folder / "report.html", page)
  files.write(folder / "result.json", files.dump(result))
  show(result)
  print(f"page: {folder / 'report.html'}", flush=True)


def show(result: dict[str, Any]) -> None:
  """Print the table of a result and what was found."""
  import rich.box
  import rich.console
  import rich.table

  columns = report.columns(result["numbers"])
  table = rich.table.Table(
    "", *columns, title=result["title"], box=rich.box.SIMPLE_HEAD
  )
  for row, entries in result["numbers"].items():
    table.add_row(
      row,
      *(
        report.number(entries.get(c), n, brief=True) for c, n in columns.items()
      ),
    )
  console = rich.console.Console()
  if not console.is_terminal:
    console = rich.console.Console(width=100)  # a log need not wrap
  console.print(table)
  print(f"{report.verdict(result)}: {result['measured']}")
