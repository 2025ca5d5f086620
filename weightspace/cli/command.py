"""`weightspace-merge CONFIG.yml OUT_DIR`: a merge from a configuration file.

>>> size("4GB"), size("1.5 MiB"), size("200kB")
(4000000000, 1572864, 200000)
"""

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from weightspace.hosts import startup

UNITS = ("", "K", "M", "G", "T")
FAILED, INTERRUPTED = 1, 130  # exit codes
SHARD = 5 * 10**9  # bytes


def main(argv: Sequence[str] | None = None) -> int:
  """Run the command; return its exit code.

  Args:
    argv: the arguments; those of the process by default.
  """
  given = list(sys.argv[1:] if argv is None else argv)
  options = parser().parse_args(given)

  def configuration() -> tuple[Mapping[str, Any], str]:
    with open(options.config, encoding="utf-8") as stream:
      text = stream.read()
    return load(text, options.config), text

  command = shlex.join(["weightspace-merge", *given])
  return guarded(configuration, command, options)


def guarded(
  configuration: Callable[[], tuple[Mapping[str, Any], str]],
  command: str,
  options: argparse.Namespace,
) -> int:
  """Merge so that every end is one clear line; return the exit code.

  Args:
    configuration: returns what `load` does, and the text of it.
    command: for the model card.
    options: those of `parser`.
  """
  try:
    found, text = configuration()
    startup.start(options.distributed)
    from weightspace.cli import running  # after JAX is told where to compile

    return running.execute(found, text, command, options)
  except KeyboardInterrupt:
    print("\nstopped; the same command goes on", file=sys.stderr)
    return INTERRUPTED
  except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return FAILED


def parser() -> argparse.ArgumentParser:
  """Return the parser of the command's arguments."""
  made = argparse.ArgumentParser(
    prog="weightspace-merge",
    description="Merge checkpoints by a configuration file, leaf by leaf.",
  )
  made.add_argument("config", help="a YAML file, as mergekit reads it")
  made.add_argument("output", help="a new folder for the merged model")
  yes: dict[str, Any] = {"action": "store_true"}
  made.add_argument("--dry-run", help="print the plan, merge nothing", **yes)
  made.add_argument(
    "--report", help="write what the merge did to each leaf", **yes
  )
  made.add_argument(
    "--max-memory", type=size, help="bytes to stay below, such as 4GB"
  )
  made.add_argument(
    "--seed", "--random-seed", type=int, default=0, help="of random masks"
  )
  made.add_argument(
    "--shard-size",
    "--out-shard-size",
    type=size,
    default=SHARD,
    help="largest shard, such as 5GB",
  )
  made.add_argument(
    "--no-copy-tokenizer", help="leave out the tokenizer's files", **yes
  )
  made.add_argument("--quiet", help="no progress bar", **yes)
  made.add_argument(
    "--mesh", type=axes, help="merge on all devices: axes such as data=8"
  )
  made.add_argument(
    "--distributed", help="join the other hosts of a pod first", **yes
  )
  return made


def size(text: str) -> int:
  """Return a number of bytes from text such as 4GB, 512MiB, 5B or 1000.

  Raises:
    argparse.ArgumentTypeError: for text of another form.
  """
  found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([kKMGT]?)(i?)B?\s*", text)
  if not found or (found[3] and not found[2]):
    raise argparse.ArgumentTypeError(f"{text!r}, expected a size such as 4GB")
  thousand = 2**10 if found[3] else 10**3
  return int(float(found[1]) * thousand ** UNITS.index(found[2].upper()))


def axes(text: str) -> dict[str, int]:
  """Return the axes of a mesh by name.

  Raises:
    argparse.ArgumentTypeError: for text of another form.

  >>> axes("model=2,data=4")
  {'model': 2, 'data': 4}
  """
  found = re.findall(r"(\w+)=(\d+)", text)
  if ",".join(f"{name}={count}" for name, count in found) != text:
    raise argparse.ArgumentTypeError(f"{text!r}, expected axes such as data=8")
  return {name: int(count) for name, count in found}


def load(text: str, where: str) -> Mapping[str, Any]:
  """Return what YAML says.

  Raises:
    ValueError: naming the file and line of what is no YAML.
  """
  import yaml

  try:
    return yaml.safe_load(text)
  except yaml.YAMLError as error:
    reason = " ".join(str(error).split())
    raise ValueError(f"{where!r} is no YAML: {reason}") from None


def console() -> None:
  """Be the installed command."""
  sys.exit(main())
