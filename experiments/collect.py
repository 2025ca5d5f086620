"""Collecting: one table and one page of all finished runs below a folder.

`table.csv` (and `table.parquet` where pandas and pyarrow are installed) has one
row for each run; `index.html` is one self-contained page: a table to sort and
filter, hyper-parameters on parallel axes, and any two runs side by side.

python -m experiments.collect DIR
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from experiments.collection import page
from experiments.run import collecting, runs


def main(argv: Sequence[str]) -> int:
  """Collect the folder that the command line names; return the exit code."""
  if len(argv) != 1 or argv[0].startswith("-"):
    print("usage: python -m experiments.collect DIR", file=sys.stderr)
    return 2
  try:
    collect(argv[0])
  except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  return 0


def collect(folder: str) -> None:
  """Write the table and the page of a folder into it.

  Raises:
    ValueError: when no run below it is finished.
  """
  records = collecting.collect(folder)
  columns, rows = collecting.table(records)
  root = pathlib.Path(folder)
  runs.write(root / "table.csv", collecting.as_csv(columns, rows))
  written = ["table.csv", *_parquet(root, columns, rows)]
  title = root.resolve().name
  runs.write(root / "index.html", page.page(title, records, root))
  print(f"{len(records)} runs: {', '.join(written)}")
  print(f"page: {root / 'index.html'}")


def _parquet(
  root: pathlib.Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[str]:
  """Write the table as Parquet too, where that is to be had."""
  try:
    import pandas
    import pyarrow  # noqa: F401
  except ImportError:
    return []
  frame = pandas.DataFrame(rows, columns=list(columns))
  mixed = frame.select_dtypes("object").columns
  frame[mixed] = frame[mixed].map(lambda x: x if x is None else str(x))
  aside = root / ".table.parquet.writing"
  frame.to_parquet(aside)
  aside.replace(root / "table.parquet")
  return ["table.parquet"]


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
