"""Averages along training: what trajectories hold, and what papers say of it.

For each seed models are trained and their checkpoints kept; averages and
searches over them are chosen on validation data and measured on test data.

python -m experiments.average --config=configs/free_lunch.py --data_dir=DIR
"""

from experiments import app, runs


def main(run: runs.Run) -> None:
  """Run the study that a config names."""
  from experiments import (
    average_claims,
    average_images,
    average_results,
    average_sparse,
    average_text,
  )

  studies = average_images.STUDIES | average_sparse.STUDIES
  studies |= average_text.STUDIES
  average_results.study(run, studies)
  average_results.finish(run, average_claims.CLAIMS)


if __name__ == "__main__":
  app.run(main)
