"""The shell of experiments: flags, the run folder, resuming, errors."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from configs import common
from experiments.run import app, endings, runs

ROOT = pathlib.Path(__file__).parents[3]

MAIN = '''
"""Sum the first whole numbers."""

from experiments.run import app


def main(run):
  import numpy as np

  from weightspace import intervals

  numbers = []
  for step in range(run.config.steps):
    tree = run.once(f"step{step}", lambda: {"x": np.array([float(step)])})
    numbers.append(float(tree["x"][0]))
    run.log(step=step, value=numbers[-1])
    if run.config.fail == step:
      raise ValueError(f"step {step} is not there")
  table = {"numbers": {"value": intervals.mean_interval(numbers)}}
  run.finish("They add up.", "they do", table, True)


if __name__ == "__main__":
  app.run(main)
'''
CONFIG = """
import ml_collections

from configs import common


def get_config(arg=""):
  arg = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  steps = 2 if arg.mode == "tiny" else 3
  return ml_collections.ConfigDict({
    "title": "Sums", "seed": arg.seed, "steps": steps, "fail": -1,
    "model": {"width": 4},
  })
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A user's own main and config, outside of the package."""
  folder = tmp_path_factory.mktemp("user")
  (folder / "sums.py").write_text(MAIN)
  (folder / "own.py").write_text(CONFIG)
  return folder


def command(place, config="own.py", *more):
  words = [sys.executable, str(place / "sums.py"), f"--config={place / config}"]
  return [*words, f"--workdir={place / 'runs'}", *more]


def start(words, **more):
  env = os.environ | {"PYTHONPATH": str(ROOT)}
  return subprocess.run(words, env=env, capture_output=True, text=True, **more)


def at(place, config):
  (found,) = (place / "runs" / "sums").glob(f"own-{runs.digest(config)}")
  return found


def settings(**more):
  base = {"title": "Sums", "seed": 0, "steps": 3, "fail": -1}
  return base | {"model": {"width": 4}} | more


def test_a_run_leaves_its_folder_and_the_same_command_says_so(place):
  done = start(command(place))
  assert done.returncode == 0, done.stderr
  folder = at(place, settings())
  assert {path.name for path in folder.iterdir()} == {
    "config.json",
    "metrics.jsonl",
    "checkpoints",
    "report.html",
    "result.json",
  }
  assert json.loads((folder / "config.json").read_text()) == settings()
  result = json.loads((folder / "result.json").read_text())
  assert result["holds"] is True and result["seed"] == 0
  assert result["numbers"]["numbers"]["value"]["mean"] == 1.0
  assert {"git", "versions", "device", "seconds", "command"} <= result.keys()
  assert str(place / "runs") not in json.dumps(result)
  assert "Sums" in (folder / "report.html").read_text()
  before = (folder / "metrics.jsonl").read_bytes()
  again = start([sys.executable, "-X", "importtime", *command(place)[1:]])
  assert again.returncode == 0
  assert "done: they do" in again.stdout and "report.html" in again.stdout
  assert "| jax" not in again.stderr  # a finished run answers at once
  assert (folder / "metrics.jsonl").read_bytes() == before


def test_how_often_to_save_is_no_part_of_what_a_run_is(place):
  """The folder and the command of the result are the same."""
  commands = []
  for more in ([], ["--save_every=9"]):
    words = command(place, "own.py:seed=7,mode=tiny", *more)
    assert start(words).returncode == 0
    folder = at(place, settings(seed=7, steps=2))
    result = json.loads((folder / "result.json").read_text())
    commands.append(result["command"].replace(str(place), ""))
    shutil.rmtree(folder)
  assert commands[0] == commands[1]


def test_a_failed_run_goes_on_where_it_stopped(place):
  """The lines of before stay, once each; the stage is read back."""
  words = command(place, "own.py:seed=4", "--config.fail=1")
  failed = start(words)
  assert failed.returncode == 1
  assert failed.stderr.strip().splitlines() == [
    "error: step 1 is not there (--traceback shows where)"
  ]
  folder = at(place, settings(seed=4, fail=1))
  lines = (folder / "metrics.jsonl").read_bytes()
  (folder / "metrics.jsonl").write_bytes(lines + b'{"step": 2, "va')
  assert start(words).returncode == 1
  assert (folder / "metrics.jsonl").read_bytes() == lines
  assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == [
    "step0",
    "step1",
  ]


def full_disk():
  with open("/dev/full", "w") as file:
    file.write("x" * 99999)


def wrapped_full_disk():
  try:
    full_disk()
  except OSError as error:
    raise ValueError("the checkpoint was not written") from error


def failing(error):
  def main():
    raise error

  return main


@pytest.mark.parametrize(
  "main, code, reason",
  [
    (lambda: None, 0, ""),
    (full_disk, 1, "error: the disk of at is full; what was written is kept"),
    (wrapped_full_disk, 1, "error: the disk of at is full"),
    (failing(FileNotFoundError("no x")), endings.NO_INPUT, "error: no x\n"),
    (
      failing(ValueError("NaN in 'w'")),
      1,
      "error: NaN in 'w' (--traceback shows where)\n",
    ),
    (failing(KeyboardInterrupt()), 130, "stopped; the same command resumes at"),
  ],
)
def test_every_end_is_one_line(capsys, main, code, reason):
  assert endings.guard(main, pathlib.Path("at")) == code
  said = capsys.readouterr().err
  assert reason in said and "Traceback" not in said


def test_a_bug_is_not_hidden():
  with pytest.raises(RuntimeError, match="a bug"):
    endings.guard(failing(RuntimeError("a bug")), pathlib.Path("at"))


def test_the_place_of_an_error_is_shown_when_asked_for(capsys):
  endings.guard(failing(ValueError("x")), pathlib.Path("at"), show=True)
  assert "in main" in capsys.readouterr().err


@pytest.mark.parametrize(
  "more, reason",
  [
    (
      ["--config.model.widht=3"],
      "unknown config key 'model.widht', expected w",
    ),
    (["--config.lt=3"], "unknown config key 'lt', expected fail, mesh, model"),
    (["--config.seed.a=3"], "unknown config key 'seed.a'"),
    (["--config.seed=abc"], "--config.seed=abc"),
    (["--sed=3"], "Unknown command line flag 'sed'"),
    (["--save_every=-1"], "flag --save_every=-1: -1.0 is not a non-negative"),
    (["extra"], "unexpected argument 'extra'"),
  ],
)
def test_a_wrong_command_line_is_one_line(place, more, reason):
  done = start(command(place, "own.py", *more))
  assert done.returncode == endings.USAGE
  assert reason in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
  "config, reason",
  [
    (
      "own.py:mode=tinny",
      "argument 'mode': 'tinny', expected one of paper, ti",
    ),
    ("own.py:sed=3", "argument 'sed=3': unknown, expected mode=, seed="),
    ("own.py:seed=a", "argument 'seed': 'a', expected int"),
    ("none.py", "none.py' is no file"),
  ],
)
def test_a_wrong_config_is_one_line(place, config, reason):
  done = start(command(place, config))
  assert done.returncode == endings.USAGE
  assert reason in done.stderr and len(done.stderr.splitlines()) == 1


def test_help_lists_the_flags_without_jax(place):
  words = [sys.executable, "-X", "importtime", str(place / "sums.py"), "--help"]
  done = start(words)
  assert "--config:" in done.stdout and "Sum the first" in done.stdout
  assert "| jax" not in done.stderr


def test_a_folder_of_another_config_is_refused(place):
  folder = app.folder(str(place / "runs"), "sums", "own", settings(seed=9))
  folder.mkdir(parents=True)
  other = json.dumps(settings(seed=9, model={"width": 5}))
  (folder / "config.json").write_text(other)
  done = start(command(place, "own.py:seed=9"))
  assert done.returncode == 1
  assert "config.model.width is 5 in the folder, not 4" in done.stderr
  assert (folder / "config.json").read_text() == other


def test_one_process_at_a_time(tmp_path):
  about = {"experiment": "e", "name": "n", "command": "c"}
  first = app.begin(tmp_path, None, {"seed": 0}, about, None)
  with pytest.raises(ValueError, match="another process"):
    app.begin(tmp_path, None, {"seed": 0}, about, None)
  first.lock.close()
  app.begin(tmp_path, None, {"seed": 0}, about, None).lock.close()


def test_a_line_is_logged_once(tmp_path):
  about = {"experiment": "e", "name": "n", "command": "c"}
  for _ in range(2):
    run = app.begin(tmp_path, None, {"seed": 0}, about, None)
    run.log(step=1, method="greedy", loss=0.5)
    run.log(step=2, method="greedy", loss=float("nan"))
    run.log(step=2, method="greedy", loss=0.25)
    run.lock.close()
  lines = runs.read_lines(tmp_path / "metrics.jsonl")
  assert [line["loss"] for line in lines] == [0.5, None]


def test_what_json_cannot_hold_is_named():
  with pytest.raises(ValueError, match=r"config\.a\[1\] is a function"):
    runs.plain({"a": [1, lambda: 0]}, "config")


def test_a_line_that_does_not_fit_leaves_no_half(tmp_path):
  """RLIMIT_FSIZE stands for a nearly full disk: a part of the line fits."""
  path = tmp_path / "metrics.jsonl"
  code = (
    "import pathlib, resource, signal\n"
    "from experiments.run import runs\n"
    f"path = pathlib.Path({str(path)!r})\n"
    "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
    "runs.append(path, '{\"a\": 1}\\n')\n"
    'try: runs.append(path, \'{"b": "longer than it"}\\n\')\n'
    "except OSError: print('refused')\n"
  )
  done = start([sys.executable, "-c", code], cwd=ROOT)
  assert done.stdout == "refused\n", done.stderr
  assert path.read_bytes() == b'{"a": 1}\n'


@pytest.mark.parametrize(
  "arg, reason",
  [
    ("sede=1", "argument 'sede=1': unknown, expected seed=, fast="),
    ("seed", "argument 'seed': unknown"),
    ("seed=1,seed=2", "given twice"),
    ("fast=yes", "expected one of true, false"),
  ],
)
def test_parse_arg_refuses(arg, reason):
  with pytest.raises(ValueError, match=reason):
    common.parse_arg(arg, seed=0, fast=False)


def test_parse_arg_types():
  arg = common.parse_arg(
    "rate=0.5,fast=true,mode=b", rate=1.0, fast=False, mode=("a", "b"), seed=3
  )
  assert arg.to_dict() == {"rate": 0.5, "fast": True, "mode": "b", "seed": 3}


def test_a_run_folder_in_a_store_is_refused():
  with pytest.raises(ValueError, match="run folders are kept on this machine"):
    app.folder("gs://bucket/runs", "soup", "tiny", {})
