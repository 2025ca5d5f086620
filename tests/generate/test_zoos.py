"""Zoos are written and read as one folder, whole or not at all."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace.generate import load_zoo, save_zoo, zoo
from weightspace.types import Member


def test_a_round_trip_keeps_everything(tmp_path):
  stack = {"a": [jnp.ones((3, 2), jnp.bfloat16)], "b": jnp.arange(3.0)}
  members = [Member("x", seed, "digits", "sgd") for seed in range(3)]
  metrics = {"accuracy": np.array([0.1, 0.2, 0.3]), "classes": np.eye(3)}
  before = zoo(stack, members, metrics)
  save_zoo(tmp_path / "deep" / "zoo", before)
  assert [p.name for p in (tmp_path / "deep").iterdir()] == ["zoo"]
  after = load_zoo(tmp_path / "deep" / "zoo")
  assert after.members == tuple(members)
  assert jax.tree.structure(after.stack) == jax.tree.structure(stack)
  for x, y in zip(jax.tree.leaves(after.stack), jax.tree.leaves(stack)):
    assert x.dtype == y.dtype and np.array_equal(x, y)
  assert set(after.metrics) == set(metrics)
  for name, value in metrics.items():
    assert np.array_equal(after.metrics[name], value)
    assert after.metrics[name].dtype == value.dtype


def test_models_may_be_listed_or_lie_on_disk(tmp_path):
  models = problems.models(3)
  for seed, model in enumerate(models):
    ws.checkpoints.save(
      tmp_path / f"{seed}.safetensors", model, Member("s", seed)
    )
  paths = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
  from_disk, listed = zoo(paths), zoo(models)
  problems.close(from_disk.stack, ws.stack(models), 0, 0)
  problems.close(listed.stack, ws.stack(models), 0, 0)
  assert [m.seed for m in from_disk.members] == [0, 1, 2]
  assert from_disk.members[0].start == "s" and listed.members[2].seed == 2


def test_an_interrupted_writing_leaves_no_zoo(tmp_path, monkeypatch):
  made = zoo(problems.models(2), metrics={"loss": np.ones(2)})

  def fail(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(json, "dumps", fail)
  with pytest.raises(KeyboardInterrupt):
    save_zoo(tmp_path / "zoo", made)
  monkeypatch.undo()
  assert not (tmp_path / "zoo").exists()
  save_zoo(tmp_path / "zoo", made)
  assert len(load_zoo(tmp_path / "zoo").members) == 2


def test_what_does_not_fit_is_refused(tmp_path):
  models = problems.models(2)
  with pytest.raises(ValueError, match="1 members, expected 2"):
    zoo(models, [Member("", 0)])
  with pytest.raises(ValueError, match=r"metric 'a' is \(3,\), expected \[2"):
    zoo(models, metrics={"a": np.ones(3)})
  with pytest.raises(ValueError, match=r"no leaves|no models"):
    zoo([])
  with pytest.raises(ValueError, match="NaN in 'w' of model 1"):
    zoo({"w": jnp.array([0.0, jnp.nan])})
  with pytest.raises(ValueError, match="model 1: 'w'"):
    zoo([{"w": jnp.ones(2)}, {"w": jnp.ones(3)}])
  made = zoo(models)
  save_zoo(tmp_path / "zoo", made)
  with pytest.raises(ValueError, match="exists, expected a new path"):
    save_zoo(tmp_path / "zoo", made)
  with pytest.raises(ValueError, match=r"has no models\.safetensors"):
    load_zoo(tmp_path)
  (tmp_path / "zoo" / "members.json").write_text("[{}]")
  with pytest.raises(ValueError, match=r"members\.json"):
    load_zoo(tmp_path / "zoo")
