"""What a merge will take, how far it is, and what it did, for people.

>>> amount(1_234_567)
'1.23 MB'
"""

import contextlib
import functools
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from weightspace.cli.building import Job
from weightspace.cli.inputs import references
from weightspace.merge.files.work_items import Part, Plan


def amount(count: float) -> str:
  """Return bytes as people read them."""
  for unit in ("B", "kB", "MB", "GB"):
    if count < 1000:
      return f"{count:.3g} {unit}"
    count /= 1000
  return f"{count:.3g} TB"


def text(plan: Plan, job: Job) -> str:
  """Return the plan of a merge: leaves, bytes, passes, memory, recipes."""
  groups: Counter[str] = Counter()
  for task in plan.tasks:
    steps = " > ".join(step.name for step in task.part.recipe.steps)
    name = f"{len(task.part.inputs)} models: {steps}"
    groups[name] += len(task.bound.contexts)
  lines = [
    f"leaves:      {len(plan.kinds)}, by {len(plan.tasks)} recipes",
    f"read:        {amount(plan.read)} in {plan.passes} pass"
    f"{'es' if plan.passes > 1 else ''}",
    f"written:     {amount(plan.written)}",
    f"peak memory: {amount(plan.peak)} for leaves, and the program",
    *(f"  {count} leaves of {steps}" for steps, count in groups.items()),
    *(f"file: {name}" for name in sorted(job.files)),
    *(f"note: {note}" for note in job.notes),
  ]
  return "\n".join(lines)


def parents(job: Job) -> dict[str, str]:
  """Return the files of weights that are merged, by how they are called."""
  found: dict[str, str] = {}
  for reference in job.models:
    found |= references.parents(reference)
  return found


def about(job: Job, config: str) -> str:
  """Return what the output depends on beside recipes and inputs."""
  digest = hashlib.sha256(config.encode())
  for name, made in job.files.items():
    digest.update(name.encode())
    digest.update(made if isinstance(made, bytes) else made.encode())
  states = [os.stat(path) for path in parents(job).values()]
  sizes = [[state.st_size, state.st_mtime_ns] for state in states]
  return f"{digest.hexdigest()}{json.dumps(sizes)}"


@contextlib.contextmanager
def progress(
  total: int, quiet: bool = False
) -> Iterator[Callable[[int, int], None] | None]:
  """Show a bar with bytes and the time left on a terminal.

  Args:
    total: bytes to read.
    quiet: show nothing.
  """
  if quiet or not sys.stderr.isatty():
    yield None
    return
  import rich.console
  import rich.progress as bars

  columns = (
    bars.TextColumn("merging"),
    bars.BarColumn(),
    bars.DownloadColumn(),
    bars.TransferSpeedColumn(),
    bars.TimeRemainingColumn(),
  )
  screen = rich.console.Console(stderr=True)
  with bars.Progress(*columns, console=screen, transient=True) as shown:
    task = shown.add_task("merging", total=total)
    yield lambda done, total: shown.update(task, completed=done, total=total)


def report_files(parts: list[Part], key: Any) -> dict[str, Any]:
  """Return the report's files, made when they are written."""

  @functools.cache
  def found() -> Any:
    from weightspace.merge.files import reports

    return reports.reports(parts, key)

  def as_json() -> str:
    inner = {n: json.loads(report.json()) for n, report in found().items()}
    return json.dumps(inner, indent=1) + "\n"

  def as_text() -> str:
    return "\n\n".join(
      f"{count} models\n{report.text()}" for count, report in found().items()
    )

  return {"merge_report.json": as_json, "merge_report.txt": as_text}
