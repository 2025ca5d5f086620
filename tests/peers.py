"""Other engines, in processes of their own: torch, mergekit, Ray, submitit.

`make test-engines` installs them; WEIGHTSPACE_ENGINES names another Python that
has them.  Where it has not, the tests are skipped and say so.
"""

import functools
import os
import subprocess
import sys

import pytest

PYTHON = os.environ.get("WEIGHTSPACE_ENGINES", sys.executable)
QUIET = {
  "HF_HUB_OFFLINE": "1",
  "TOKENIZERS_PARALLELISM": "false",
  "TRANSFORMERS_VERBOSITY": "error",
}


@functools.cache
def missing(*modules):
  """Return the modules that the engines' Python lacks."""
  code = (
    "import importlib.util, sys;"
    "print(*[m for m in sys.argv[1:] if not importlib.util.find_spec(m)])"
  )
  words = [PYTHON, "-c", code, *modules]
  found = subprocess.run(words, capture_output=True, text=True)
  return found.stdout.split() if not found.returncode else list(modules)


def need(*modules):
  """Skip the tests of a module where an engine is missing."""
  lacks = missing(*modules)
  if lacks:
    reason = f"{PYTHON} lacks {', '.join(lacks)}: make test-engines has them"
    pytest.skip(reason, allow_module_level=True)


def run(code, *words):
  """Run a script; return what it printed."""
  environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  done = subprocess.run(
    [PYTHON, "-c", code, *map(str, words)],
    capture_output=True,
    text=True,
    env=environment | QUIET,
  )
  assert done.returncode == 0, done.stderr[-4000:]
  return done.stdout
