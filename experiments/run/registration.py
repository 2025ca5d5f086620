"""Registration: what a claim asks, written down before its table run.

A config registers its claim as data, `config.registered`.  It is no part of
what a run is, so a run's folder stays where it is when it changes; but a result
keeps the registration that it was judged under, and no row of the table comes
from a run whose registration was changed after a first look.

>>> check({"statement": "It works."})
Traceback (most recent call last):
  ...
ValueError: registered: no 'paper', expected statement, paper, paper_number, \
kind, statistic, threshold, threshold_by, controls, seeds
"""

from collections.abc import Mapping
from typing import Any

from experiments.run import files

FIELDS: dict[str, tuple[type, ...]] = {
  "statement": (str,),
  "paper": (str,),  # who and when, with a link
  "paper_number": (str, type(None)),  # what the paper reports, if it does
  "kind": (str,),
  "statistic": (str,),
  # One number, or one a comparison; None where things are only measured.
  "threshold": (int, float, str, list, tuple, type(None)),
  "threshold_by": (str,),
  "controls": (list, tuple),  # words, one for each
  "seeds": (int,),  # how many, from the base seed on
}
# What is drawn anew for each seed, where it is more than starts and batches.
OPTIONAL: dict[str, tuple[type, ...]] = {"data": (str,)}
PAPER = ("paper", "part of the paper")
KINDS = (*PAPER, "identity", "by construction", "ours")
THRESHOLDS = ("paper", "papers.md", "ours")
TABLE = 7000  # the least base seed of the table; tuning stays below


def check(registered: Mapping[str, Any]) -> None:
  """Check that a registration says all it has to say.

  Raises:
    ValueError: naming what is missing, unknown, or none of its choices.
  """
  for name, kinds in (FIELDS | OPTIONAL).items():
    if name not in registered and name in OPTIONAL:
      continue
    if name not in registered:
      expected = ", ".join(FIELDS)
      raise ValueError(f"registered: no {name!r}, expected {expected}")
    value = registered[name]
    if not isinstance(value, kinds) or isinstance(value, bool):
      wanted = " or ".join(kind.__name__ for kind in kinds)
      raise ValueError(f"registered.{name}: {value!r}, expected {wanted}")
  for name in registered:
    if name not in FIELDS | OPTIONAL:
      expected = ", ".join(FIELDS | OPTIONAL)
      raise ValueError(f"registered: {name!r} is unknown, expected {expected}")
  for name, choices in (("kind", KINDS), ("threshold_by", THRESHOLDS)):
    if registered[name] not in choices:
      expected = ", ".join(choices)
      raise ValueError(
        f"registered.{name}: {registered[name]!r}, expected one of {expected}"
      )
  if registered["seeds"] < 1:
    raise ValueError(
      f"registered.seeds: {registered['seeds']}, expected at least 1"
    )


def digest(registered: Mapping[str, Any]) -> str:
  """Return a short hash of a registration.

  >>> digest({"seeds": 5}) == digest({"seeds": 6})
  False
  """
  return files.digest(files.plain(dict(registered), "registered"))
