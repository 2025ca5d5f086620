"""The print launcher: exact commands and manifests; nothing is started.

`--render` chooses: the units' own commands ("shell"), TPU VMs that each take
units one after another ("gcloud"), a JobSet for each unit under Kueue on GKE
("jobset"), or a launch file for XManager ("xmanager").

>>> shell(Job("a", ["/usr/bin/python", "-m", "m", "--x=(1, 2)"], "d"))
"python -m m '--x=(1, 2)'"
"""

import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.sweeping import jobs
from experiments.sweeping.jobs import Job
from experiments.sweeping.launchers import Options, Tell

STARTS = False  # no unit: what is printed is all
SETTINGS = {
  "pods": "pod",  # gcloud: names of TPU VMs, by commas
  "zone": "us-west4-a",
  "folder": "weightspace",  # of the checkout on them
  "slice": "v5litepod-16",  # jobset: which kind of slice a unit takes
  "image": "weightspace",  # with the checkout as its working directory
  "queue": "multislice-queue",  # Kueue's local queue
  "claim": "weightspace-runs",  # the volume that is mounted over --workdir
  "name": "sweep",
}
ACCELERATORS = {"v5litepod": "tpu-v5-lite-podslice", "v6e": "tpu-v6e-slice"}
TOPOLOGIES = {4: "2x2", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16"}
TOPOLOGIES |= {256: "16x16"}  # of so many chips, four to a host
CHIPS = 4
PORT = 8476  # of process 0, within the pod's own network
INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def launch(queue: Sequence[Job], options: Options, tell: Tell) -> None:
  """Print what would run each job."""
  kinds = {
    "shell": lambda: "\n".join(map(shell, queue)),
    "gcloud": lambda: gcloud(queue, options.settings),
    "jobset": lambda: jobsets(queue, options),
    "xmanager": lambda: xmanager(queue, options),
  }
  if options.render not in kinds:
    known = ", ".join(kinds)
    raise ValueError(f"--render: {options.render!r}, expected one of {known}")
  print(kinds[options.render]())


def shell(job: Job) -> str:
  """Return a unit's command as a line for a shell."""
  return shlex.join(["python", *job.argv[1:]])


def gcloud(queue: Sequence[Job], settings: Mapping[str, str]) -> str:
  """Return a script: each TPU VM takes its share, a unit at a time.

  All workers of a VM run a unit's command together, and find one another as
  JAX does on a TPU VM.
  """
  pods = [pod for pod in settings["pods"].split(",") if pod]
  if not pods:
    raise ValueError("--set=pods: names none, expected TPU VMs by commas")
  lines = ["#!/usr/bin/env bash"]
  for index, pod in enumerate(pods):
    lines += [
      "(",
      *(_ssh(job, pod, settings) for job in queue[index :: len(pods)]),
    ]
    lines += [":", ") &"]
  return "\n".join([*lines, "wait"])


def _ssh(job: Job, pod: str, settings: Mapping[str, str]) -> str:
  folder = shlex.quote(settings["folder"])
  inner = f"cd {folder} && WEIGHTSPACE_COORDINATOR=auto {shell(job)}"
  start = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", pod]
  where = [f"--zone={settings['zone']}", "--worker=all"]
  return shlex.join([*start, *where, f"--command={inner}"])


def jobsets(queue: Sequence[Job], options: Options) -> str:
  """Return the JobSets of all units, as YAML.

  Raises:
    ValueError: for a slice that is not known, a name that Kubernetes would not
      take, or a --workdir on no volume.
  """
  import yaml

  kind, _, chips = options.settings["slice"].partition("-")
  sizes = {str(chips): topology for chips, topology in TOPOLOGIES.items()}
  if kind not in ACCELERATORS or chips not in sizes:
    raise ValueError(
      f"--set=slice={options.settings['slice']}, expected one of"
      f" {', '.join(ACCELERATORS)}, a hyphen, and one of {', '.join(sizes)}"
    )
  name = options.settings["name"]
  if not re.fullmatch("[a-z][a-z0-9-]{0,20}", name):
    raise ValueError(
      f"--set=name={name}, expected at most 21 small letters, digits, hyphens"
    )
  for job in queue:
    if not pathlib.PurePosixPath(job.folder).is_absolute():
      raise ValueError(
        f"--workdir: {str(pathlib.PurePosixPath(job.folder).parent)!r},"
        " expected an absolute path, over which the claim is mounted"
      )
  selector = {
    "cloud.google.com/gke-tpu-accelerator": ACCELERATORS[kind],
    "cloud.google.com/gke-tpu-topology": sizes[chips],
  }
  hosts = int(chips) // CHIPS
  manifests = [jobset(job, options, selector, hosts) for job in queue]
  return yaml.safe_dump_all(manifests, sort_keys=False).strip()


def jobset(
  job: Job, options: Options, selector: Mapping[str, str], hosts: int
) -> dict[str, Any]:
  """Return the JobSet of one unit: an indexed Job with a pod for each host."""
  settings = options.settings
  name = f"{settings['name']}-{job.id}"
  pod = {
    "restartPolicy": "Never",
    "nodeSelector": dict(selector),
    "containers": [_container(job, settings["image"], name, hosts)],
    "volumes": [
      {
        "name": "runs",
        "persistentVolumeClaim": {"claimName": settings["claim"]},
      }
    ],
  }
  work = {
    "parallelism": hosts,
    "completions": hosts,
    "completionMode": "Indexed",
    "backoffLimit": 0,  # one host lost is the whole gang lost
    "template": {"spec": pod},
  }
  topology = "alpha.jobset.sigs.k8s.io/exclusive-topology"
  return {
    "apiVersion": "jobset.x-k8s.io/v1alpha2",
    "kind": "JobSet",
    "metadata": {
      "name": name,
      "labels": {"kueue.x-k8s.io/queue-name": settings["queue"]},
      "annotations": {topology: "cloud.google.com/gke-nodepool"},
    },
    "spec": {
      "failurePolicy": {"maxRestarts": options.retries},
      "replicatedJobs": [
        {"name": "slice", "replicas": 1, "template": {"spec": work}}
      ],
    },
  }


def _container(job: Job, image: str, name: str, hosts: int) -> dict[str, Any]:
  """Return the container of a host, told which process of the unit it is."""
  told: list[dict[str, Any]] = []
  if hosts > 1:
    names = jobs.gang(f"{name}-slice-0-0.{name}:{PORT}", hosts, 0)
    which = {"valueFrom": {"fieldRef": {"fieldPath": INDEX}}}
    told = [{"name": key, "value": value} for key, value in names.items()]
    told[-1] = {"name": told[-1]["name"], **which}
  return {
    "name": "unit",
    "image": image,
    "command": ["python", *job.argv[1:]],
    "env": told,
    "ports": [{"containerPort": PORT}],
    "resources": {"limits": {"google.com/tpu": CHIPS}},
    "volumeMounts": [
      {
        "name": "runs",
        "mountPath": str(pathlib.PurePosixPath(job.folder).parent),
      }
    ],
  }


def xmanager(queue: Sequence[Job], options: Options) -> str:
  """Return a launch file for XManager, with --workers units at a time."""
  rows = "\n".join(f"  {job.argv[1:]!r}," for job in queue)
  python = queue[0].argv[0] if queue else "python"
  return f'''"""Run from the checkout by: xmanager launch FILE."""

from xmanager import xm, xm_local

PYTHON = {python!r}
WORKERS = {options.workers}
UNITS = [
{rows}
]


def main(_):
  # XManager starts all jobs of an experiment at once, and waits at its end.
  for first in range(0, len(UNITS), WORKERS):
    title = f"{options.settings["name"]}-{{first}}"
    with xm_local.create_experiment(experiment_title=title) as experiment:
      spec = xm_local.Local.Spec()
      [binary] = experiment.package([xm.binary(spec, PYTHON)])
      for unit in UNITS[first : first + WORKERS]:
        experiment.add(xm.Job(binary, executor=xm_local.Local(), args=unit))'''
