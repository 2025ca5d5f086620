"""The table of recipes in docs/methods.md, written from their docstrings.

A recipe's row is its first line and its last paragraph, the source:

>>> from weightspace.merge.recipes import RECIPES
>>> print(row("uniform", RECIPES["uniform"]).split(" | ")[1])
the uniform soup, sum_m theta_m / M

`python -m weightspace.merge.catalogue docs/methods.md` writes the table anew.
"""

import inspect
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

from weightspace.merge.recipes import RECIPES

BEGIN = "<!-- recipes: written by `python -m weightspace.merge.catalogue` -->"
END = "<!-- recipes: end -->"
HEAD = "| recipe | what it returns | source |\n|---|---|---|"
LINK = re.compile(r"https://[^\s,;)]+[^\s,;).]")
LABEL = re.compile(r"(?:^|\. )([A-Z][^\".]*?(?:et al\. )?\d{4})\b")


def row(name: str, factory: Callable[..., Any]) -> str:
  """Return one recipe's row of the table.

  Args:
    name: in `RECIPES`.
    factory: whose docstring begins with what it returns and names its source.

  Raises:
    ValueError: where the docstring has no source: a link, or the word "Ours".
  """
  paragraphs = (inspect.getdoc(factory) or "").split("\n\n")
  needed = [
    parameter.name
    for parameter in inspect.signature(factory).parameters.values()
    if parameter.default is inspect.Parameter.empty
  ]
  what = paragraphs[0].removeprefix("Return ").rstrip(".").replace("|", "\\|")
  call = f"{name}({', '.join(needed)})"
  return f"| `{call}` | {what} | {_source(name, paragraphs)} |"


def _source(name: str, paragraphs: list[str]) -> str:
  """Return the link of the last paragraph that names a source."""
  for paragraph in map(_one_line, reversed(paragraphs)):
    link = LINK.search(paragraph)
    ours = paragraph.startswith("Ours")
    if link:
      label = LABEL.search(paragraph)
      host = link.group().split("/")[2]
      shown = label.group(1) if label else host
      return f"[{'ours, after ' * ours}{shown}]({link.group()})"
    if ours:
      return "ours"
  raise ValueError(
    f"{name}: its docstring names no source, expected a link or 'Ours'"
  )


def _one_line(paragraph: str) -> str:
  return " ".join(paragraph.split())


def table(recipes: dict[str, Callable[..., Any]]) -> str:
  """Return the table of all recipes, with the marks that enclose it.

  >>> table({}).count("|")
  8
  """
  rows = [row(name, factory) for name, factory in recipes.items()]
  return "\n".join([BEGIN, "", HEAD, *rows, "", END])


def replaced(page: str) -> str:
  """Return a page with its table of recipes written anew.

  Raises:
    ValueError: where the page has no marks.
  """
  if BEGIN not in page or END not in page:
    raise ValueError(f"the page has no {BEGIN!r} and {END!r}")
  before, rest = page.split(BEGIN, 1)
  return before + table(RECIPES) + rest.split(END, 1)[1]


def main(path: str) -> None:
  """Write the table of recipes into a page."""
  page = pathlib.Path(path)
  page.write_text(replaced(page.read_text()))


if __name__ == "__main__":
  main(sys.argv[1])
