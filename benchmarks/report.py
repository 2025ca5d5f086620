"""BENCHMARKS.md: each benchmark keeps one section, between two markers.

>>> import pathlib, tempfile
>>> path = pathlib.Path(tempfile.mkdtemp(), "BENCHMARKS.md")
>>> write_section(path, "speed", "fast")
>>> write_section(path, "speed", "faster")
>>> print(path.read_text())
# Benchmarks
<BLANKLINE>
<!-- begin speed -->
faster
<!-- end speed -->
<BLANKLINE>
"""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import re
import shlex
import sys
from collections.abc import Sequence

PathLike = str | os.PathLike[str]


def write_section(path: PathLike, name: str, markdown: str) -> None:
  """Write one section of a Markdown file, and leave the others as they are.

  The file is written aside and renamed.

  Args:
    path: made when it does not exist.
    name: of the section; its former text is replaced.
    markdown: the text between the markers.
  """
  path = pathlib.Path(path)
  text = path.read_text() if path.exists() else "# Benchmarks\n"
  begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
  section = f"{begin}\n{markdown.strip()}\n{end}\n"
  found = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}\n", re.DOTALL)
  if found.search(text):
    text = found.sub(lambda _: section, text, count=1)
  else:
    text = f"{text.rstrip()}\n\n{section}"
  aside = path.with_name(f".{path.name}.writing")
  aside.write_text(text)
  aside.replace(path)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
  """Return a Markdown table.

  >>> print(table(["what", "s"], [["a", 1.0]]))
  | what | s |
  | --- | --- |
  | a | 1.0 |
  """
  lines = [columns, ["---"] * len(columns), *rows]
  return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def conditions(*packages: str) -> str:
  """Return one line: date, processor, load, versions and command."""
  versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
  today = datetime.datetime.now(datetime.UTC).date()
  load = os.getloadavg()[0]
  command = shlex.join(["python", "-m", _module(), *map(_placed, sys.argv[1:])])
  return (
    f"{today}, {_processor()}, {os.cpu_count()} cores (load {load:.1f} at the"
    f" end), Python {platform.python_version()}, {versions}. `{command}`"
  )


def _placed(word: str) -> str:
  """Return a flag with a path of this machine left out: --data_dir=DATA_DIR.

  >>> _placed("--data_dir=/home/me/data"), _placed("--repeats=3")
  ('--data_dir=DATA_DIR', '--repeats=3')
  """
  flag, _, value = word.partition("=")
  if not value.startswith(("/", "~", "./", "../")):
    return word
  return f"{flag}={flag.lstrip('-').upper()}"


def _module() -> str:
  return f"benchmarks.{pathlib.Path(sys.argv[0]).stem}"


def _processor() -> str:
  info = pathlib.Path("/proc/cpuinfo")
  text = info.read_text() if info.exists() else ""
  model = re.search(r"model name\s*: (.*)", text)
  return model[1] if model else platform.processor() or platform.machine()
