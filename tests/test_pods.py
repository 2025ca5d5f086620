"""The commands of docs/pods.md: each names a sweep that expands."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "pods.md").read_text()
UNITS = re.search(r'export UNITS="(.*)"', TEXT)[1]
BLOCKS = "".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL))
LINES = BLOCKS.replace("\\\n", " ").replace("$UNITS", UNITS).splitlines()
SWEEPS = [line for line in LINES if " experiments.sweep " in line]


def test_there_are_commands_for_every_launcher():
  said = " ".join(SWEEPS)
  for name in ("slurm", "ray", "print"):
    assert f"--launcher={name}" in said
  assert "--render=gcloud" in said and "--render=jobset" in said


@pytest.mark.slow
@pytest.mark.parametrize("line", SWEEPS)
def test_a_command_expands_to_its_units(line, tmp_path):
  words = shlex.split(line.partition(" > ")[0].replace("$HOME", "/home"))
  if "--launcher=print" not in words:  # what others run, printed
    words = [word for word in words if not word.startswith("--set=")]
    words += ["--launcher=print"]
  done = subprocess.run(
    [sys.executable, *words[1:]],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  count = 64 if "phases" in line else 10
  assert done.stdout.count("experiments.") == count
