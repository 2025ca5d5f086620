"""A unit on several hosts: every process counts the others, step by step."""

import os
import pathlib
import sys
import time

from experiments.run import runs
from tests.sweeps import quick

STEPS = 4


def main(argv: list[str]) -> None:
  import jax

  flags = quick.read(argv)
  jax.distributed.initialize(
    os.environ["WEIGHTSPACE_COORDINATOR"],
    int(os.environ["WEIGHTSPACE_PROCESSES"]),
    int(os.environ["WEIGHTSPACE_PROCESS"]),
    initialization_timeout=60,
  )
  from jax.experimental import multihost_utils

  process, seed = jax.process_index(), int(flags["config.seed"])
  at = pathlib.Path(flags["workdir"], "gang", "run")
  at.mkdir(parents=True, exist_ok=True)
  found = jax.numpy.float32(seed)
  for _ in range(STEPS):
    mine = jax.numpy.sin(found + process)
    found = multihost_utils.process_allgather(mine).sum()
    time.sleep(float(flags["config.seconds"]) / STEPS)
  if process == 0:
    runs.write(at / "result.json", runs.dump({"found": float(found)}))
    runs.append(at / "completed.txt", f"{os.getpid()}\n")


if __name__ == "__main__":
  main(sys.argv[1:])
