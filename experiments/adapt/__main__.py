"""Averages inside training and at test time: experts, references, teachers.

For each seed models are trained or adapted with an average in the loop, next to
the same without it, and measured on test data.

python -m experiments.adapt --config=configs/cotta.py --data_dir=DIR
"""

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the study that a config names."""
  from experiments.adapt import claims, studies
  from experiments.run import study

  study.work(run, studies.STUDIES)
  study.finish(run, claims.CLAIMS)


if __name__ == "__main__":
  app.run(main)
