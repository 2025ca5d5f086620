"""The Ray launcher: a unit is a gang of actors, one on each host of a slice.

`RAY_ADDRESS` names the cluster; without it Ray starts one here.  The gang is
placed whole or not at all, with `--chips` accelerators of each of `--hosts`
hosts; on TPU pods, which Ray labels, all of them belong to one slice.  Each
actor starts the unit's process on its host and dies with it; together they are
told by WEIGHTSPACE_COORDINATOR, WEIGHTSPACE_PROCESSES and WEIGHTSPACE_PROCESS
how to find one another.  A lost host fails the attempt, and the unit is tried
again on those that are left, or that come back.
"""

import collections
import contextlib
import functools
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.sweeping import jobs
from experiments.sweeping.jobs import Job, Outcome
from experiments.sweeping.launchers import Options, Tell, turns

SETTINGS = {
  "resource": "TPU",  # what Ray calls the chips; "GPU" on such machines
  "wait": "600",  # seconds to wait for hosts to come back
}
SLICE = "ray.io/tpu-slice-name"  # the label of the hosts of one slice
LOOK = 2.0  # seconds between looks at the cluster
GRACE = 5.0  # seconds for process 0 to say why, when another has failed


class Cluster(NamedTuple):
  """What the units of a sweep share."""

  options: Options
  tell: Tell
  used: collections.Counter[str]  # gangs of each slice
  lock: threading.Lock


class Host:
  """The actor of one host: it runs one process of one unit."""

  def __init__(self, folder: str):
    os.chdir(folder)  # the unit's paths are the launcher's

  def address(self) -> str:
    """Return a free port of this host."""
    import ray

    with socket.socket() as at:
      at.bind(("", 0))
      return f"{ray.util.get_node_ip_address()}:{at.getsockname()[1]}"

  def run(
    self, job: Job, process: int, environment: Mapping[str, str]
  ) -> Outcome:
    """Run a process of a unit to its end."""
    if process:
      return jobs.follow(job, environment, process)
    return jobs.execute(job, environment, bound=True)


def launch(queue: Sequence[Job], options: Options, tell: Tell) -> None:
  """Run jobs on a Ray cluster; tell how each stands."""
  import ray

  if not queue:
    return
  wait = options.settings["wait"]
  if not wait.isdecimal() or not int(wait):
    raise ValueError(f"--set=wait={wait}, expected a whole number of seconds")
  os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
  mine = not ray.is_initialized()
  if mine:
    ray.init(
      logging_level="ERROR", log_to_driver=False, include_dashboard=False
    )
  try:
    cluster = Cluster(options, tell, collections.Counter(), threading.Lock())
    if not _fitting(options):
      raise ValueError(f"--hosts: {_lack(options)}")
    slots = range(min(options.workers, len(queue)))
    run = functools.partial(_attempt, cluster)
    turns.take(queue, slots, run, options.retries, tell)
  finally:
    if mine:
      ray.shutdown()


def _attempt(cluster: Cluster, job: Job, slot: int) -> Outcome:
  """Run a unit on a gang of its own, whatever becomes of the hosts."""
  import ray

  began = time.monotonic()
  hosts: list[Any] = []
  try:
    with _place(cluster) as group:
      try:
        for index in range(cluster.options.hosts):
          hosts.append(_host(cluster.options, group, index))
        cluster.tell(Outcome(job.id, "running", 0.0))
        return _together(job, hosts, float(cluster.options.settings["wait"]))
      finally:
        for host in hosts:
          ray.kill(host)
  except (ray.exceptions.RayError, LookupError) as error:
    if jobs.is_done(job.folder):
      return Outcome(job.id, "done", time.monotonic() - began)
    said = f"lost its hosts: {jobs.tail(str(error))}"
    return Outcome(job.id, "failed", time.monotonic() - began, said)


def _fitting(options: Options) -> list[str]:
  """Return the slices, by label, with hosts enough for a gang; "" has none."""
  import ray

  found: collections.Counter[str] = collections.Counter()
  for node in ray.nodes():
    chips = node["Resources"].get(options.settings["resource"], 0)
    if node["Alive"] and chips >= options.chips:
      found[node["Labels"].get(SLICE, "")] += 1
  return [name for name, hosts in found.items() if hosts >= options.hosts]


def _lack(options: Options) -> str:
  chips = f"{options.chips} {options.settings['resource']}"
  return f"no {options.hosts} hosts with {chips} each in the Ray cluster"


@contextlib.contextmanager
def _place(cluster: Cluster) -> Iterator[Any]:
  """Yield a placement group on the least used slice, waiting for its turn.

  Raises:
    LookupError: when no slice is large enough for as long as `wait`.
  """
  import ray

  end = time.monotonic() + float(cluster.options.settings["wait"])
  while time.monotonic() < end:
    names = _fitting(cluster.options)
    if not names:
      time.sleep(LOOK)
      continue
    end = time.monotonic() + float(cluster.options.settings["wait"])
    with cluster.lock:
      name = min(names, key=lambda name: cluster.used[name])
      cluster.used[name] += 1
    group = _group(cluster.options, name)
    try:
      ready = group.ready()
      while name in _fitting(cluster.options):
        if ray.wait([ready], timeout=LOOK)[0]:
          yield group
          return
    finally:
      ray.util.remove_placement_group(group)
      cluster.used[name] -= 1
  raise LookupError(_lack(cluster.options))


def _group(options: Options, name: str) -> Any:
  """Return a gang's placement group on a slice, which may not be free yet."""
  import ray

  chips = {options.settings["resource"]: options.chips} if options.chips else {}
  return ray.util.placement_group(
    [{"CPU": 1} | chips] * options.hosts,
    strategy="STRICT_SPREAD",
    bundle_label_selector=[{SLICE: name}] * options.hosts if name else None,
  )


def _host(options: Options, group: Any, index: int) -> Any:
  """Start the actor of one host of a placed gang."""
  import ray
  from ray.util import scheduling_strategies

  gpu = options.settings["resource"] == "GPU"
  chips = {} if gpu else {options.settings["resource"]: options.chips}
  actor = ray.remote(Host).options(
    num_cpus=1,
    num_gpus=options.chips if gpu else 0,
    resources=chips if options.chips else {},
    scheduling_strategy=scheduling_strategies.PlacementGroupSchedulingStrategy(
      group, placement_group_bundle_index=index
    ),
  )
  return actor.remote(os.getcwd())


def _together(job: Job, hosts: Sequence[Any], wait: float) -> Outcome:
  """Run the processes of a unit; return what process 0, or a failed one, says.

  Whoever is left when this returns is killed with its actor.
  """
  import ray

  # A host may have been lost since: none starts before all are there.
  at = ray.get([host.address.remote() for host in hosts], timeout=wait)
  told: list[dict[str, str]] = [{}]
  if len(hosts) > 1:
    told = [jobs.gang(at[0], len(hosts), p) for p in range(len(hosts))]
  ends = [host.run.remote(job, p, told[p]) for p, host in enumerate(hosts)]
  left = list(ends)
  while True:
    [end], left = ray.wait(left)
    outcome = ray.get(end)
    if end == ends[0]:
      return outcome
    if outcome.state == "failed":
      first = ray.wait(ends[:1], timeout=GRACE)[0]
      said = f"process {ends.index(end)}: {outcome.said}"
      return ray.get(first[0]) if first else outcome._replace(said=said)
