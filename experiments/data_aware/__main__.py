"""Merges that look at data: statistics, learned coefficients, fronts, experts.

For each seed models are trained and merged with the help of a few examples;
what is chosen is chosen on validation data and measured on test data.

python -m experiments.data_aware --config=configs/regmean.py --data_dir=DIR
"""

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the study that a config names."""
  from experiments.data_aware import claims, fronts, images, mixtures, text
  from experiments.run import study

  studies = images.STUDIES | text.STUDIES
  studies |= mixtures.STUDIES | fronts.STUDIES
  study.work(run, studies)
  study.finish(run, claims.CLAIMS)


if __name__ == "__main__":
  app.run(main)
