"""Smaller and larger networks: what papers say of those cut from others.

For each seed the images, the networks and the batches are drawn anew.

python -m experiments.grow --config=configs/grow_tinyclip.py --data_dir=DIR
"""

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the study that a config names."""
  from experiments.grow import (
    blocks,
    claims,
    inheritance,
    modules,
    searches,
    widths,
  )
  from experiments.run import study

  known = inheritance.STUDIES | modules.STUDIES | widths.STUDIES
  study.work(run, known | searches.STUDIES | blocks.STUDIES)
  study.finish(run, claims.CLAIMS)


if __name__ == "__main__":
  app.run(main)
