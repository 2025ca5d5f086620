"""The command many times: two at once, again after success, elsewhere."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
import yaml

from tests import llamas
from weightspace.checkpoints import writers
from weightspace.cli import command

KINDS = {"w": ((2,), np.dtype("float32"))}


@pytest.fixture
def config(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  base = llamas.leaves(0)
  for seed, name in enumerate("ab", 1):
    llamas.write(tmp_path / "models" / name, llamas.leaves(seed, near=base))
  models = [{"model": f"models/{name}"} for name in "ab"]
  found = {"merge_method": "linear", "models": models}
  found["parameters"] = {"weight": 1.0}
  (tmp_path / "c.yml").write_text(yaml.safe_dump(found))
  return found


def run(*words):
  return command.main([*words, "--quiet"])


def test_the_same_command_again_is_done(config, capsys):
  assert run("c.yml", "out") == 0
  before = {p: os.stat(p).st_mtime_ns for p in os.listdir(".")}
  assert run("c.yml", "out") == 0
  assert "done: " in capsys.readouterr().out
  assert {p: os.stat(p).st_mtime_ns for p in os.listdir(".")} == before
  assert run("c.yml", "out", "--dry-run") == 0


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_another_configuration_is_refused(config, capsys, dry):
  assert run("c.yml", "out") == 0
  with open("c.yml", "w") as stream:
    yaml.safe_dump(config | {"dtype": "float16"}, stream)
  assert run("c.yml", "out", *dry) == 1
  said = capsys.readouterr().err
  assert "'out' exists, expected a new path: it was made by another" in said
  os.mkdir("mine")
  assert run("c.yml", "mine", *dry) == 1
  assert os.listdir("mine") == []


def test_the_card_names_parents_as_the_configuration_does(config, tmp_path):
  assert run("c.yml", "out") == 0
  card = (tmp_path / "out" / "README.md").read_text()
  assert "| `models/a/model.safetensors` |" in card
  assert str(tmp_path) not in card


def test_sizes_as_people_write_them(config):
  assert command.size("200kB") == 200_000
  assert command.size("1.5Mi") == 1_572_864
  assert run("c.yml", "out", "--max-memory", "200kB") == 0


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_store_is_refused_and_no_local_folder_made(config, capsys, dry):
  before = sorted(os.listdir("."))
  assert run("c.yml", "gs://bucket/out", *dry) == 1
  said = capsys.readouterr().err
  assert said.startswith("error: 'gs://bucket/out': files of safetensors")
  assert said.count("\n") == 1 and sorted(os.listdir(".")) == before


def test_a_disk_without_room_is_refused_by_a_dry_run(config, monkeypatch):
  usage = type("Usage", (), {"free": 10})()
  monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
  assert run("c.yml", "out", "--dry-run") == 1


def held(path, ready, go):
  writers.begin(path, KINDS)
  ready.set()
  go.wait(30)


def test_one_process_at_a_time_writes_until_it_dies(tmp_path):
  context = multiprocessing.get_context("spawn")
  ready, go = context.Event(), context.Event()
  other = context.Process(target=held, args=(tmp_path / "out", ready, go))
  other.start()
  assert ready.wait(60)
  with pytest.raises(ValueError, match="is being written by another process"):
    writers.begin(tmp_path / "out", KINDS)
  os.kill(other.pid, signal.SIGKILL)
  other.join()
  writer = writers.begin(tmp_path / "out", KINDS)
  writer.write("w", np.ones(2, np.float32))
  writer.finish()
  assert os.listdir(tmp_path) == ["out"]
  assert os.listdir(tmp_path / "out") == ["model.safetensors"]
