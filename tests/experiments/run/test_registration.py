"""Registrations: what they have to say, and what they are no part of."""

import importlib

import pytest

from experiments.run import app, registration
from tests.experiments.reproduction.test_ledger import REGISTERED


def test_a_full_registration_passes():
  registration.check(REGISTERED)
  registration.check(REGISTERED | {"data": "drawn by seed"})


@pytest.mark.parametrize("name", registration.FIELDS)
def test_every_field_is_needed(name):
  rest = {n: v for n, v in REGISTERED.items() if n != name}
  with pytest.raises(ValueError, match=f"registered: no '{name}', expected"):
    registration.check(rest)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"kind": "guess"}, "registered.kind: 'guess', expected one of paper"),
    ({"threshold_by": "me"}, "registered.threshold_by: 'me', expected one of"),
    ({"seeds": 0}, "registered.seeds: 0, expected at least 1"),
    ({"seeds": True}, "registered.seeds: True, expected int"),
    ({"controls": "none"}, "registered.controls: 'none', expected list"),
    ({"extra": 1}, "registered: 'extra' is unknown, expected statement"),
  ],
)
def test_what_is_wrong_is_named(change, message):
  with pytest.raises(ValueError, match=message):
    registration.check(REGISTERED | change)


def test_a_runs_folder_does_not_depend_on_its_registration():
  module = importlib.import_module("configs.wise_ft")
  config = module.get_config("mode=tiny").to_dict()
  changed = config | {"registered": config["registered"] | {"seeds": 99}}
  settled = [app.settle(c, module.__file__)[0] for c in (config, changed)]
  assert settled[0] == settled[1] and "registered" not in settled[0]
  assert "registered" in config  # the caller's config is as it was


def test_an_incomplete_registration_is_refused_before_the_run():
  with pytest.raises(ValueError, match="registered: no 'paper'"):
    app.settle({"registered": {"statement": "s"}}, __file__)
