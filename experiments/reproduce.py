"""Reproductions: run named claims and write what was measured, as one table.

Each row is a claim of a paper: a config and the experiment that runs it.  The
table is made from the result.json files; a claim whose data are missing is
skipped with the reason, and keeps the row that it had.

python -m experiments.reproduce [--only=NAME,...] [--data_dir=DIR]
"""

import pathlib
import subprocess
import sys
from types import ModuleType
from typing import Any, NamedTuple

import absl.app
from absl import flags

from configs import (
  ama,
  atlas,
  bang,
  bench_data,
  c2m3,
  cfg_front,
  cotta,
  data_diet,
  ewa,
  fedau,
  fedpeft,
  free_lunch,
  grokking_probes,
  lcsc,
  lmc_singular,
  lmc_straight,
  map_front,
  mc_smoe,
  merge_aligning,
  merge_bench,
  merge_bench_text,
  merge_breadcrumbs,
  merge_dare,
  merge_opcm,
  merge_optmerge,
  merge_pcb,
  merge_rmm,
  merge_scale,
  merge_signatures,
  merge_ties,
  merge_transfer,
  merge_variance,
  mindvl,
  mode_connectivity,
  mwa,
  noloco,
  phases_digits,
  pleas,
  rebasin,
  rebasin_lm,
  rebasin_resnet,
  rebasin_vgg,
  rebasin_vit,
  rebasin_width,
  regmean,
  regmean_pp,
  repair_depth,
  repair_width,
  rich_lazy,
  salsa,
  salsa_bandit,
  sharpness_laws,
  signal_noise,
  soup_flatness,
  soups_mnist_collapse,
  soups_mnist_greedy,
  soups_mnist_uniform,
  sparse_soups,
  wise_ft,
  wise_ft_spurious,
  zscl,
)
from experiments.run import app, runs

HEAD = """# Reproductions

Claims of papers, measured again with this code: means over seeds with 95 %
intervals. A claim that does not hold here says so. Written by
`python -m experiments.reproduce`; each command below reproduces its row, with
DIR the folder that holds the data sets.

| claim | paper | statement | measured | holds | seconds | command |
| --- | --- | --- | --- | --- | --- | --- |
"""


class Claim(NamedTuple):
  """A row: its name, the experiment that runs it, and its config."""

  name: str
  experiment: str
  config: ModuleType


CLAIMS = [
  Claim("soups-greedy", "soup", soups_mnist_greedy),
  Claim("soups-uniform", "soup", soups_mnist_uniform),
  Claim("soups-collapse", "soup", soups_mnist_collapse),
  Claim("wise-ft", "wise_ft", wise_ft),
  Claim("wise-ft-spurious", "wise_ft", wise_ft_spurious),
  Claim("bang", "wise_ft", bang),
  Claim("merge-ties", "merge", merge_ties),
  Claim("merge-dare", "merge", merge_dare),
  Claim("merge-breadcrumbs", "merge", merge_breadcrumbs),
  Claim("merge-pcb", "merge", merge_pcb),
  Claim("merge-opcm", "merge", merge_opcm),
  Claim("merge-optmerge", "merge", merge_optmerge),
  Claim("merge-rmm", "merge", merge_rmm),
  Claim("merge-scale", "merge", merge_scale),
  Claim("merge-bench", "merge", merge_bench),
  Claim("merge-bench-text", "merge", merge_bench_text),
  Claim("merge-signatures", "merge", merge_signatures),
  Claim("merge-aligning", "merge", merge_aligning),
  Claim("merge-transfer", "merge_transfer", merge_transfer),
  Claim("merge-variance", "merge_variance", merge_variance),
  Claim("free-lunch", "average", free_lunch),
  Claim("mwa", "average", mwa),
  Claim("lcsc", "average", lcsc),
  Claim("mindvl", "average", mindvl),
  Claim("signal-noise", "average", signal_noise),
  Claim("zscl", "average", zscl),
  Claim("sparse-soups", "average", sparse_soups),
  Claim("data-diet", "average", data_diet),
  Claim("noloco", "replicas", noloco),
  Claim("fedau", "replicas", fedau),
  Claim("fedpeft", "replicas", fedpeft),
  Claim("cotta", "adapt", cotta),
  Claim("ewa", "adapt", ewa),
  Claim("salsa", "adapt", salsa),
  Claim("salsa-bandit", "adapt", salsa_bandit),
  Claim("regmean", "data_aware", regmean),
  Claim("regmean-pp", "data_aware", regmean_pp),
  Claim("bench-data", "data_aware", bench_data),
  Claim("atlas", "data_aware", atlas),
  Claim("map", "data_aware", map_front),
  Claim("ama", "data_aware", ama),
  Claim("cfg", "data_aware", cfg_front),
  Claim("mc-smoe", "data_aware", mc_smoe),
  Claim("mode-connectivity", "landscape", mode_connectivity),
  Claim("sharpness-laws", "landscape", sharpness_laws),
  Claim("soup-flatness", "landscape", soup_flatness),
  Claim("rich-lazy", "landscape", rich_lazy),
  Claim("grokking-probes", "landscape", grokking_probes),
  Claim("phases", "phases", phases_digits),
  Claim("rebasin", "rebasin", rebasin),
  Claim("rebasin-width", "rebasin", rebasin_width),
  Claim("repair-depth", "rebasin", repair_depth),
  Claim("repair-width", "rebasin", repair_width),
  Claim("c2m3", "rebasin", c2m3),
  Claim("pleas", "rebasin", pleas),
  Claim("lmc-singular", "rebasin", lmc_singular),
  Claim("lmc-straight", "rebasin", lmc_straight),
  Claim("rebasin-vgg", "rebasin", rebasin_vgg),
  Claim("rebasin-resnet", "rebasin", rebasin_resnet),
  Claim("rebasin-vit", "rebasin", rebasin_vit),
  Claim("rebasin-lm", "rebasin", rebasin_lm),
]
NAMES = [claim.name for claim in CLAIMS]


def main(argv: list[str]) -> None:
  """Run the chosen claims and write the table after each."""
  values = flags.FLAGS
  only = values.only or NAMES
  unknown = [name for name in only if name not in NAMES]
  if unknown or len(argv) > 1:
    wrong = unknown[0] if unknown else argv[1]
    print(f"error: {wrong!r}, expected --only of {', '.join(NAMES)}")
    sys.exit(app.USAGE)
  out, failed = pathlib.Path(values.out), False
  for claim in CLAIMS:
    if claim.name in only:
      found = result(claim, values.workdir, values.data_dir, values.mode)
      if found:
        runs.write(out, table(out, {claim.name: row(claim.name, found)}))
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
  name = claim.config.__name__.removeprefix("configs.")
  print(f"{claim.name}: experiments.{claim.experiment} {name}", flush=True)
  command = [sys.executable, "-m", f"experiments.{claim.experiment}"]
  argument = "" if mode == "paper" else f":mode={mode}"
  command += [f"--config=configs/{name}.py{argument}", f"--workdir={workdir}"]
  command += [f"--data_dir={data_dir}"] if data_dir else []
  done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
  if done.returncode:
    skipped = done.returncode == app.NO_INPUT
    word = "skipped" if skipped else "failed"
    print(f"{claim.name} {word}: {done.stderr.strip()}", flush=True)
    return {} if skipped else None
  config = claim.config.get_config(argument[1:]).to_dict()
  settled, _ = app.settle(config, str(claim.config.__file__))
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
  """Return the table with new rows put in, and those of before kept."""
  old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
  rows = {line.split(" | ")[0][2:]: line for line in old if line[:2] == "| "}
  rows |= new
  return HEAD + "".join(f"{rows[n]}\n" for n in NAMES if n in rows)


if __name__ == "__main__":
  flags.DEFINE_list("only", None, f"Claims to run, of {', '.join(NAMES)}.")
  flags.DEFINE_string("data_dir", None, "Folder with the data sets' files.")
  flags.DEFINE_string("workdir", "runs", "Folder that holds the run folders.")
  flags.DEFINE_string("out", "REPRODUCTIONS.md", "The table to write.")
  flags.DEFINE_enum("mode", "paper", ["paper", "tiny"], "Size of the runs.")
  absl.app.run(main)
