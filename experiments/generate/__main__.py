"""Weights as data, data from weights; optimisers on the sphere.

A config names a study: `zoo` (weights sampled from a model of weights),
`predict` (accuracy told from weights), `follow` (data along an expert's
trajectory), `diverse` (images from moved teachers), `consistent` (teachers of
consistency training) or `radial` (AdamP).

python -m experiments.generate --config=configs/adamp.py --data_dir=DIR
"""

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the study that a config names."""
  from experiments.generate import claims, studies
  from experiments.run import study

  study.work(run, studies.STUDIES)
  study.finish(run, claims.CLAIMS)


if __name__ == "__main__":
  app.run(main)
