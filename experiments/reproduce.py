"""Reproductions: run named claims and write what was measured, as one table.

Each row is a claim of a paper: a config and the experiment that runs it.  The
table is made from the result.json files; a claim whose data are missing is
skipped with the reason, and keeps the row that it had.

python -m experiments.reproduce [--only=NAME,...] [--data_dir=DIR]
"""

import pathlib
import subprocess
import sys
from typing import Any

import absl.app
from absl import flags

from experiments.run import app, discovery, endings, runs
from experiments.run.discovery import Claim

HEAD = """# Reproductions

Claims of papers, measured again with this code: means over seeds with 95 %
intervals. A claim that does not hold here says so. Written by
`python -m experiments.reproduce`; each command below reproduces its row, with
DIR the folder that holds the data sets.

| claim | paper | statement | measured | holds | seconds | command |
| --- | --- | --- | --- | --- | --- | --- |
"""


CLAIMS = {claim.name: claim for claim in discovery.claims()}


def main(argv: list[str]) -> None:
  """Run the chosen claims and write the table after each."""
  values = flags.FLAGS
  only = values.only or list(CLAIMS)
  unknown = [name for name in only if name not in CLAIMS]
  if unknown or len(argv) > 1:
    wrong = unknown[0] if unknown else argv[1]
    print(f"error: {wrong!r}, expected --only of {', '.join(CLAIMS)}")
    sys.exit(endings.USAGE)
  out, failed = pathlib.Path(values.out), False
  for name in only:
    found = result(CLAIMS[name], values.workdir, values.data_dir, values.mode)
    if found:
      runs.write(out, table(out, {name: row(name, found)}))
    failed |= found is None
  print(f"table: {out}")
  sys.exit(1 if failed else 0)


def result(
  claim: Claim, workdir: str, data_dir: str | None, mode: str
) -> dict[str, Any] | None:
  """Run a claim, or take it from its finished folder.

  Returns:
    What result.json holds; {} when data are missing, None when it failed.
  """
  name = claim.config
  print(f"{claim.name}: experiments.{claim.experiment} {name}", flush=True)
  command = [sys.executable, "-m", f"experiments.{claim.experiment}"]
  argument = "" if mode == "paper" else f":mode={mode}"
  command += [f"--config=configs/{name}.py{argument}", f"--workdir={workdir}"]
  command += [f"--data_dir={data_dir}"] if data_dir else []
  done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
  if done.returncode:
    skipped = done.returncode == endings.NO_INPUT
    word = "skipped" if skipped else "failed"
    print(f"{claim.name} {word}: {done.stderr.strip()}", flush=True)
    return {} if skipped else None
  module = discovery.module(claim)
  config = module.get_config(argument[1:]).to_dict()
  settled, _ = app.settle(config, str(module.__file__))
  folder = app.folder(workdir, claim.experiment, name, settled)
  return runs.load(folder / "result.json")


def row(name: str, found: dict[str, Any]) -> str:
  """Return one line of the table.

  >>> row("a", {"paper": "P", "claim": "C", "measured": "+1", "holds": True,
  ...   "seconds": 2.0, "command": "python"})
  '| a | P | C | +1 | yes | 2 | `python` |'
  """
  holds = {True: "yes", False: "no", None: "-"}[found["holds"]]
  seconds, command = f"{found['seconds']:.0f}", f"`{found['command']}`"
  texts = (found["paper"], found["claim"], found["measured"])
  cells = (name, *texts, holds, seconds, command)
  return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def table(path: pathlib.Path, new: dict[str, str]) -> str:
  """Return the table with new rows put in, and those of before in place."""
  old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
  rows = {line.split(" | ")[0][2:]: line for line in old if line[:2] == "| "}
  rows |= new
  return HEAD + "".join(f"{rows[n]}\n" for n in rows if n in CLAIMS)


if __name__ == "__main__":
  flags.DEFINE_list("only", None, f"Claims to run, of {', '.join(CLAIMS)}.")
  flags.DEFINE_string("data_dir", None, "Folder with the data sets' files.")
  flags.DEFINE_string("workdir", "runs", "Folder that holds the run folders.")
  flags.DEFINE_string("out", "REPRODUCTIONS.md", "The table to write.")
  flags.DEFINE_enum("mode", "paper", ["paper", "tiny"], "Size of the runs.")
  absl.app.run(main)
