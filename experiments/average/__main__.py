"""Averages along training: what trajectories hold, and what papers say of it.

For each seed models are trained and their checkpoints kept; averages and
searches over them are chosen on validation data and measured on test data.

python -m experiments.average --config=configs/free_lunch.py --data_dir=DIR
"""

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the study that a config names."""
  from experiments.average import characters, claims, images, sparse
  from experiments.run import study

  known = images.STUDIES | characters.STUDIES | sparse.STUDIES
  study.work(run, known)
  study.finish(run, claims.CLAIMS)


if __name__ == "__main__":
  app.run(main)
