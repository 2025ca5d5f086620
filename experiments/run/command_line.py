"""The command line of an experiment: what is wrong with it is one line.

>>> config_file(["soup", "--config=a.py:seed=1"])
'a.py:seed=1'
"""

import os
import shlex
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from absl import flags

from experiments.run import hosts

USAGE = 2  # exit code: a wrong command line
HERE = (
  *("--workdir", "--trace", "--profile", "--tracker"),
  *("--distributed", "--save_every"),
)


def parse(argv: list[str]) -> list[str]:
  """Read the flags; whatever is wrong with them is one line and exit code 2."""
  path = config_file(argv)
  parser = flags.FLAGS["config"].parser
  vars(parser)["parse"] = _with_mesh(parser.parse)
  argv = ["--profile=all" if word == "--profile" else word for word in argv]
  try:
    if path and not os.path.isfile(path.partition(":")[0]):
      raise ValueError(f"--config: {path!r} is no file")
    rest = flags.FLAGS(argv)
    if len(rest) > 1:
      raise ValueError(f"unexpected argument {rest[1]!r}, expected flags only")
    return rest
  except (AttributeError, KeyError, TypeError):  # of an unknown config key
    reason = _unknown(argv, parser.parse(path))
  except (flags.Error, ValueError) as error:
    reason = str(error).strip().splitlines()[-1]  # a config's own traceback
  _refuse(reason)


def _refuse(reason: str) -> NoReturn:
  print(f"error: {reason}", file=sys.stderr, flush=True)
  sys.exit(USAGE)


def _with_mesh(load: Callable[[str], Any]) -> Callable[[str], Any]:
  """Give every config a mesh, so that --config.mesh.population=8 fits it."""

  def parse(path: str) -> Any:
    config = load(path)
    with config.unlocked():
      config.mesh = hosts.complete(config.get("mesh"))
    return config

  return parse


def config_file(argv: list[str]) -> str:
  """Return what --config names, before the flags can be parsed."""
  words = [word for argument in argv for word in argument.split("=", 1)]
  at = next((i for i, word in enumerate(words) if word == "--config"), -1)
  return words[at + 1] if 0 <= at < len(words) - 1 else ""


def _unknown(argv: list[str], config: Any) -> str:
  """Name the first override whose key the config does not have."""
  for argument in argv:
    name = argument.partition("=")[0]
    known, keys = config, name.removeprefix("--config.").split(".")
    while keys and hasattr(known, "keys") and keys[0] in known:
      known = known[keys.pop(0)]
    if name.startswith("--config.") and keys:
      inner = hasattr(known, "keys")
      expected = f"expected {', '.join(known)}" if inner else "no such level"
      return f"unknown config key {name[9:]!r}, {expected}"
  return "the overrides do not fit the config"


def again() -> str:
  """Return the command line without what concerns this machine alone."""
  left = [word for word in sys.argv[1:] if not word.startswith(HERE)]
  left = ["--data_dir=DIR" if a.startswith("--data_dir=") else a for a in left]
  spec = sys.modules["__main__"].__spec__
  start = ["-m", spec.name.removesuffix(".__main__")] if spec else [sys.argv[0]]
  return shlex.join(["python", *start, *left])
