"""A unit in steps that can be killed at any of them: NumPy, and no jax.

It keeps its folder as real runs do, by `runs.write` and `runs.append`.  Two of
it at once in one folder leave a file `clash`.
"""

import fcntl
import os
import pathlib
import resource
import signal
import sys
import time

import numpy as np

from experiments.run import runs
from tests.sweeps import quick

STEPS = 8


def main(argv: list[str]) -> None:
  flags = quick.read(argv)
  at = pathlib.Path(flags["workdir"], "steps", "run")
  at.mkdir(parents=True, exist_ok=True)
  alone = open(at / "alone", "ab")
  try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    (at / "clash").touch()
    raise SystemExit("two of this unit at once") from None
  kind = flags.get("config.kind", "well")
  if kind == "bad":
    raise ValueError("config.kind: 'bad', expected well")
  work(at, int(flags["config.seed"]), kind, float(flags["config.seconds"]))


def work(at: pathlib.Path, seed: int, kind: str, seconds: float) -> None:
  """Take the steps that are left, and write the result."""
  kept = at / "checkpoint.json"
  state = runs.load(kept) if kept.exists() else {"step": 0, "x": [seed] * 99}
  logged = {line["step"] for line in runs.read_lines(at / "metrics.jsonl")}
  x = np.array(state["x"], float)
  for step in range(state["step"], STEPS):
    x = np.cos(x + np.arange(x.size) / 7)
    loss = float("nan") if kind == "nan" else float(x.sum())
    if not np.isfinite(loss):
      raise FloatingPointError(f"loss is {loss} at step {step}")
    if step not in logged:
      runs.append(at / "metrics.jsonl", f'{{"step": {step}, "loss": {loss}}}\n')
    die(at, kind, "checkpoint" if step == STEPS // 2 else "")
    runs.write(kept, runs.dump({"step": step + 1, "x": x.tolist()}))
    time.sleep(seconds / STEPS)
  die(at, kind, "result")
  runs.write(at / "result.json", runs.dump({"x": x.tolist()}))
  runs.append(at / "completed.txt", f"{os.getpid()}\n")


def die(at: pathlib.Path, kind: str, moment: str) -> None:
  """Let the next write be killed in its middle, once: by the file's size."""
  died = at / "died"
  if kind == moment and not died.exists():
    died.touch()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))


if __name__ == "__main__":
  main(sys.argv[1:])
