"""Sweeps as data: a config's `sweep(add)` becomes an ordered list of units.

    def sweep(add):
      for rate in (0.1, 0.2):
        add({"members.learning_rate": rate, "seed": 1})

A unit is one run of an experiment with some settings overridden; its id is a
hash of those, so that the same sweep has the same units wherever and whenever
it is expanded.

>>> identify({"seed": 1, "lr": 0.1}) == identify({"lr": 0.1, "seed": 1})
True
"""

import hashlib
import importlib.util
import json
import pathlib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.run import runs


class Unit(NamedTuple):
  """One run of a sweep."""

  id: str
  overrides: dict[str, Any]  # {dotted name in the config: value}


class Sweep(NamedTuple):
  """What a launcher is given: units of one experiment under one config."""

  experiment: str
  config: str  # FILE or FILE:argument
  units: list[Unit]


def expand(config: str | types.ModuleType, argument: str = "") -> list[Unit]:
  """Return the units of a config's sweep, in the order in which it adds them.

  Args:
    config: a config file as for `--config` (`FILE` or `FILE:argument`), or its
      module; it has `get_config(argument)` and `sweep(add)`.
    argument: of `get_config`, for a module.

  Returns:
    Units with `.id` and `.overrides`.

  Raises:
    ValueError: when there is no sweep, or it adds nothing, the same unit twice,
      a name that the config does not have, or a value of another type.
  """
  if isinstance(config, str):
    path, _, argument = config.partition(":")
    config = load(path)
  sweep = getattr(config, "sweep", None)
  name = config.__name__
  if sweep is None:
    raise ValueError(f"{name}: no sweep(add), expected one in the config")
  known = config.get_config(argument)
  units: dict[str, Unit] = {}

  def add(overrides: Mapping[str, Any] | None = None, **more: Any) -> None:
    values = {**(overrides or {}), **more}
    for key, value in values.items():
      _check(known, key, value, name)
    unit = Unit(identify(values), values)
    if unit.id in units:
      raise ValueError(f"{name}: sweep adds {values} twice, expected once")
    units[unit.id] = unit

  sweep(add)
  if not units:
    raise ValueError(f"{name}: sweep adds no unit, expected at least one")
  return list(units.values())


def identify(overrides: Mapping[str, Any]) -> str:
  """Return the id of a unit: a hash of its overrides, whatever their order."""
  text = json.dumps(runs.plain(dict(overrides)), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def load(path: str) -> types.ModuleType:
  """Import a config file by its path.

  Raises:
    ValueError: when it is no Python file, or fails.
  """
  if not pathlib.Path(path).is_file():
    raise ValueError(f"--config: {path!r} is no file")
  spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
  if spec is None or spec.loader is None:
    raise ValueError(f"--config: {path!r} is no Python file")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not callable(getattr(module, "get_config", None)):
    raise ValueError(f"--config: {path!r} has no get_config(argument)")
  return module


def check_flags(config: str, words: Sequence[str]) -> None:
  """Check what the command line gives to every unit.

  Raises:
    ValueError: for what is no flag, or sets a name that the config has not.
  """
  path, _, argument = config.partition(":")
  known = load(path).get_config(argument)
  for word in words:
    name = word.partition("=")[0]
    if not name.startswith("--"):
      raise ValueError(f"unexpected argument {word!r}, expected flags only")
    # Every config has a mesh, which experiments/run/hosts.py checks.
    if name.startswith("--config.") and not name.startswith("--config.mesh."):
      _find(known, name.removeprefix("--config."), "--")


def _find(config: Any, name: str, where: str) -> Any:
  """Return what the config has under a name."""
  at = config
  for part in name.split("."):
    if not hasattr(at, "keys") or part not in at:
      raise ValueError(f"{where}: sweep sets {name!r}, unknown to the config")
    at = at[part]
  return at


def _check(config: Any, name: str, value: Any, where: str) -> None:
  """Refuse an override that the config has no place for."""
  at = _find(config, name, where)
  wanted = type(at)
  if hasattr(at, "keys"):
    raise ValueError(f"{where}: sweep sets {name!r}, which is a level")
  same = isinstance(value, wanted) and isinstance(value, bool) == (
    wanted is bool
  )
  if not (same or at is None or (wanted is float and type(value) is int)):
    raise ValueError(
      f"{where}: sweep sets {name!r} to {value!r}, expected {wanted.__name__}"
    )


def command(
  sweep: Sweep, unit: Unit, folder: str, rest: tuple[str, ...] = ()
) -> list[str]:
  """Return the command of a unit as an argument list, never a shell's string.

  Args:
    sweep: its experiment (of this package, or any module) and config.
    unit: what is overridden.
    folder: the unit's own, for --workdir.
    rest: further flags, the same for all units.
  """
  flags = [f"--config.{name}={value}" for name, value in unit.overrides.items()]
  name = sweep.experiment
  module = name if "." in name else f"experiments.{name}"
  return [
    sys.executable,
    "-m",
    module,
    f"--config={sweep.config}",
    *flags,
    f"--workdir={folder}",
    *rest,
  ]


def find_experiment(config: str, given: str | None) -> str:
  """Return the experiment that runs a config.

  Args:
    config: its file.
    given: what the command line says, if anything.

  Raises:
    ValueError: when nothing says it.
  """
  if given:
    return given
  path = config.partition(":")[0]
  named = getattr(load(path), "EXPERIMENT", None)
  if not named:
    raise ValueError(
      f"--experiment: not given, and {pathlib.Path(path).stem!r} does not say"
      " it, expected --experiment=NAME or EXPERIMENT in the config"
    )
  return named
