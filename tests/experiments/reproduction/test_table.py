"""The table: parts, columns, Holm, fresh seeds, and the last line."""

import numpy as np
import pytest

from experiments.reproduction import gallery, table
from tests.experiments.reproduction.test_ledger import REGISTERED, line


def named(name, **changes):
  return line(**changes) | {"name": name}


def old(name, **changes):
  """A line of before claims were registered."""
  return named(name) | {"registration": None, "seed": 0, "p": None} | changes


@pytest.mark.parametrize("count", [1, 5, 20])
def test_holm_is_as_by_its_definition(count):
  """All k smallest, as long as the k-th is at most level / (m - k + 1)."""
  p = np.random.default_rng(count).uniform(size=count) ** 4
  expected = set()
  for place, index in enumerate(np.argsort(p)):
    if p[index] * (count - place) > 0.025:
      break
    expected.add(str(index))
  assert table.holm({str(i): x for i, x in enumerate(p)}) == expected


def test_a_row_has_all_columns_and_escapes_what_ends_a_cell():
  cells = table.row(line(measured="a|b"), [], {"mine"}).split(" | ")
  assert len(cells) == len(table.NAMES.split("|"))
  assert cells[3] == "a/b" and cells[6] == "holds" and cells[7] == "yes"
  assert cells[4] == "0.0 (paper): points"
  assert cells[5] == "5 from 7000, one data set"


def test_identities_stand_apart():
  identity = REGISTERED | {"kind": "identity"}
  lines = [named("a"), named("b", registered=identity)]
  text = table.text(lines)
  papers, rest = text.split("## Identities")
  assert "[a](" in papers and "[b](" not in papers and "[b](" in rest
  assert "1 hold of 1 claims of papers" in text


def test_fresh_seeds_are_told_from_those_seen():
  first = named("a")
  again = named("a", registered=REGISTERED | {"seeds": 6})
  fresh = again | {"seed": 7100}
  assert table.fresh(first, [first]) == "yes"
  assert table.fresh(again, [first, again]) == "no, second registration"
  assert table.fresh(fresh, [first, fresh]) == "yes, second registration"
  assert table.fresh(old("a", note="why"), []) == (
    "no, before registration: why"
  )


def test_both_results_of_a_claim_registered_again_are_shown():
  first = named("a", measured="it was")
  second = named("a", measured="it is", registered=REGISTERED | {"seeds": 6})
  text = table.text([first, second])
  before, after = text.split("## Results under earlier registrations")
  assert "it is" in before and "it was" not in before and "it was" in after
  assert "1 changed after a first look" in text


def test_a_registered_result_takes_the_place_of_an_old_one():
  text = table.text([old("a", measured="old"), named("a", measured="new")])
  assert "| new |" in text and "| old |" not in text


def test_what_was_not_run_as_registered_is_listed():
  text = table.text([old("a"), named("b")], ["a", "b", "c"])
  assert "before registration: a, c." in text


def test_the_last_line_counts_what_holds():
  """Of 30 p-values of 0.002 none survives Holm, and of 3 all do."""
  few = [named(str(n), p=0.002) for n in range(3)]
  many = [named(str(n), p=0.002) for n in range(30)]
  assert "3 hold of 3 claims" in table.summary(few)
  assert "3 after Holm; 0.1 expected" in table.summary(few)
  assert "30 hold of 30" in table.summary(many)
  assert " 0 after Holm" in table.summary(many)
  both = table.summary(
    [*few, old("x", note="n"), old("y", verdict="undecided")]
  )
  assert "Before registration: 1 of 2 held, 1 of which" in both


def test_a_claim_that_fails_stays_in_holms_count():
  lines = [named("a", p=0.02), named("b", p=0.9, verdict="undecided")]
  assert "1 hold of 2" in table.summary(lines)
  assert " 0 after Holm" in table.summary(lines)


def test_the_gallery_has_each_claim_with_its_figure(tmp_path):
  figures = tmp_path / "soup" / "mine-1" / "figures"
  figures.mkdir(parents=True)
  (figures / "a.png").write_bytes(b"png")
  lines = [named("a") | {"folder": "soup/mine-1"}, old("b")]
  page = gallery.page(lines, tmp_path)
  assert page.count("<section") == 2 and "data:image/png;base64,cG5n" in page
  assert "before registration" in page and "Holds." in page
  assert "is not here" in page.split('id="b"')[1]
