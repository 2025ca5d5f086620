"""Intervals, figures and the run's page."""

import html.parser
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace import figures, intervals, report

KEY = jax.random.key(0)


@pytest.mark.parametrize(
  "values, half",
  [
    ([0.0, 2.0], 12.706204736),  # t(0.975; 1) = 12.706, s/sqrt(2) = 1
    ([0.0, 1.0, 2.0], 4.302652730 / np.sqrt(3)),
    ([1.0] * 4, 0.0),
  ],
)
def test_students_interval(values, half):
  found = intervals.mean_interval(values)
  assert found.mean == np.mean(values) and found.size == len(values)
  np.testing.assert_allclose(found.high - found.mean, half, rtol=1e-8)
  np.testing.assert_allclose(found.mean - found.low, half, rtol=1e-8)


def test_students_interval_covers_95_percent():
  """Of 4000 samples of 5 normal numbers, 95 % within 3 standard errors."""
  samples = np.random.default_rng(0).normal(size=(4000, 5))
  found = [intervals.mean_interval(row) for row in samples]
  share = np.mean([one.low <= 0.0 <= one.high for one in found])
  assert abs(share - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 4000)


def test_one_value_has_no_interval():
  assert intervals.mean_interval([2.0]) == (2.0, -np.inf, np.inf, 1)


def test_pairs_cancel_what_they_share():
  seeds = np.random.default_rng(1).normal(size=6) * 100
  found = intervals.paired(seeds + 1.0, seeds)
  np.testing.assert_allclose(found[:3], 1.0, atol=1e-10)


def test_bootstrap_of_a_mean_is_nearly_normal():
  """Its ends are mean ± 1.96 s/sqrt(N); 6 % is 3 errors of 2000 draws."""
  values = np.random.default_rng(2).normal(size=400)
  found = intervals.bootstrap(values, KEY, draws=2000)
  half = 1.96 * values.std() / np.sqrt(400)
  np.testing.assert_allclose((found.high - found.low) / 2, half, rtol=0.06)
  np.testing.assert_allclose(found.mean, values.mean(), atol=1e-6)


def test_bootstrap_takes_a_statistic():
  values = jnp.arange(9.0)
  found = intervals.bootstrap(values, KEY, jnp.max, draws=200)
  assert found.mean == 8.0 and found.high == 8.0 and found.low >= 4.0


@pytest.mark.parametrize(
  "call, reason",
  [
    (lambda: intervals.mean_interval([]), "expected .N. with N >= 1"),
    (lambda: intervals.mean_interval([1.0, np.nan]), "value 1 is nan"),
    (lambda: intervals.mean_interval([1.0], level=95.0), "level: 95"),
    (lambda: intervals.paired([1.0], [1.0, 2.0]), "b: 2 values, expected 1"),
    (lambda: intervals.bootstrap([1.0], KEY, draws=0), "draws: 0"),
    (lambda: figures.figure(), "no panels"),
  ],
)
def test_bad_input(call, reason):
  with pytest.raises(ValueError, match=reason):
    call()


@pytest.mark.parametrize(
  "entry, text",
  [
    ({"mean": 97.0412, "low": 96.51, "high": 97.57}, "97.04 [96.51, 97.57]"),
    ({"mean": 12.0, "low": -8.0, "high": 32.0}, "12 [-8, 32]"),
    ({"mean": 1.0, "low": None, "high": None}, "1.000"),
    ({"mean": 0.5, "low": 0.5, "high": 0.5}, "0.500 [0.500, 0.500]"),
    (7, "7"),
    (True, "True"),
    (None, "-"),
    ("a", "a"),
  ],
)
def test_numbers_for_people(entry, text):
  assert report.number(entry) == text


def test_a_brief_interval():
  even = {"mean": 97.04, "low": 96.5, "high": 97.58}
  assert report.number(even, brief=True) == "97.04 ± 0.54"
  uneven = even | {"low": 96.0}
  assert report.number(uneven, brief=True) == "97.04 [96.00, 97.58]"


def test_a_column_has_one_number_of_decimals():
  rows = {
    "a": {"x": {"mean": 1.0, "low": 0.9, "high": 1.1}},
    "b": {"x": {"mean": 1.0, "low": 0.99, "high": 1.01}},
    "c": {"x": {"mean": 1.0, "low": 0.9, "high": 1.1}},
  }
  assert report.columns(rows) == {"x": 2}


class Reader(html.parser.HTMLParser):
  """Collects what a page refers to, and checks that elements close."""

  def __init__(self):
    super().__init__()
    self.open, self.links, self.text = [], [], []

  def handle_starttag(self, tag, attrs):
    self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
    if tag not in ("meta", "br", "link"):
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


@pytest.fixture(scope="module")
def drawn():
  rows = {"uniform": [1.0, 2.0, 1.5], "best": [1.0]}
  ts = np.linspace(0, 1, 5)
  lines = {"test": np.ones((3, 5)), "one seed": np.arange(5.0)}
  return figures.figure(
    figures.dots(rows, "accuracy", "Methods", {"best": np.ones((2, 3))}),
    figures.curves(ts, lines, ("t", "loss"), "Line", [(1.0, "soup")]),
  )


def result(**more):
  interval = intervals.mean_interval([1.0, 2.0])._asdict()
  base = {
    "title": "Soups <& more>",
    "paper": "A paper, https://arxiv.org/abs/2203.05482.",
    "claim": "It is > 0.",
    "measured": "+1",
    "holds": True,
    "numbers": {"a <b>": {"loss": interval, "n": 3}, "c": {"loss": None}},
    "command": "python -m x --config.a='<1>'",
    "versions": {"jax": "0"},
  }
  return base | more


def test_the_page_is_whole_and_refers_to_nothing_outside(drawn):
  config = {"model": {"width": 8}, "title": "hidden"}
  text = report.page(result(), config, {"Of methods.": figures.svg(drawn)})
  reader = Reader()
  reader.feed(text)
  assert reader.open == []
  outside = [link for link in reader.links if not link.startswith("#")]
  assert outside == ["https://arxiv.org/abs/2203.05482"]  # the paper's link
  words = "".join(reader.text)
  for part in (
    "Soups <& more>",
    "It is > 0.",
    "a <b>",
    "model.width",
    "Holds.",
  ):
    assert part in words
  assert "<script" not in text and "hidden" not in words


@pytest.mark.parametrize(
  "holds, word", [(True, "Holds"), (False, "Does not hold"), (None, "Measured")]
)
def test_the_verdict_is_said(holds, word):
  assert f"<b>{word}.</b>" in report.page(result(holds=holds), {}, {})


def test_figures_take_the_colour_of_the_page(drawn):
  text = figures.svg(drawn)
  assert text.startswith("<svg") and "currentColor" in text
  assert figures.INK not in text and "#ffffff" not in text
  assert figures.svg(drawn) == text  # equal figures, equal files
  assert figures.png(drawn).startswith(b"\x89PNG")


def test_the_means_and_intervals_are_drawn_where_they_are(drawn):
  methods, line = drawn.axes
  means = [
    one.get_xdata()[0] for one in methods.lines if len(one.get_xdata()) == 1
  ]
  assert 1.5 in means and 1.0 in means
  np.testing.assert_allclose(line.lines[1].get_ydata(), np.arange(5.0))
  assert [text.get_text() for text in methods.get_yticklabels()] == [
    "uniform",
    "best",
  ]


def test_a_page_is_made_from_what_json_keeps():
  kept = json.loads(json.dumps(result()))
  assert report.page(kept, {}, {}) == report.page(result(), {}, {})
  assert not re.search(r"\bnan\b|\binf\b", report.page(kept, {}, {}))


def test_curves_have_the_colours_and_dashes_they_are_told():
  lines = {"a": [[1.0, 2.0]], "b": [[2.0, 1.0]]}
  given = {"colours": {"b": "#123456"}, "dashed": ["b"]}
  drawn = figures.figure(figures.curves([0, 1], lines, ("x", "y"), **given))
  a, b = drawn.axes[0].lines
  assert (a.get_color(), a.get_linestyle()) == (figures.COLOURS[0], "-")
  assert (b.get_color(), b.get_linestyle()) == ("#123456", "--")
  dots = figures.dots({"a": [1.0]}, "x", colours={"a": "#abcdef"})
  assert figures.figure(dots).axes[0].lines[-1].get_color() == "#abcdef"
