"""Launchers: what they refuse before a unit starts, and how units are run."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from experiments import sweep
from experiments.sweeping import jobs, launchers
from experiments.sweeping.launchers import local, printed, slurm, turns
from tests.sweeping import ROOT, SQUARES, flags, results


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
  monkeypatch.chdir(ROOT)


def config_with(tmp_path, text):
  """Return a config file like that of squares, with more in it."""
  path = tmp_path / "mine.py"
  path.write_text(pathlib.Path(SQUARES).read_text() + text)
  return str(path)


@pytest.mark.parametrize("name, package", launchers.EXTRAS.items())
def test_a_missing_extra_is_named_with_its_command(
  name, package, tmp_path, monkeypatch
):
  monkeypatch.setitem(launchers.EXTRAS, name, "no_such_package")
  message = rf"'{name}' needs no_such_package.*pip install '.\[{name}\]'"
  with pytest.raises(ValueError, match=message):
    sweep.run(flags(tmp_path / "s", launcher=name))
  assert not (tmp_path / "s").exists()
  extras = (ROOT / "setup.py").read_text()
  assert f'"{name}": ["{package}>=' in extras


@pytest.mark.parametrize(
  "values, message",
  [
    ({"workers": 0}, "--workers: 0, expected at least 1"),
    ({"retries": -1}, "--retries: -1, expected at least 0"),
    ({"hosts": 0}, "--hosts: 0, expected at least 1"),
    ({"chips": -4}, "--chips: -4, expected at least 0"),
    ({"set": ["zone"]}, "--set: 'zone', expected NAME=VALUE"),
    ({"set": ["zone=a"]}, "--set: 'zone' is unknown, expected none here"),
    (
      {"set": ["zon=a"], "launcher": "print"},
      "--set: 'zon' is unknown, expected one of pods, zone",
    ),
    ({"render": "slides", "launcher": "print"}, "--render: 'slides', expected"),
  ],
)
def test_nonsense_is_refused_before_anything_is_written(
  tmp_path, values, message
):
  with pytest.raises(ValueError, match=message):
    sweep.run(flags(tmp_path / "s", **values))
  assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
  "word, message",
  [
    ("extra", "unexpected argument 'extra', expected flags only"),
    ("--config.sed=1", "sets 'sed', unknown to the config"),
  ],
)
def test_nonsense_for_every_unit(tmp_path, word, message):
  with pytest.raises(ValueError, match=message):
    sweep.run(flags(tmp_path / "s"), [word])
  assert not (tmp_path / "s").exists()


def test_flags_for_every_unit_are_no_part_of_what_it_is(tmp_path):
  more = ["--config.mesh.population=-1", "--config.model.bias=False"]
  assert sweep.run(flags(tmp_path), more) == 0
  for unit in sweep.expand(SQUARES):
    about = json.loads((tmp_path / unit.id / "unit.json").read_text())
    assert about["overrides"] == unit.overrides
    assert about["command"][-2:] == more


def test_the_local_launcher_has_one_host(tmp_path):
  with pytest.raises(ValueError, match="--hosts: 2, expected 1"):
    sweep.run(flags(tmp_path, hosts=2))
  assert not results(tmp_path)


def test_a_config_says_where_it_runs_and_the_command_line_overrides(tmp_path):
  text = 'LAUNCH = {"hosts": 4, "chips": 8, "settings": {"zone": "z"}}\n'
  config = config_with(tmp_path, text)
  said = sweep._options(flags(tmp_path, config=config, chips=2, workers=None))
  assert (said.hosts, said.chips, said.workers) == (4, 2, os.cpu_count())
  assert said.settings == {"zone": "z"}
  settled = launchers.settle(printed.launch, said)
  assert settled.settings == {**printed.SETTINGS, "zone": "z"}
  config = config_with(tmp_path, 'LAUNCH = {"host": 4}\n')
  with pytest.raises(ValueError, match="LAUNCH: 'host', expected one of work"):
    sweep.run(flags(tmp_path / "s", config=config))


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"cluster": "cloud"}, "--set=cluster=cloud, expected slurm or local"),
    ({"minutes": "1h"}, "--set=minutes=1h, expected a whole number"),
    ({"sbatch": "partition"}, "--set=sbatch: 'partition', expected NAME=VALUE"),
  ],
)
def test_settings_of_slurm(settings, message, tmp_path):
  said = launchers.Options(1, settings={"cluster": "local"} | settings)
  with pytest.raises(ValueError, match=message):
    slurm.check(launchers.settle(slurm.launch, said))


def test_slurm_needs_sbatch(tmp_path, monkeypatch):
  monkeypatch.setenv("PATH", str(tmp_path))
  with pytest.raises(ValueError, match="'slurm' finds no sbatch here"):
    slurm.check(launchers.settle(slurm.launch, launchers.Options(1)))


def test_a_bound_unit_dies_with_its_starter(tmp_path):
  job = jobs.Job(
    "a",
    [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(99)"],
    str(tmp_path),
  )
  starter = subprocess.Popen(
    [
      sys.executable,
      "-c",
      "from experiments.sweeping import jobs; import json, sys;"
      "jobs.execute(jobs.Job(*json.loads(sys.argv[1])), bound=True)",
      json.dumps(job),
    ]
  )
  log = tmp_path / jobs.LOG
  while not (log.exists() and log.read_text()):
    time.sleep(0.01)
  assert jobs.is_busy(job)
  starter.send_signal(signal.SIGKILL)
  starter.wait()
  for _ in range(500):
    if not jobs.is_busy(job):
      break
    time.sleep(0.01)
  assert not jobs.is_busy(job)


def test_a_further_process_has_its_own_log_and_no_lock(tmp_path):
  job = jobs.Job(
    "a",
    [
      sys.executable,
      "-c",
      "import os; print(os.environ['WEIGHTSPACE_PROCESS'])",
    ],
    str(tmp_path),
  )
  outcome = jobs.follow(job, jobs.gang("here:1", 2, 1), 1)
  assert outcome.state == "done" and not (tmp_path / jobs.LOCK).exists()
  assert (tmp_path / "log.1.txt").read_text() == "1\n"
  broken = job._replace(argv=[sys.executable, "-c", "raise SystemExit('no')"])
  assert jobs.follow(broken, {}, 2)[1:2] == ("failed",)
  assert (tmp_path / "log.2.txt").read_text() == "no\n"


def test_turns_count_the_tries_of_each_unit():
  """A unit that fails gives way to the others; busy ones cost no try."""
  queue = [jobs.Job(name, [], "") for name in "abc"]
  script = {"a": ["failed"] * 3, "b": ["busy", "busy", "done"], "c": ["done"]}
  order, told = [], []

  def run(job, slot):
    order.append(job.id)
    return jobs.Outcome(job.id, script[job.id].pop(0), 1.0)

  turns.take(queue, ["one"], run, 2, told.append, patience=0.0)
  assert order == ["a", "b", "c", "a", "b", "a", "b"]
  assert [(o.id, o.state) for o in told] == [
    ("a", "again"),
    ("b", "busy"),
    ("c", "done"),
    ("a", "again"),
    ("b", "busy"),
    ("a", "failed"),
    ("b", "done"),
  ]


def test_cores_are_shared_out(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
  assert local.shares(2) == [[0, 2], [1, 3]]
  assert local.shares(8) == [None] * 8
