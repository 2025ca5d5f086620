"""What `weightspace-merge` does with a configuration: plan, search, merge.

>>> _refuse(argparse.Namespace(report=True), ["report"], "--mesh")
Traceback (most recent call last):
ValueError: --report: not with --mesh
"""

import argparse
import concurrent.futures
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import absl.logging
import jax
import yaml

from weightspace.checkpoints import places, shards
from weightspace.cli import building, card, estimates, finished, low_rank
from weightspace.cli.config import schema
from weightspace.merge.files import meshes, streaming, work_items


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
  if not options.mesh:
    places.local(options.output, "files of safetensors")
  made_from = finished.digest(found, text, options)
  if finished.is_done(options.output, made_from) and not options.dry_run:
    print(f"done: {os.path.abspath(options.output)} is this merge already")
    return 0
  record = finished.record(made_from)
  if low_rank.asked(found):
    return _low_rank(found, text, command, options, record)
  key, done = jax.random.key(options.seed), lambda: None
  if isinstance(found, Mapping) and "search" in found:
    found, text, done = _searched(found, options, key)
  config = schema.parse(found)
  job = building.build(config, not options.no_copy_tokenizer)
  job = job._replace(files={**job.files, **record})
  for note in job.notes:
    print(f"note: {note}", file=sys.stderr)
  if options.mesh and not options.dry_run:
    _on_mesh(job, text, command, options, key)
  else:
    memory = options.max_memory
    plan = work_items.plan(
      job.parts, max_memory=memory, key=key, dtype=job.dtype
    )
    if options.dry_run:
      if not os.path.lexists(options.output):
        shards.lay_out(options.output, plan.kinds, options.shard_size)
      print(estimates.text(plan, job))
      return 0
    _stream(job, plan.read, text, command, options, key)
  done()
  print(f"wrote {os.path.abspath(options.output)}")
  return 0


def _stream(
  job: building.Job,
  size: int,
  text: str,
  command: str,
  options: argparse.Namespace,
  key: jax.Array,
) -> None:
  """Merge leaf by leaf; `size` is how many bytes will be read."""
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    parents = pool.submit(card.hashes, estimates.parents(job))
    extra: dict[str, Any] = dict(job.files)
    extra["README.md"] = lambda: card.card(parents.result(), text, command)
    if options.report:
      extra |= estimates.report_files(job.parts, key)
    with estimates.progress(size, options.quiet) as advance:
      streaming.stream_parts(
        job.parts,
        options.output,
        max_memory=options.max_memory,
        key=key,
        dtype=job.dtype,
        shard_bytes=options.shard_size,
        extra=extra,
        about=estimates.about(job, text),
        progress=advance,
      )


def _searched(
  found: Mapping[str, Any], options: argparse.Namespace, key: Any
) -> tuple[Mapping[str, Any], str, Callable[[], None]]:
  """Return the configuration that was found, its text, and what ends it."""
  from weightspace.cli.search import searching

  if jax.process_count() > 1:
    raise ValueError("search: several processes, expected one")
  outcome = searching.settled(found, options.output, key, options.dry_run)
  print(outcome.said)
  text = f"# {outcome.said}\n{yaml.safe_dump(outcome.config)}"
  return outcome.config, text, lambda: searching.forget(outcome)


def _low_rank(
  found: Mapping[str, Any],
  text: str,
  command: str,
  options: argparse.Namespace,
  record: Mapping[str, str],
) -> int:
  """Keep adapters as adapters; return the exit code."""
  apart = ("mesh", "distributed", "report", "dry_run")
  _refuse(options, apart, f"recipe: {found['recipe']}")

  def made() -> str:
    return card.card(card.hashes(low_rank.parents(found)), text, command)

  low_rank.execute(found, options.output, {**record, "README.md": made})
  print(f"wrote {os.path.abspath(options.output)}")
  return 0


def _on_mesh(
  job: building.Job,
  text: str,
  command: str,
  options: argparse.Namespace,
  key: jax.Array,
) -> None:
  """Merge on all devices; the output is an Orbax folder, files beside it."""
  _refuse(options, ("report", "max_memory"), "--mesh")
  auto = (jax.sharding.AxisType.Auto,) * len(options.mesh)
  names, counts = tuple(options.mesh), tuple(options.mesh.values())
  mesh = jax.make_mesh(counts, names, axis_types=auto)
  absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax logs every step
  meshes.parts_on_mesh(
    job.parts, options.output, mesh=mesh, key=key, dtype=job.dtype
  )
  if jax.process_index() == 0:
    made = card.card(card.hashes(estimates.parents(job)), text, command)
    for name, one in (dict(job.files) | {"README.md": made}).items():
      path = places.place(options.output) / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(one if isinstance(one, bytes) else one.encode())


def _refuse(
  options: argparse.Namespace, names: Sequence[str], beside: str
) -> None:
  """Refuse options that would have no effect."""
  for name in names:
    if getattr(options, name):
      raise ValueError(f"--{name.replace('_', '-')}: not with {beside}")
