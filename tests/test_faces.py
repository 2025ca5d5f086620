"""What packages show, and what they say of a name that is not there."""

import importlib
import pkgutil

import pytest

import weightspace as ws

ROOMS = [
  name
  for _, name, package in pkgutil.iter_modules(ws.__path__, "weightspace.")
  if package and hasattr(importlib.import_module(name), "__all__")
]


def test_dir_shows_rooms_and_public_names():
  assert {"merge", "probe", "figures", "barrier"} <= set(dir(ws))
  assert not [n for n in dir(ws) if n.startswith("_") or n == "importlib"]


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_show_their_public_names(name):
  room = importlib.import_module(name)
  assert dir(room) == sorted(room.__all__)
  assert all(hasattr(room, public) for public in dir(room))


@pytest.mark.parametrize(
  ("room", "wrong", "right"),
  [
    ("", "weigted_mean", "weighted_mean"),
    ("", "barier", "barrier"),
    ("merge", "tie", "ties"),
    ("probe", "hesian", "hessian"),
    ("average", "emma", "ema"),
    ("match", "match_weight", "match_weights"),
  ],
)
def test_a_near_miss_is_suggested(room, wrong, right):
  module = importlib.import_module(f"weightspace.{room}".rstrip("."))
  with pytest.raises(AttributeError, match=f"did you mean '{right}'"):
    getattr(module, wrong)
