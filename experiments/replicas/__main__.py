"""Replicas that mix now and then: what meets, how often, and what it costs.

For each seed replicas are trained apart and brought together by each method on
the same batches and schedule; the mean model and its replicas are measured on
test data, and the bytes that were sent are counted.

python -m experiments.replicas --config=configs/noloco.py --data_dir=DIR
"""

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the study that a config names."""
  from experiments.replicas import claims, studies
  from experiments.run import study

  study.work(run, studies.STUDIES)
  study.finish(run, claims.CLAIMS)


if __name__ == "__main__":
  app.run(main)
