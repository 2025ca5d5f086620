"""The one-string argument of a config, as in `configs/X.py:mode=tiny,seed=3`.

It chooses between variants before overrides such as `--config.lr=0.1` apply.
Names and types are those of the defaults, and anything else is refused.

>>> arg = parse_arg("mode=tiny,seed=3", mode=("paper", "tiny"), seed=0)
>>> arg.mode, arg.seed
('tiny', 3)
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

GetConfig = Callable[..., ml_collections.ConfigDict]


def _parse(name: str, text: str, default: Any) -> Any:
  """Read `text` as the type of its default; a tuple lists the choices."""
  if isinstance(default, tuple):
    if text not in map(str, default):
      choices = ", ".join(map(str, default))
      raise ValueError(
        f"argument {name!r}: {text!r}, expected one of {choices}"
      )
    return next(choice for choice in default if str(choice) == text)
  if isinstance(default, bool):
    return _parse(name, text, ("true", "false")) == "true"
  try:
    return type(default)(text)
  except ValueError:
    kind = type(default).__name__
    raise ValueError(f"argument {name!r}: {text!r}, expected {kind}") from None


def parse_arg(arg: str, **defaults: Any) -> ml_collections.ConfigDict:
  """Return the defaults with those that `arg` names replaced.

  Args:
    arg: `name=value,...`, or empty.
    **defaults: a value of the wanted type, or a tuple of choices whose first is
      the default.

  Returns:
    ConfigDict with one entry for each default.

  Raises:
    ValueError: for an unknown name, one given twice, or a value of another
      type, naming it and what was expected.

  >>> parse_arg("", seed=7).seed
  7
  """
  given: dict[str, Any] = {}
  for part in filter(None, arg.split(",")):
    name, equals, text = part.partition("=")
    if name not in defaults or not equals:
      expected = ", ".join(f"{known}=" for known in defaults)
      raise ValueError(f"argument {part!r}: unknown, expected {expected}")
    if name in given:
      raise ValueError(f"argument {name!r}: given twice, expected once")
    given[name] = _parse(name, text, defaults[name])
  first = {
    name: default[0] if isinstance(default, tuple) else default
    for name, default in defaults.items()
  }
  return ml_collections.ConfigDict(first | given)


def sized(paper: Mapping[str, Any]) -> Callable[[GetConfig], GetConfig]:
  """Give a `get_config(arg)` the argument `size=paper`.

  Args:
    paper: `ran`, what the paper ran, and `settings`, {dotted name: value},
      which make the config as large, for a pod.  `mode=tiny` keeps its own
      sizes, and only says what the paper ran.

  >>> @sized({"ran": "a thousand steps", "settings": {"steps": 1000}})
  ... def small(arg=""):
  ...   return ml_collections.ConfigDict({"steps": 10})
  >>> small("size=paper").steps, small("size=paper").paper_size
  (1000, 'a thousand steps')
  """

  def decorate(get_config: GetConfig) -> GetConfig:
    @functools.wraps(get_config)
    def with_size(arg: str = "") -> ml_collections.ConfigDict:
      parts = [part for part in arg.split(",") if part]
      sizes = [part for part in parts if part.startswith("size=")]
      rest = [part for part in parts if part not in sizes]
      config = get_config(",".join(rest))
      chosen = parse_arg(",".join(sizes), size=("ours", "paper"))
      if chosen.size == "paper":
        config.paper_size = paper["ran"]
        tiny = "mode=tiny" in rest
        _enlarge(config, {} if tiny else paper.get("settings", {}))
      return config

    return with_size

  return decorate


def _enlarge(
  config: ml_collections.ConfigDict, settings: Mapping[str, Any]
) -> None:
  """Set values by dotted names, each of which the config has already."""
  for name, value in settings.items():
    *levels, last = name.split(".")
    at = config
    for level in levels:
      at = at[level]
    if last not in at:
      raise ValueError(f"size=paper sets {name!r}, unknown to the config")
    with at.ignore_type():
      at[last] = value


def on_mnist(
  config: ml_collections.ConfigDict, arg: str
) -> ml_collections.ConfigDict:
  """Move a soup config from digits to 10,000 images of MNIST.

  `mode=tiny` stays on the bundled digits, so it runs without any files.
  """
  if parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "paper":
    config.update({"data": "mnist", "examples": 10_000, "seeds": 5})
    config.model.hidden = (128, 128)
    config.start.update({"epochs": 5, "batch_size": 100})
    config.members.update({"epochs": 5, "batch_size": 100})
    config.learned.update({"epochs": 5, "batch_size": 256})
  return config
