"""Merges that look at data: statistics, learned coefficients, fronts, experts.

For each seed models are trained and merged with the help of a few examples;
what is chosen is chosen on validation data and measured on test data.

python -m experiments.data_aware --config=configs/regmean.py --data_dir=DIR
"""

from experiments import app, runs


def main(run: runs.Run) -> None:
  """Run the study that a config names."""
  from experiments import (
    average_results,
    data_aware_claims,
    data_aware_fronts,
    data_aware_images,
    data_aware_mixtures,
    data_aware_text,
  )

  studies = data_aware_images.STUDIES | data_aware_text.STUDIES
  studies |= data_aware_mixtures.STUDIES | data_aware_fronts.STUDIES
  average_results.study(run, studies)
  average_results.finish(run, data_aware_claims.CLAIMS)


if __name__ == "__main__":
  app.run(main)
