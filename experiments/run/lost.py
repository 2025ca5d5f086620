"""A host that is lost: the others end with one line, and may be started again.

JAX ends a process whose peers are gone in two ways: a collective raises, or a
thread of its own aborts the process with its stack.  The second leaves no
Python to say anything, so a run on several hosts is watched by the process that
was started: it starts the same command once more, hands its words on, and has
the last one.

>>> reason("Task 1 heartbeat timeout. This indicates that the task has failed")
'lost host 1'
"""

import os
import re
import signal
import subprocess
import sys
import traceback
from typing import IO

from experiments.run import binding

LOST = 75  # exit code: a failure that passes, EX_TEMPFAIL of sysexits.h
WATCHED = "WEIGHTSPACE_WATCHED"
TOLD = "WEIGHTSPACE_COORDINATOR"  # as hosts.startup, which imports jax
# What XLA's coordination service and Gloo say, with the host where it is known.
LEADER = "Failed to send RPC to coordination service"
NAMED = (
  re.compile(r"[Tt]ask (\d+) heartbeat timeout"),
  re.compile(r"stopped sending heartbeats\):\s*(?:\S*task:)?(\d+)"),
)
PEER = re.compile(r"(?:closed|reset) by peer \[([^\]]+)\]")
UNNAMED = re.compile(r"Gloo [\w-]+ failed|detected fatal errors")
# Where JAX's own end begins: what is printed from there on is not for people.
MARK = "weightspace: "  # what `check` found is behind it
FOUND = re.compile(rf"^{MARK}(lost .*)$", re.MULTILINE)
ENDING = re.compile(
  rf"{MARK}lost|coordination.service|JAX distributed service detected"
  r"|Fatal Python error|Check failure stack trace"
)


def reason(text: str) -> str | None:
  """Return which host was lost, from what JAX says; None for another error.

  >>> reason("Gloo AllGather failed: Connection closed by peer [10.0.0.7]:88")
  'lost another host (10.0.0.7)'
  """
  for pattern in NAMED:
    if found := pattern.search(text):
      return f"lost host {found[1]}"
  if found := FOUND.search(text):
    return found[1]
  if LEADER in text:
    return "lost host 0"
  if found := PEER.search(text):
    return f"lost another host ({found[1]})"
  return "lost another host" if UNNAMED.search(text) else None


def line(why: str, where: str) -> str:
  """Return the line that a run ends with."""
  return f"error: {why}; the same command goes on in {where}"


def check(error: Exception, where: str, show: bool) -> None:
  """End this process where its error is that another host was lost.

  At once: JAX's own way out waits for that host.

  Args:
    error: as a collective raises it.
    where: the run folder.
    show: print where the error came from.
  """
  why = reason(str(error))
  if not why:
    return
  import jax

  if not jax.distributed.is_initialized():
    return
  if jax.process_count() == 2:
    why = f"lost host {1 - jax.process_index()}"
  if show:
    traceback.print_exception(error)
  watched = bool(os.environ.get(WATCHED))
  said = f"{MARK}{why}" if watched else line(why, where)
  print(said, file=sys.stderr, flush=True)
  sys.stdout.flush()
  os._exit(LOST)


def watch(where: str, distributed: bool) -> None:
  """Return in the process that is to work; where hosts are alone, at once.

  Where there are several, this process stays behind: it starts the command
  again and ends as that does, with a line instead of JAX's stack.

  Args:
    where: the run folder, for the line.
    distributed: whether the command line says that there are other hosts.
  """
  several = distributed or os.environ.get(TOLD)
  if not several or os.environ.get(WATCHED):
    return
  process = subprocess.Popen(
    binding.bind([sys.executable, *sys.orig_argv[1:]]),
    env=os.environ | {WATCHED: "1"},
    stderr=subprocess.PIPE,
    text=True,
    errors="replace",
  )
  signal.signal(signal.SIGTERM, lambda *_: process.terminate())
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # it has its own from Ctrl-C
  assert process.stderr
  kept = _relay(process.stderr, sys.stderr)
  _end(process.wait(), kept, where)


def _relay(words: IO[str], out: IO[str]) -> str:
  """Hand lines on until JAX's own end begins; return what follows."""
  kept = ""
  for text in words:
    if kept or ENDING.search(text):
      kept += text
    else:
      out.write(text)
      out.flush()
  return kept


def _end(code: int, kept: str, where: str) -> None:
  """End as the watched process did, or with the line of a lost host."""
  why = reason(kept) if code else None
  sys.stderr.write(f"{line(why, where)}\n" if why else kept)
  sys.stderr.flush()
  sys.stdout.flush()
  if code < 0 and not why:
    if -code != signal.SIGKILL:
      signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
  os._exit(LOST if why else code)
