"""The page of methods holds every recipe, as its docstring describes it."""

import pathlib

import pytest

from weightspace import merge
from weightspace.merge import catalogue

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_is_as_it_would_be_written():
  page = PAGE.read_text()
  assert catalogue.replaced(page) == page, (
    "run python -m weightspace.merge.catalogue docs/methods.md"
  )


def test_writing_the_page_changes_the_table_alone(tmp_path):
  page = tmp_path / "page.md"
  page.write_text(f"a\n{catalogue.BEGIN}\nstale\n{catalogue.END}\nz\n")
  catalogue.main(str(page))
  written = page.read_text()
  assert written.startswith("a\n") and written.endswith("\nz\n")
  assert "stale" not in written and written.count("| `ties(density)` |") == 1


def test_a_page_without_marks_is_refused():
  with pytest.raises(ValueError, match="the page has no"):
    catalogue.replaced("text")


def test_a_recipe_without_a_source_is_refused():
  def nothing():
    """Return nothing.

    No paper.
    """

  with pytest.raises(ValueError, match="nothing: its docstring names no"):
    catalogue.row("nothing", nothing)


def test_a_recipe_of_ours_says_so():
  def mine(a, b, c=1):
    """Return a | b.

    Ours.
    """

  assert catalogue.row("mine", mine) == "| `mine(a, b)` | a \\| b | ours |"


@pytest.mark.parametrize("name", sorted(merge.RECIPES))
def test_a_registered_name_is_public(name):
  assert name in merge.__all__
  assert getattr(merge, name) is merge.RECIPES[name]
