"""Reproductions: run registered claims and write what was measured.

A claim is a config that names one (`experiments/run/discovery.py`).  Its result
becomes a line of the ledger REPRODUCTIONS.jsonl, of which the table is made; a
claim whose data are missing is skipped with the reason, and keeps its row.

python -m experiments.reproduce [--only=NAME,...] [--data_dir=DIR]
python -m experiments.reproduce --check [--only=NAME,...] [--seed=8000]
python -m experiments.reproduce --page
"""

import os
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

import absl.app
from absl import flags

from experiments.reproduction import gallery, ledger, table
from experiments.run import app, discovery, endings, registration, runs
from experiments.run.discovery import Claim

CLAIMS = {claim.name: claim for claim in discovery.claims()}


class Setting(NamedTuple):
  """How claims are run, from the command line."""

  workdir: str
  data_dir: str | None
  mode: str  # "paper", or "tiny", which proves nothing
  size: str  # "ours", or "paper": what the paper ran
  seed: int


def main(argv: list[str]) -> None:
  """Do what the flags say, and end with an exit code."""
  values = flags.FLAGS
  only = values.only or list(CLAIMS)
  unknown = [name for name in only if name not in CLAIMS]
  if unknown or len(argv) > 1:
    wrong = unknown[0] if unknown else argv[1]
    print(f"error: {wrong!r}, expected --only of {', '.join(CLAIMS)}")
    sys.exit(endings.USAGE)
  out = pathlib.Path(values.out)
  seed = registration.TABLE if values.seed is None else values.seed
  setting = Setting(
    values.workdir, values.data_dir, values.mode, values.size, seed
  )
  if values.page:
    page = out.with_suffix(".html")
    runs.write(page, gallery.page(ledger.read(out), values.workdir))
    print(f"page: {page}")
    sys.exit(0)
  if values.check:
    sys.exit(check(only, setting, out, values.seed is None))
  sys.exit(measure(only, setting, out, values.second_registration))


def measure(
  only: list[str], setting: Setting, out: pathlib.Path, second: bool
) -> int:
  """Run claims and write the table after each; return 1 if one failed.

  What may not be written, the harness refuses before the claim is run where
  that can be known, and names the reason.
  """
  failed = False
  for name in only:
    claim = CLAIMS[name]
    reason = _refused(claim, setting, out, second)
    if reason is None:
      result = run(claim, setting, second)
      failed |= result is None
      if not result:
        continue
      line = ledger.line(claim, result, setting.mode, setting.size)
      reason = ledger.refusal(ledger.read(out), line, second)
    if reason:
      print(f"refused: {reason}", flush=True)
      failed = True
      continue
    ledger.add(out, line)
    write(out)
  print(f"table: {out}")
  return int(failed)


def write(out: pathlib.Path) -> None:
  """Write the table of a ledger."""
  runs.write(out, table.text(ledger.read(out), CLAIMS))


def _refused(
  claim: Claim, setting: Setting, out: pathlib.Path, second: bool
) -> str | None:
  """Return why a claim is not to be run for the table, if anything is."""
  registered = _config(claim, setting)["registered"]
  planned = {
    "name": ledger.name_of(claim, setting.size),
    "seed": setting.seed,
    "mode": setting.mode,
    "registration": registration.digest(registered),
  }
  return ledger.refusal(ledger.read(out), planned, second)


def check(
  only: list[str], setting: Setting, out: pathlib.Path, same: bool
) -> int:
  """Compare new runs with the table; return 1 if a verdict moved.

  Args:
    only: names of claims; those that have no row are left out.
    setting: how they are run.
    out: the table.
    same: run each at the seed of its row, and not at the setting's.
  """
  rows = table.latest(ledger.read(out))
  moved = 0
  for name in only:
    line = rows.get(ledger.name_of(CLAIMS[name], setting.size))
    if line is None:
      continue
    seed = line["seed"] if same else setting.seed
    result = run(CLAIMS[name], setting._replace(seed=seed), False)
    if not result:
      continue
    before, after = line["verdict"], result["verdict"]
    moved += before != after
    word = "as in the table" if before == after else f"MOVED from {before}"
    print(f"{name}: {after} at seed {seed}, {word}", flush=True)
    print(f"  table: {line['measured']}\n  now: {result['measured']}")
  print(f"{moved} verdicts moved")
  return int(moved > 0)


def _argument(setting: Setting) -> str:
  """Return the argument of a config: what differs from its defaults."""
  parts = [f"mode={setting.mode}"] if setting.mode != "paper" else []
  parts += [f"size={setting.size}"] if setting.size != "ours" else []
  parts += [f"seed={setting.seed}"] if setting.seed else []
  return ",".join(parts)


def _config(claim: Claim, setting: Setting) -> dict[str, Any]:
  return discovery.module(claim).get_config(_argument(setting)).to_dict()


def run(claim: Claim, setting: Setting, second: bool) -> dict[str, Any] | None:
  """Run a claim, or take it from its finished folder.

  Args:
    claim: which.
    setting: how.
    second: judge a finished run anew whose registration has changed since; its
      result of before stays in the folder under the old registration's hash.

  Returns:
    What result.json holds, and the `folder`; {} when data are missing, None
    when it failed.
  """
  argument = _argument(setting)
  settled, _ = app.settle(
    _config(claim, setting), str(discovery.module(claim).__file__)
  )
  folder = app.folder(setting.workdir, claim.experiment, claim.config, settled)
  finished = folder / "result.json"
  if second and finished.exists():
    known = registration.digest(runs.load(finished)["registered"])
    if known != registration.digest(_config(claim, setting)["registered"]):
      os.replace(finished, folder / f"result-{known}.json")
  print(f"{claim.name}: experiments.{claim.experiment} {claim.config}")
  command = [sys.executable, "-m", f"experiments.{claim.experiment}"]
  path = os.path.relpath(str(discovery.module(claim).__file__))
  command += [f"--config={path}:{argument}".rstrip(":")]
  command += [f"--workdir={setting.workdir}"]
  command += [f"--data_dir={setting.data_dir}"] if setting.data_dir else []
  sys.stdout.flush()
  done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
  if done.returncode:
    skipped = done.returncode == endings.NO_INPUT
    word = "skipped" if skipped else "failed"
    print(f"{claim.name} {word}: {done.stderr.strip()}", flush=True)
    return {} if skipped else None
  where = folder.relative_to(setting.workdir).as_posix()
  return runs.load(finished) | {"folder": where}


if __name__ == "__main__":
  flags.DEFINE_list("only", None, f"Claims to run, of {', '.join(CLAIMS)}.")
  flags.DEFINE_string("data_dir", None, "Folder with the data sets' files.")
  flags.DEFINE_string("workdir", "runs", "Folder that holds the run folders.")
  flags.DEFINE_string("out", "REPRODUCTIONS.md", "The table to write.")
  flags.DEFINE_enum("mode", "paper", ["paper", "tiny"], "Tiny proves nothing.")
  flags.DEFINE_enum("size", "ours", ["ours", "paper"], "What is run.")
  flags.DEFINE_integer(
    "seed", None, f"Base seed; {registration.TABLE} in the table."
  )
  flags.DEFINE_bool("check", False, "Compare new runs with the table.")
  flags.DEFINE_bool("page", False, "Write the gallery of all results.")
  flags.DEFINE_bool(
    "second_registration", False, "Keep the result of before a change too."
  )
  absl.app.run(main)
