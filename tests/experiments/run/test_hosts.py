"""Several hosts and devices: the same run, or clear words why not."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.run import hosts, runs
from tests.sweeping import newest, until, watched
from weightspace import checkpoints
from weightspace.hosts import multihost, startup

ROOT = pathlib.Path(__file__).parents[3]


def environments(count, devices):
  """Return what tells each process of its place."""
  base = os.environ | {
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(devices),
  }
  base.pop("XLA_FLAGS", None)
  if count == 1:
    return [base]
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  names = startup.COORDINATOR, startup.PROCESSES, startup.PROCESS
  return [
    base | dict(zip(names, (address, str(count), str(process))))
    for process in range(count)
  ]


def begun(words, count, devices):
  """Start a command on so many hosts."""
  return [
    subprocess.Popen(
      [sys.executable, *words[process % len(words)]],
      env=env,
      cwd=ROOT,
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
    )
    for process, env in enumerate(environments(count, devices))
  ]


def together(words, count, devices):
  """Run a command on so many hosts; return their codes and what they said."""
  return ended(begun(words, count, devices))


def ended(started):
  said = [process.communicate(timeout=240)[0] for process in started]
  return [process.returncode for process in started], said


def trained(folder, epochs, count, devices):
  words = ["-m", "tests.hosts_worker", str(folder), str(epochs)]
  codes, said = together([words], count, devices)
  assert codes == [0] * count, said
  return checkpoints.restore(folder / f"after{epochs}")


@pytest.mark.slow
def test_a_population_is_the_same_on_any_devices_and_hosts(tmp_path):
  layouts = [(1, 1), (1, 2), (1, 4), (1, 8), (2, 2), (2, 4)]
  found = {at: trained(tmp_path / f"{at}", 3, *at) for at in layouts}
  for tree in found.values():
    jax.tree.map(np.testing.assert_array_equal, tree, found[1, 1])


@pytest.mark.slow
def test_training_goes_on_elsewhere(tmp_path):
  """Epochs one by one on other hosts and devices: the same in the end."""
  layouts = [(2, 2), (1, 8), (1, 1), (2, 1)]
  for epochs, at in enumerate(layouts, 1):
    last = trained(tmp_path / "moved", epochs, *at)
  stayed = trained(tmp_path / "stayed", len(layouts), 1, 1)
  jax.tree.map(np.testing.assert_array_equal, last, stayed)


def experiment(folder, *more):
  config = f"--config={ROOT}/configs/model_soups.py:mode=tiny"
  words = ["-m", "experiments.soup", config, f"--workdir={folder}"]
  return [*words, "--config.mesh.population=-1", *more]


def lines(folder):
  """Return what the run below a folder logged, without its times."""
  (path,) = folder.glob("soup/*/metrics.jsonl")
  found = runs.read_lines(path)
  return [{k: v for k, v in x.items() if k != "seconds"} for x in found]


def same(a, b):
  assert len(a) == len(b)
  for x, y in zip(a, b):
    assert x.keys() == y.keys()
    for name, value in x.items():
      if isinstance(value, float):
        np.testing.assert_allclose(value, y[name], rtol=1e-4, atol=1e-4)
      else:
        assert value == y[name]


@pytest.mark.slow
def test_a_run_on_two_hosts_is_a_run_on_one(tmp_path):
  alone = together([experiment(tmp_path / "1")], 1, 1)
  assert alone[0] == [0], alone[1]
  codes, said = together([experiment(tmp_path / "2")], 2, 2)
  assert codes == [0, 0], said
  same(lines(tmp_path / "2"), lines(tmp_path / "1"))
  (path,) = (tmp_path / "2").glob("soup/*/result.json")
  result = json.loads(path.read_text())
  assert result["mesh"] == {"population": 4, "data": 1, "model": 1}
  assert result["hosts"] == 2 and result["speed"]["step ms"] > 0
  # A stage less, and as many devices as here: it goes on where it was.
  path.unlink()
  stages = sorted((path.parent / "checkpoints").iterdir())
  os.rename(stages[-1], tmp_path / "gone")
  again = together([experiment(tmp_path / "2")], 1, 8)
  assert again[0] == [0] and "resuming" in again[1][0], again[1]
  same(lines(tmp_path / "2"), lines(tmp_path / "1"))


@pytest.mark.slow
def test_training_that_is_killed_on_two_hosts_goes_on_elsewhere(tmp_path):
  """Saved by both hosts; gone on with by two others, and by one."""
  long = "--config.seeds=1", "--config.members.epochs=40"
  alone = together([experiment(tmp_path / "1", *long)], 1, 1)
  assert alone[0] == [0], alone[1]
  moved = tmp_path / "moved"
  words = experiment(moved, *long, "--save_every=0.001")
  for at, last in (((2, 2), "epoch-000003"), ((2, 1), "epoch-000010")):
    left = newest(moved)
    started = begun([words], *at)
    until(lambda: newest(moved) > last or started[0].poll())  # noqa: B023
    for process in started:
      process.kill()
    codes, said = ended(started)
    assert codes == [-signal.SIGKILL] * 2 and "anew" not in "".join(said), said
    assert left < last < newest(moved) < "epoch-000040"
  left = newest(moved)
  started = begun([words], 1, 8)
  seen = watched(started, moved)
  codes, said = ended(started)
  assert codes == [0], said
  assert left < min(seen) and max(seen) == "epoch-000040"
  same(lines(moved), lines(tmp_path / "1"))
  assert not list(moved.rglob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize(
  "more, reason",
  [
    (
      [["--save_every=1"], ["--save_every=2"]],
      "hosts disagree on save_every: 1.0 in process 0, 2.0 in process 1",
    ),
    (
      [["--config.seeds=2"], ["--config.seeds=3"]],
      "hosts disagree on ",
    ),
    (
      [["--config.mesh.data=2"], ["--config.mesh.data=1"]],
      "hosts disagree on config.mesh.data: 2 in process 0, 1 in process 1",
    ),
    (
      [["--config.mesh.population=1"]],
      "population=1, data=1, model=1 takes 1 of the 2 devices of 2 hosts",
    ),
  ],
)
def test_hosts_that_disagree_end_with_one_line(tmp_path, more, reason):
  words = [experiment(tmp_path, *extra) for extra in more]
  codes, said = together(words, 2, 1)
  assert codes == [1, 1], said
  for text in said:
    errors = [line for line in text.splitlines() if "error:" in line]
    assert len(errors) == 1 and reason in errors[0]
  assert not list(tmp_path.glob("soup/*/result.json"))


def test_a_mesh_takes_the_devices_that_it_names():
  assert hosts.mesh(hosts.complete({})) is None
  found = hosts.mesh(hosts.complete({"population": -1, "data": 2}))
  assert dict(found.shape) == {"population": 4, "data": 2, "model": 1}
  few = hosts.mesh(hosts.complete({"population": 3}))
  assert dict(few.shape) == {"population": 3, "data": 1, "model": 1}


@pytest.mark.parametrize(
  "given, reason",
  [
    ({"population": 9}, "population=9, data=1, model=1 needs 9 devices, fou"),
    ({"population": -1, "data": 16}, "needs 16 devices, found 8"),
    ({"members": 2}, "axis 'members', expected population, data, model"),
    ({"data": 0}, "config.mesh.data: 0, expected devices"),
    ({"data": True}, "config.mesh.data: True"),
    ({"data": -1, "model": -1}, "expected -1 once"),
  ],
)
def test_a_mesh_that_cannot_be_is_named(given, reason):
  with pytest.raises(ValueError, match=reason):
    hosts.mesh(hosts.complete(given))


def test_models_are_shared_out_evenly():
  mesh = hosts.mesh(hosts.complete({"population": 8}))
  assert hosts.fitting(mesh, 16) is mesh
  assert dict(hosts.fitting(mesh, 6).shape) == {"population": 6}
  assert hosts.fitting(mesh, 1) is None and hosts.fitting(None, 8) is None


def test_what_was_trained_on_other_devices_goes_together():
  wide = hosts.mesh(hosts.complete({"population": 8}))
  few = hosts.fitting(wide, 6)
  six, eight = (
    multihost.place(mesh, np.arange(mesh.size, dtype="f"), jax.P("population"))
    for mesh in (few, wide)
  )
  with pytest.raises(ValueError, match="incompatible devices"):
    six.sum() + eight.sum()
  assert (hosts.gathered(few, six).sum() + eight.sum()).item() == 15 + 28


@pytest.mark.parametrize(
  "environment, reason",
  [
    ({"PROCESSES": "2"}, "WEIGHTSPACE_PROCESS: '', expected a number from 0"),
    ({"PROCESS": "0"}, "WEIGHTSPACE_PROCESSES: '', expected a number from 1"),
    ({"PROCESSES": "2", "PROCESS": "2"}, "PROCESS: 2, expected less than 2"),
  ],
)
def test_half_an_environment_is_named(monkeypatch, environment, reason):
  monkeypatch.setenv(startup.COORDINATOR, "localhost:1")
  for name, value in environment.items():
    monkeypatch.setenv(f"WEIGHTSPACE_{name}", value)
  before = jax.config.jax_compilation_cache_dir
  try:
    with pytest.raises(ValueError, match=reason):
      startup.start()
  finally:
    jax.config.update("jax_compilation_cache_dir", before)


def test_alone_nothing_is_shared():
  seen = []
  multihost.first(lambda: seen.append(1))
  assert seen == [1] and multihost.writes() and not multihost.several()
  with pytest.raises(OSError, match="no room"):
    multihost.first(lambda: (_ for _ in ()).throw(OSError("no room")))
