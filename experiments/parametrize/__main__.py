"""Parametrizations compared: adapters, ranks, few levels, bounded weights.

For each seed a model is trained with some of its kernels computed from others,
next to the same model without that, and measured on data that chose nothing.

python -m experiments.parametrize --config=configs/eva.py --data_dir=DIR
"""

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the study that a config names."""
  from experiments.parametrize import claims, studies
  from experiments.run import study

  study.work(run, studies.STUDIES)
  study.finish(run, claims.CLAIMS)


if __name__ == "__main__":
  app.run(main)
