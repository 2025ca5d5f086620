"""What the print launcher prints: commands and manifests that hold water."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from experiments import sweep
from experiments.sweeping import jobs, units
from experiments.sweeping.launchers import printed
from tests.sweeping import ROOT, SQUARES, flags


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
  monkeypatch.chdir(ROOT)


def render(tmp_path, capsys, kind, *settings, **values):
  """Return what `print` prints of four units, and their commands."""
  values = {"launcher": "print", "render": kind, "set": settings} | values
  assert sweep.run(flags(tmp_path / "s", **values)) == 0
  assert not (tmp_path / "s").exists()
  found = units.Sweep("tests.sweeps.quick", SQUARES, sweep.expand(SQUARES))
  return capsys.readouterr().out, sweep.plan(found, str(tmp_path / "s"))


def test_jobsets_are_yaml_with_a_pod_for_each_host(tmp_path, capsys):
  text, queue = render(tmp_path, capsys, "jobset", "image=me/ws:1", retries=3)
  sets = list(yaml.safe_load_all(text))
  assert [s["kind"] for s in sets] == ["JobSet"] * 4
  assert {s["metadata"]["name"] for s in sets} == {
    f"sweep-{job.id}" for job in queue
  }
  (first, job) = sets[0], queue[0]
  labels = first["metadata"]["labels"]
  assert labels == {"kueue.x-k8s.io/queue-name": "multislice-queue"}
  assert first["spec"]["failurePolicy"] == {"maxRestarts": 3}
  (slices,) = first["spec"]["replicatedJobs"]
  work = slices["template"]["spec"]
  assert work["parallelism"] == work["completions"] == 4
  pod = work["template"]["spec"]
  assert set(pod["nodeSelector"].values()) == {"tpu-v5-lite-podslice", "4x4"}
  (unit,) = pod["containers"]
  assert unit["image"] == "me/ws:1"
  assert unit["command"] == ["python", *job.argv[1:]]
  assert unit["resources"]["limits"] == {"google.com/tpu": 4}
  assert unit["volumeMounts"][0]["mountPath"] == str(tmp_path / "s")
  told = {entry["name"]: entry.get("value") for entry in unit["env"]}
  at = f"sweep-{job.id}-slice-0-0.sweep-{job.id}:8476"
  assert told == jobs.gang(at, 4, 0) | {"WEIGHTSPACE_PROCESS": None}
  assert "job-completion-index" in str(unit["env"][-1]["valueFrom"])


def test_a_slice_of_one_host_is_told_of_no_others(tmp_path, capsys):
  text, _ = render(tmp_path, capsys, "jobset", "slice=v6e-4")
  work = next(yaml.safe_load_all(text))["spec"]["replicatedJobs"][0]
  spec = work["template"]["spec"]
  assert spec["completions"] == 1
  assert spec["template"]["spec"]["containers"][0]["env"] == []


@pytest.mark.parametrize(
  "setting, workdir, message",
  [
    ("slice=v5litepod-5", "/s", "slice=v5litepod-5, expected one of v5litepod"),
    ("slice=h100-4", "/s", "slice=h100-4, expected one of"),
    ("name=My Sweep", "/s", "name=My Sweep, expected at most 21 small"),
    ("name=mine", "runs/s", "--workdir: 'runs/s', expected an absolute path"),
  ],
)
def test_what_kubernetes_would_not_take(setting, workdir, message):
  with pytest.raises(ValueError, match=message):
    sweep.run(flags(workdir, launcher="print", render="jobset", set=[setting]))


def test_tpu_vms_each_take_a_share_in_turn(tmp_path, capsys):
  text, queue = render(tmp_path, capsys, "gcloud", "pods=a,b", "zone=z")
  subprocess.run(["bash", "-n"], input=text, text=True, check=True)
  fake = tmp_path / "gcloud"  # prints its arguments, as JSON, into a file
  fake.write_text(
    f"#!{sys.executable}\nimport json, os, sys\n"
    "with open(os.environ['CALLS'], 'a') as f:\n"
    "  f.write(json.dumps(sys.argv[1:]) + '\\n')\n"
  )
  fake.chmod(0o755)
  env = os.environ | {"PATH": f"{tmp_path}:/bin", "CALLS": f"{tmp_path}/calls"}
  subprocess.run(["bash"], input=text, text=True, check=True, env=env)
  calls = [json.loads(c) for c in (tmp_path / "calls").read_text().splitlines()]
  assert len(calls) == 4 and [c[4] for c in calls].count("a") == 2
  for index, job in enumerate(queue):
    (call,) = [c for c in calls if job.folder in c[-1]]
    assert call[:4] == ["compute", "tpus", "tpu-vm", "ssh"]
    assert call[4:7] == ["ab"[index % 2], "--zone=z", "--worker=all"]
    assert call[7] == (
      "--command=cd weightspace && WEIGHTSPACE_COORDINATOR=auto"
      f" {printed.shell(job)}"
    )


def test_xmanagers_launch_file_is_python(tmp_path, capsys):
  text, queue = render(tmp_path, capsys, "xmanager")
  names = {}
  body = text.replace("from xmanager import xm, xm_local", "")
  exec(compile(body, "launch.py", "exec"), names)
  assert names["UNITS"] == [job.argv[1:] for job in queue]
  assert names["WORKERS"] == 2 and callable(names["main"])


def test_only_what_is_left_is_printed(tmp_path, capsys):
  text, queue = render(tmp_path, capsys, "shell")
  assert text.splitlines() == [printed.shell(job) for job in queue]
  jobs.execute(queue[1])
  assert sweep.run(flags(tmp_path / "s", launcher="print")) == 0
  again = capsys.readouterr().out.splitlines()
  assert again == [printed.shell(queue[i]) for i in (0, 2, 3)]
