"""What the README shows runs, and what it names exists."""

import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.mark.parametrize("index", range(len(BLOCKS)))
def test_python_blocks_run(index):
  exec(compile(BLOCKS[index], f"README block {index}", "exec"), {})


def test_there_are_examples():
  assert len(BLOCKS) >= 4


def test_commands_name_what_exists():
  commands = re.findall(r"python -m (experiments\.\w+)(.*)", TEXT)
  assert commands
  for module, rest in commands:
    assert importlib.util.find_spec(module), module
    for config in re.findall(r"--config=([\w/]+\.py)", rest):
      assert (ROOT / config).exists(), config
  targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.M)
  named = re.findall(r"(?:^|`)(?:PY=\S+ )?make ([\w-]+)", TEXT, re.M)
  assert named
  for target in named:
    assert target in targets, target
