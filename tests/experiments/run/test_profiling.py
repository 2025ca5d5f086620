"""What runs report of their cost, and the trackers and traces they may feed."""

import importlib.util
import json
import os
import pathlib
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.run import profiling, trackers
from tests.experiments.run import test_app
from weightspace import train
from weightspace.jaxpr import flops

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  folder = tmp_path_factory.mktemp("user")
  (folder / "sums.py").write_text(test_app.MAIN)
  (folder / "own.py").write_text(test_app.CONFIG)
  return folder


def run(place, *more, env=None):
  words = test_app.command(place, "own.py", *more)
  env = os.environ | {"PYTHONPATH": str(ROOT)} | (env or {})
  done = subprocess.run(words, env=env, capture_output=True, text=True)
  found = sorted((place / "runs" / "sums").glob("own-*/result.json"))
  return done, found


def test_a_run_reports_what_it_cost(place):
  """No training here: no step time, and no share of a floor."""
  done, (path,) = run(place)
  assert done.returncode == 0, done.stderr
  speed = json.loads(path.read_text())["speed"]
  assert set(speed) == {"compile seconds", "peak host MiB"}
  assert speed["peak host MiB"] > 50
  assert "peak host MiB" in (path.parent / "report.html").read_text()
  assert not (path.parent / "profile").exists()


def test_chosen_stages_are_traced(place):
  done, _ = run(place, "--config.seed=1", "--profile=1:2")
  assert done.returncode == 0, done.stderr
  found = list(
    place.glob("runs/sums/*/profile/*/plugins/profile/*/*.xplane.pb")
  )
  assert [path.parts[-5] for path in found] == ["stage1"]
  command = json.loads((found[0].parents[5] / "result.json").read_text())
  assert "--profile" not in command["command"]
  done, _ = run(place, "--config.seed=2", "--profile")
  stages = list(place.glob("runs/sums/*/profile/stage*"))
  assert len(stages) == 4, done.stderr


@pytest.mark.parametrize("text", ["2", "3:3", "a:b", "4:2"])
def test_a_wrong_range_is_named(place, text):
  done, _ = run(place, f"--profile={text}")
  assert done.returncode == 2
  assert f"--profile: '{text}', expected all, or stages" in done.stderr


def test_training_tells_of_steps_and_operations():
  meter = profiling.Meter()
  meter.listen()
  stack, data = {"w": jnp.ones((3, 4))}, {"x": jnp.ones((10, 4))}
  loss = lambda p, batch: (batch["x"] @ p["w"]) ** 2  # noqa: E731
  train.fit_population(
    loss, stack, optax.sgd(0.01), data, key=jax.random.key(0), epochs=3,
    batch_size=5,
  )  # fmt: skip
  # Two epochs of two steps; a step has two products of 5 x 4, for 3 members.
  assert meter.steps == 4 and meter.operations == 4 * 3 * 2 * (2 * 5 * 4)
  assert meter.compiled > 0 and meter.trained > 0
  report = meter.report()
  assert report["step ms"] > 0
  floor = meter.operations / flops.rate() / meter.trained
  np.testing.assert_allclose(
    report["share of arithmetic floor"], floor, atol=2e-3
  )


def test_operations_are_those_of_the_products():
  x, w = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))
  layout = ("NHWC", "HWIO", "NHWC")

  def model(x, w):
    y = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", None, None, layout)
    take = lambda i, y: y + jnp.ones((4, 4)).sum()  # noqa: E731
    y = jax.lax.fori_loop(0, 3, take, y)
    wide = lambda y: y @ jnp.ones((5, 7))  # noqa: E731
    flat = lambda y: jnp.zeros((2, 8, 8, 7))  # noqa: E731
    return jax.lax.cond(y.sum() > 0, wide, flat, y)

  wanted = 2 * (2 * 8 * 8 * 5) * (3 * 3 * 3) + 2 * (2 * 8 * 8) * 5 * 7
  assert flops.operations(jax.make_jaxpr(model)(x, w)) == wanted


def test_records_become_series():
  record = {"seed": 2, "method": "greedy", "member": 3, "loss": 0.5}
  assert trackers.series(record) == ({"greedy/member3/loss": 0.5}, 2)
  assert trackers.series({"stage": "begin", "seconds": 2.0}) == ({}, 0)
  assert trackers.series({"epoch": 4, "seed": 1, "loss": 1.0}) == (
    {"loss": 1.0},
    4,
  )


@pytest.mark.parametrize("name", sorted(trackers.PACKAGES))
def test_a_missing_extra_is_named_with_its_command(place, name):
  if importlib.util.find_spec(trackers.PACKAGES[name]):
    pytest.skip(f"{trackers.PACKAGES[name]} is here")
  done, _ = run(place, f"--tracker={name}")
  assert done.returncode == 2 and f"pip install '.[{name}]'" in done.stderr


def test_an_unknown_tracker_is_named(place):
  done, _ = run(place, "--tracker=slate")
  assert done.returncode == 2 and "tensorboard|wandb" in done.stderr


def test_what_a_run_logs_goes_to_its_tracker():
  seen = []
  tracker = trackers.Tracker(lambda *one: seen.append(one), lambda: None)
  take = trackers.feed(tracker)
  take({"step": 1, "value": 0.5, "seconds": 3.0})
  take({"stage": "step1", "seconds": 3.0})
  assert seen == [({"value": 0.5}, 1)]
