"""Sweeps: units by content, run once each whatever is killed."""

import contextlib
import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import termios
import time
import types

import ml_collections
import numpy as np
import pytest

from configs import search
from experiments import sweep
from experiments.sweeping import jobs, launchers, sweep_board, units
from experiments.sweeping.launchers import local
from tests.sweeping import (
  ROOT,
  SQUARES,
  TROUBLE,
  completed,
  flags,
  processes,
  results,
  until,
)


def config_of(function, **values):
  module = types.ModuleType("mine")
  module.get_config = lambda arg: ml_collections.ConfigDict(
    {"seed": 0, "rate": 0.1, "name": "a", "model": {"hidden": (8,)}} | values
  )
  if function:
    module.sweep = function
  return module


def test_units_are_ordered_and_named_by_content():
  found = sweep.expand(SQUARES)
  assert [unit.overrides["seed"] for unit in found] == [0, 1, 2, 3]
  assert found[3].overrides == {"seed": 3, "rate": 0.5}
  assert len({unit.id for unit in found}) == 4
  again = sweep.expand(config_of(lambda add: add(rate=0.5, seed=3)))
  assert again[0].id == found[3].id == units.identify({"seed": 3, "rate": 0.5})
  # Folders of before are found again only while this stays as it is.


@pytest.mark.parametrize(
  "function, message",
  [
    (None, r"mine: no sweep\(add\)"),
    (lambda add: None, "mine: sweep adds no unit"),
    (lambda add: [add(seed=1), add(seed=1)], "mine: sweep adds .* twice"),
    (lambda add: add(sed=1), "sets 'sed', unknown to the config"),
    (lambda add: add({"model.width": 1}), "sets 'model.width', unknown"),
    (lambda add: add(model=1), "sets 'model', which is a level"),
    (lambda add: add(seed="1"), "sets 'seed' to '1', expected int"),
    (lambda add: add(seed=True), "sets 'seed' to True, expected int"),
    (
      lambda add: add({"model.hidden": 8}),
      "'model.hidden' to 8, expected tupl",
    ),
  ],
)
def test_a_sweep_that_does_not_fit_is_named(function, message):
  with pytest.raises(ValueError, match=message):
    sweep.expand(config_of(function))


def test_whole_numbers_are_rates_too():
  assert sweep.expand(config_of(lambda add: add(rate=1)))[0].overrides


def test_grids_and_searches():
  assert len(search.grid({"a": [1, 2], "b": range(3)})) == 6
  space = {
    "rate": search.log_uniform(1e-4, 1e-1),
    "width": search.integers(2, 5),
    "kind": ["x", "y"],
    "share": search.uniform(0.0, 1.0),
  }
  for draw in (search.random_search, search.quasi_random):
    points = draw(space, 200, seed=3)
    assert points == draw(space, 200, seed=3) != draw(space, 200, seed=4)
    assert {p["width"] for p in points} == {2, 3, 4, 5}
    assert {p["kind"] for p in points} == {"x", "y"}
    logs = np.log10([p["rate"] for p in points])
    assert -4 <= logs.min() < -3.8 and -1.2 < logs.max() <= -1
    assert abs(logs.mean() + 2.5) < 0.2
  even = np.array([p["share"] for p in search.quasi_random(space, 64)])
  assert np.histogram(even, 8, (0, 1))[0].min() >= 6
  with pytest.raises(ValueError, match="'rate' is a range"):
    search.grid(space)
  with pytest.raises(ValueError, match="low <= high"):
    search.uniform(1.0, 0.0)
  with pytest.raises(ValueError, match="log: above 0"):
    search.log_uniform(0.0, 1.0)


def test_ten_thousand_units_expand_quickly():
  def many(add):
    for seed in range(10_000):
      add(seed=seed)

  assert len(sweep.expand(config_of(many))) == 10_000


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
  monkeypatch.chdir(ROOT)


def test_a_sweep_runs_every_unit_once(tmp_path, capsys):
  assert sweep.run(flags(tmp_path)) == 0
  assert sorted(completed(tmp_path).values()) == [1, 1, 1, 1]
  assert "4 of 4 done" in capsys.readouterr().out
  assert sweep.run(flags(tmp_path)) == 0
  assert sorted(completed(tmp_path).values()) == [1, 1, 1, 1]
  assert "4 units, 4 of them done" in capsys.readouterr().out
  about = json.loads(next(tmp_path.glob("*/unit.json")).read_text())
  assert about["command"][1:3] == ["-m", "tests.sweeps.quick"]


def test_a_unit_that_fails_is_reported_and_holds_up_nothing(tmp_path, capsys):
  module = "tests.sweeps.quick"
  found = units.Sweep(module, SQUARES, sweep.expand(SQUARES))
  queue = sweep.plan(found, str(tmp_path))
  queue = [
    job._replace(argv=[*job.argv, "--config.kind=always fails"])
    if index == 1
    else job
    for index, job in enumerate(queue)
  ]
  with sweep_board.Board(4, queue, 2) as board:
    local.launch(queue, launchers.Options(2, retries=1), board.tell)
  assert board.summary() == 1
  said = capsys.readouterr().out
  assert "3 of 4 done, 1 failed" in said
  again = "failed, to be tried again: this unit fails always; "
  assert again in said and "failed: this unit fails always; " in said
  assert len(results(tmp_path)) == 3
  attempts = pathlib.Path(queue[1].folder, jobs.ATTEMPTS).read_text()
  assert len(attempts.splitlines()) == 2


def test_a_unit_that_fails_once_is_tried_again(tmp_path):
  job = jobs.Job(
    "a",
    [
      sys.executable,
      "-m",
      "tests.sweeps.quick",
      f"--workdir={tmp_path}/a",
      "--config.seed=3",
      "--config.kind=fails once",
    ],
    f"{tmp_path}/a",
  )
  told = []
  local.launch([job], launchers.Options(1, retries=1), told.append)
  states = ["running", "again", "running", "done"]
  assert [outcome.state for outcome in told] == states


def test_two_launchers_do_not_run_a_unit_twice_at_once(tmp_path):
  command = [sys.executable, "-m", "tests.sweeps.quick", "--config.seconds=1"]
  command += [f"--workdir={tmp_path}/a", "--config.seed=3"]
  job = jobs.Job("a", command, f"{tmp_path}/a")
  other = subprocess.Popen(
    [
      sys.executable,
      "-c",
      "from experiments.sweeping import jobs; import json, sys;"
      "jobs.execute(jobs.Job(*json.loads(sys.argv[1])))",
      json.dumps(job),
    ]
  )
  while not os.path.exists(f"{tmp_path}/a/log.txt"):
    time.sleep(0.01)
  assert jobs.execute(job).state == "busy"
  told = []
  local.launch([job], launchers.Options(1), told.append)
  states = [outcome.state for outcome in told]
  assert set(states[:-1]) == {"busy"} and states[-1] == "done"
  assert other.wait() == 0
  assert completed(tmp_path)["a"] == 1


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks into /proc")
def test_a_killed_launcher_leaves_its_unit_at_work(tmp_path):
  """The lock goes with the unit's process: nobody starts it a second time."""
  command = [sys.executable, "-m", "tests.sweeps.quick", "--config.seconds=2"]
  command += [f"--workdir={tmp_path}/a", "--config.seed=3"]
  job = jobs.Job("a", command, f"{tmp_path}/a")
  launcher = subprocess.Popen(
    [
      sys.executable,
      "-c",
      "from experiments.sweeping import jobs; import json, sys;"
      "jobs.execute(jobs.Job(*json.loads(sys.argv[1])))",
      json.dumps(job),
    ]
  )
  until(lambda: processes(tmp_path, "tests.sweeps.quick"))
  launcher.kill()
  launcher.wait()
  assert jobs.execute(job).state == "busy"
  told = []
  local.launch([job], launchers.Options(1), told.append)
  states = [outcome.state for outcome in told]
  assert set(states[:-1]) == {"busy"} and states[-1] == "done"
  assert completed(tmp_path)["a"] == 1


@pytest.mark.parametrize(
  "values, message",
  [
    ({"launcher": "slow"}, "--launcher: 'slow', expected one of local, ray, "),
    ({"workers": 0}, "--workers: 0"),
    ({"config": "nowhere.py"}, "'nowhere.py' is no file"),
    ({"config": str(ROOT / "configs/model_soups.py")}, "no sweep"),
    ({"config": f"{SQUARES}:units=x"}, "argument 'units': 'x'"),
  ],
)
def test_bad_flags_are_named_before_a_unit_starts(tmp_path, values, message):
  with pytest.raises(ValueError, match=message):
    sweep.run(flags(tmp_path / "s", experiment="soup", **values))
  assert not results(tmp_path / "s")


def test_print_gives_commands_that_a_shell_runs(tmp_path, capsys):
  assert sweep.run(flags(tmp_path / "s", launcher="print")) == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 4 and not (tmp_path / "s").exists()
  env = os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}:/bin"}
  subprocess.run(lines[2], shell=True, check=True, env=env)
  assert results(tmp_path / "s") == [b'{"seed": 2, "square": 4}']


def test_on_a_terminal_a_table_stands_in_one_place(tmp_path):
  """A real one, of 60 columns: what is on its screen at the end, and was."""
  terminal, end = pty.openpty()
  termios.tcsetwinsize(end, (24, 60))
  words = [sys.executable, "-m", "experiments.sweep", f"--config={TROUBLE}"]
  words += [f"--workdir={tmp_path}", "--workers=2"]
  with subprocess.Popen(words, cwd=ROOT, stdout=end, stderr=end) as process:
    os.close(end)
    said = b""
    with contextlib.suppress(OSError):  # what Linux says at the end
      while part := os.read(terminal, 9999):
        said += part
  os.close(terminal)
  screens = drawn(said.decode())
  assert process.returncode == 1
  begin, second = screens[-1].splitlines()[:2]
  assert begin == "4 units, 0 of them done"
  assert second.startswith("2 of 4 done, 2 failed in ")
  assert len(screens) > 8 and max(map(len, screens[-2].splitlines())) < 60
  assert all(s.count(" of 4 done") == 1 for s in screens[:-1])
  assert any("failed, waits " in s and "running 0 s " in s for s in screens)
  assert any("\n  FloatingPointError: loss is nan at" in s for s in screens)


def drawn(said):
  """Return what was on the screen each time the cursor went up."""
  rows, at, screens = [""], 0, []
  for up, word in re.findall(r"\x1b\[(\d+)A\r\x1b\[J|([^\x1b\r\n]+|\n)", said):
    if up:
      screens.append("\n".join(rows))
      at -= int(up)
      rows = [*rows[:at], ""]
    elif word == "\n":
      rows, at = [*rows, ""], at + 1
    else:
      rows[at] += word
  return [*screens[1:], "\n".join(rows)]
