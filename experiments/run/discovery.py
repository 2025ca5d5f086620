"""Discovery: the claims are the configs that name one.

A config says which experiment it belongs to, and, if it stands in the table of
reproductions, under which name:

    EXPERIMENT = "soup"
    CLAIM = "soups-greedy"

>>> claims()[0].experiment
'adapt'
"""

import importlib
import pathlib
from types import ModuleType
from typing import NamedTuple

import configs


class Claim(NamedTuple):
  """A row of the table: its name, who runs it, and its config's name."""

  name: str
  experiment: str
  config: str


def claims() -> list[Claim]:
  """Return the claims of all configs, by experiment and name.

  Raises:
    ValueError: for a name that two configs have, or one whose config does not
      say which experiment it belongs to.
  """
  known: dict[str, Claim] = {}
  for path in sorted(pathlib.Path(configs.__path__[0]).glob("*.py")):
    config = importlib.import_module(f"configs.{path.stem}")
    name = vars(config).get("CLAIM")
    if name is None:
      continue
    if name in known:
      raise ValueError(
        f"configs/{path.stem}.py: CLAIM {name!r} is that of"
        f" configs/{known[name].config}.py too"
      )
    if not vars(config).get("EXPERIMENT"):
      raise ValueError(f"configs/{path.stem}.py: CLAIM without EXPERIMENT")
    known[name] = Claim(name, config.EXPERIMENT, path.stem)
  return sorted(known.values(), key=lambda x: (x.experiment, x.name))


def module(claim: Claim) -> ModuleType:
  """Return the config of a claim as a module."""
  return importlib.import_module(f"configs.{claim.config}")
