"""Starting JAX: where compiled programs are kept, and the other hosts.

A program on several hosts is one process on each.  They find one another as
the machine has it (TPU pods, SLURM, Kubernetes), or by WEIGHTSPACE_COORDINATOR
(host:port of process 0, or `auto` for the former), WEIGHTSPACE_PROCESSES and
WEIGHTSPACE_PROCESS.

>>> told({"WEIGHTSPACE_COORDINATOR": "auto"}), told({})
(True, False)
"""

import os
from collections.abc import Mapping

COORDINATOR = "WEIGHTSPACE_COORDINATOR"
PROCESSES, PROCESS = "WEIGHTSPACE_PROCESSES", "WEIGHTSPACE_PROCESS"
AUTO = "auto"


def told(environment: Mapping[str, str] = os.environ) -> bool:
  """Tell whether the environment says that there are other hosts."""
  return bool(environment.get(COORDINATOR))


def start(distributed: bool = False) -> None:
  """Keep compiled programs between runs, the quick ones too; join the others.

  Args:
    distributed: whether to join other hosts even where the environment is
      silent about them.

  Raises:
    ValueError: for an environment that says half of it, or hosts that are not
      to be found.
  """
  import jax

  home = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = os.path.join(home, "weightspace", "xla")
    jax.config.update("jax_compilation_cache_dir", cache)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  if distributed or told():
    _join(os.environ.get(COORDINATOR, AUTO))


def _join(address: str) -> None:
  """Find the other processes; wait until all are there."""
  import jax

  if address == AUTO:
    try:
      jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
      reason = str(error).splitlines()[0]
      raise ValueError(
        f"--distributed: no other hosts are to be found: {reason}"
      ) from None
    return
  count, process = _number(PROCESSES, 1), _number(PROCESS, 0)
  if process >= count:
    raise ValueError(f"{PROCESS}: {process}, expected less than {count}")
  jax.distributed.initialize(address, count, process)


def _number(name: str, least: int) -> int:
  text = os.environ.get(name, "")
  if not text.isdecimal() or int(text) < least:
    raise ValueError(
      f"{name}: {text!r}, expected a number from {least}, as {COORDINATOR} is"
      " set"
    )
  return int(text)
