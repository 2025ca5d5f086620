"""Commands of an installed package that run its experiments.

A wheel holds the experiments and their configs beside this file; a checkout
holds them at its top.  Either way they run as `python -m experiments.NAME` does
in a checkout.

>>> (root() / "configs" / "model_soups.py").is_file()
True
"""

import os
import pathlib
import runpy
import sys
from collections.abc import Sequence


def root() -> pathlib.Path:
  """Return the folder that holds `experiments` and `configs`."""
  here = pathlib.Path(__file__).parent
  return here if (here / "experiments").is_dir() else here.parents[1]


def demo() -> None:
  """Run `weightspace-demo`: model soups on handwritten digits.

  Further words of the command line are handed on: `--workdir=DIR`, or another
  `--config=FILE`.
  """
  config = f"--config={root() / 'configs' / 'model_soups.py'}"
  given = any(word.startswith("--config=") for word in sys.argv[1:])
  run("experiments.soup", [*([] if given else [config]), *sys.argv[1:]])


def reproduce() -> None:
  """Run `weightspace-reproduce [NAME ...] [--flag=...]`: claims of papers."""
  words = sys.argv[1:]
  names = [word for word in words if not word.startswith("-")]
  only = [f"--only={','.join(names)}"] if names else []
  rest = [word for word in words if word.startswith("-")]
  run("experiments.reproduce", [*only, *rest])


def run(module: str, words: Sequence[str]) -> None:
  """Run an experiment's module under these words, as `python -m` does.

  The processes that it starts find the experiments too.
  """
  folder = str(root())
  paths = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
  os.environ["PYTHONPATH"] = os.pathsep.join(paths)
  sys.path.insert(0, folder)
  sys.argv = [sys.argv[0], *words]
  runpy.run_module(module, run_name="__main__", alter_sys=True)
