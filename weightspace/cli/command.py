"""`weightspace-merge CONFIG.yml OUT_DIR`: a merge from a configuration file.

>>> size("4GB"), size("1.5 MiB")
(4000000000, 1572864)
"""

import argparse
import concurrent.futures
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from weightspace import startup

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
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
    return execute(found, text, command, options)
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
  found = re.fullmatch(r"\s*([\d.]+)\s*([KMGT]i?)?B?\s*", text)
  if not found:
    raise argparse.ArgumentTypeError(f"{text!r}, expected a size such as 4GB")
  return int(float(found[1]) * (UNITS | BINARY)[found[2] or ""])


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


def execute(
  found: Mapping[str, Any],
  text: str,
  command: str,
  options: argparse.Namespace,
) -> int:
  """Plan a merge, and run it; return the exit code.

  Args:
    found: the configuration.
    text: of it, for the model card.
    command: for the model card.
    options: those of `parser`.

  Raises:
    ValueError: as `building.build` and `merge.stream_parts`.
  """
  startup.start(options.distributed)
  import jax

  from weightspace.cli import building, card, low_rank, plans, schema
  from weightspace.merge import streaming, tasks

  if low_rank.asked(found):
    return _low_rank(found, text, command, options)
  key, done = jax.random.key(options.seed), lambda: None
  if isinstance(found, Mapping) and "search" in found:
    found, text, done = _searched(found, options, key)
  config = schema.parse(found)
  job = building.build(config, not options.no_copy_tokenizer)
  for note in job.notes:
    print(f"note: {note}", file=sys.stderr)
  if options.mesh and not options.dry_run:
    _on_mesh(job.parts, options, key)
    done()
    return 0
  memory = options.max_memory
  plan = tasks.plan(job.parts, max_memory=memory, key=key, dtype=job.dtype)
  if options.dry_run:
    print(plans.text(plan, job))
    return 0
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    parents = pool.submit(card.hashes, plans.parents(job))
    extra: dict[str, Any] = dict(job.files)
    extra["README.md"] = lambda: card.card(parents.result(), text, command)
    if options.report:
      extra |= plans.report_files(job.parts, key)
    with plans.progress(plan.read, options.quiet) as advance:
      streaming.stream_parts(
        job.parts,
        options.output,
        max_memory=memory,
        key=key,
        dtype=job.dtype,
        shard_bytes=options.shard_size,
        extra=extra,
        about=plans.about(job, text),
        progress=advance,
      )
  done()
  print(f"wrote {os.path.abspath(options.output)}")
  return 0


def _searched(
  found: Mapping[str, Any], options: argparse.Namespace, key: Any
) -> tuple[Mapping[str, Any], str, Callable[[], None]]:
  """Return the configuration that was found, its text, and what ends it."""
  import yaml

  from weightspace.cli import searching

  if options.distributed:
    raise ValueError("search: expected one process, got --distributed")
  if os.path.lexists(options.output):
    raise ValueError(f"{options.output!r} exists, expected a new path")
  outcome = searching.settled(found, options.output, key, options.dry_run)
  print(outcome.said)
  text = f"# {outcome.said}\n{yaml.safe_dump(outcome.config)}"
  return outcome.config, text, lambda: searching.forget(outcome)


def _low_rank(
  found: Mapping[str, Any],
  text: str,
  command: str,
  options: argparse.Namespace,
) -> int:
  """Keep adapters as adapters; return the exit code."""
  from weightspace.cli import card, low_rank

  for name in ("mesh", "distributed", "report", "dry_run"):
    if getattr(options, name):
      flag = name.replace("_", "-")
      raise ValueError(f"--{flag}: not with recipe: {found['recipe']}")

  def made() -> str:
    return card.card(card.hashes(low_rank.parents(found)), text, command)

  low_rank.execute(found, options.output, made)
  print(f"wrote {os.path.abspath(options.output)}")
  return 0


def _on_mesh(parts: Sequence[Any], options: Any, key: Any) -> None:
  """Merge on all devices; the output is an Orbax folder."""
  import absl.logging
  import jax

  from weightspace.merge import meshes

  if len(parts) > 1:
    raise ValueError(
      f"--mesh: the leaves have {len(parts)} recipes, expected one (no filters)"
    )
  auto = (jax.sharding.AxisType.Auto,) * len(options.mesh)
  names, counts = tuple(options.mesh), tuple(options.mesh.values())
  mesh = jax.make_mesh(counts, names, axis_types=auto)
  recipe, inputs, base, _ = parts[0]
  absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax logs every step
  meshes.on_mesh(recipe, inputs, options.output, base, mesh=mesh, key=key)


def console() -> None:
  """Be the installed command."""
  sys.exit(main())
