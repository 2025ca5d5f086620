"""A real run in miniature: a checkpoint by Orbax, a line, a page, a result.

DIES=NAME in the environment kills it once, half-way through a file so named.
"""

import os
import pathlib
import signal

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  import jax

  kept = run.once(
    "weights", lambda: {"w": jax.random.normal(run.key, (1, 9_999_999))}
  )
  total = float(kept["w"].sum())
  run.log(part="sum", total=total)
  if os.environ.get("DIES"):
    die(os.environ["DIES"], run.folder / "died")
  run.finish("it sums", f"{total}", {"sum": {"value": total}}, None)


def die(name: str, died: pathlib.Path) -> None:
  """Let this process be killed when it has written such a file aside."""
  sync = os.fsync

  def fsync(file: int) -> None:
    at = os.readlink(f"/proc/self/fd/{file}")
    if name in os.path.basename(at) and not died.exists():
      died.touch()
      os.kill(os.getpid(), signal.SIGKILL)
    sync(file)

  os.fsync = fsync


if __name__ == "__main__":
  app.run(main)
