"""Masks: what papers say of which weights count.

For each seed a network is trained on images, or sums, of its own; masks are
chosen by a method and by its rivals, and what is left is measured on test data.

python -m experiments.sparse --config=configs/sparse_rd.py --data_dir=DIR
"""

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the study that a config names."""
  from experiments.run import study
  from experiments.sparse import (
    claims,
    merging,
    pruning,
    tasks,
    tickets,
    tuning,
    widths,
  )

  known = merging.STUDIES | pruning.STUDIES | tasks.STUDIES
  known |= tickets.STUDIES | tuning.STUDIES | widths.STUDIES
  study.work(run, known)
  study.finish(run, claims.CLAIMS)


if __name__ == "__main__":
  app.run(main)
