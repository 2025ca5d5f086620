"""What a config's file may bring of its own: a model, data, a metric, recipes.

A config file outside this repository is plain Python, so it is also the place
for what the library does not have.  These functions are used where it defines
them:

  model(config) -> record with .init(key, x) and .apply(params, x)
  data(config, data_dir) -> ws.data.Splits, or any .train .validation .test
  metric(outputs, y) -> [B], higher is better, in place of accuracy
  recipes(config) -> {name: recipe}, cooked beside the soups

>>> functions(__file__)
{}
"""

import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any

HOOKS = ("data", "metric", "model", "recipes")


def functions(path: str) -> dict[str, Callable[..., Any]]:
  """Return the functions of HOOKS that the config file at `path` defines."""
  text = pathlib.Path(path).read_text()
  if not any(f"def {name}(" in text for name in HOOKS):
    return {}  # nothing to run the file a second time for
  spec = importlib.util.spec_from_file_location("own_config", path)
  if spec is None or spec.loader is None:
    raise ValueError(f"--config: {path!r} is no Python file")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return {name: vars(module)[name] for name in HOOKS if name in vars(module)}
