"""What a run cost: compilation, training steps, memory; and traces of it.

Times come from `jax.monitoring`: JAX tells of each compilation, and training
(`weightspace.train`) of each epoch.  All of it is of this process: a resumed
run reports what was done since.  `--profile` writes a trace of all stages, or
of some (`--profile=2:4` of the third and fourth that are computed), into the
run folder, for TensorBoard's profiler or Perfetto.

>>> chosen("all"), chosen("2:4"), chosen("")
(range(0, 1000000), range(2, 4), range(0, 0))
"""

import contextlib
import re
import resource
import sys
from collections.abc import Iterator
from typing import Any

from experiments.run import runs

ALL = 10**6
COMPILING = (
  "/jax/core/compile/jaxpr_to_mlir_module_duration",
  "/jax/core/compile/backend_compile_duration",
)


class Meter:
  """Counts of one process, and which of its stages are traced."""

  def __init__(self, profile: str = ""):
    self.stages = chosen(profile)
    self.stage = 0
    self.compiled = self.trained = 0.0
    self.steps = self.operations = 0

  def listen(self) -> None:
    """Count what JAX and training tell of from now on."""
    import jax

    jax.monitoring.register_event_duration_secs_listener(self._hear)

  def _hear(self, event: str, duration_secs: float, **more: Any) -> None:
    if event in COMPILING:
      self.compiled += duration_secs
    # The first epoch of a program has its compilation in it.
    if event == "/weightspace/train/epoch" and more["epoch"]:
      self.trained += duration_secs
      self.steps += more["steps"]
      self.operations += more["operations"]

  @contextlib.contextmanager
  def traced(self, folder: runs.Folder) -> Iterator[None]:
    """Trace a stage that is computed, where it was asked for."""
    at, self.stage = self.stage, self.stage + 1
    if at not in self.stages:
      yield
      return
    import jax

    with jax.profiler.trace(str(folder / "profile" / f"stage{at}")):
      yield

  def report(self) -> dict[str, Any]:
    """Return the costs by name; steps only where there was training."""
    import jax

    found = {"compile seconds": round(self.compiled, 2)}
    if self.steps:
      from weightspace.jaxpr import flops

      device = jax.local_devices()[0]
      # Simulated devices share the cores that the one is measured on.
      count = 1 if device.platform == "cpu" else jax.device_count()
      floor = self.operations / (count * flops.rate(device))
      found["step ms"] = round(1000 * self.trained / self.steps, 3)
      found["share of arithmetic floor"] = round(floor / self.trained, 3)
    found["peak host MiB"] = round(_peak())
    used = (jax.local_devices()[0].memory_stats() or {}).get(
      "peak_bytes_in_use"
    )
    return found | ({"peak device MiB": round(used / 2**20)} if used else {})


def _peak() -> float:
  """Return the most memory that this process had, in MiB."""
  try:  # what getrusage says on Linux may be the parent's
    with open("/proc/self/status") as status:
      lines = dict(line.split(":", 1) for line in status)
    return int(lines["VmHWM"].split()[0]) / 2**10
  except (OSError, KeyError):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def chosen(text: str) -> range:
  """Return the stages that --profile names.

  Raises:
    ValueError: for text of another form.
  """
  if text in ("", "all"):
    return range(ALL if text else 0)
  found = re.fullmatch(r"(\d+):(\d+)", text)
  if not found or int(found[1]) >= int(found[2]):
    raise ValueError(f"--profile: {text!r}, expected all, or stages as in 2:4")
  return range(int(found[1]), int(found[2]))
