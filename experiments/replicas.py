"""Replicas that mix now and then: what meets, how often, and what it costs.

For each seed replicas are trained apart and brought together by each method on
the same batches and schedule; the mean model and its replicas are measured on
test data, and the bytes that were sent are counted.

python -m experiments.replicas --config=configs/noloco.py --data_dir=DIR
"""

from experiments import app, runs


def main(run: runs.Run) -> None:
  """Run the study that a config names."""
  from experiments import average_results, replicas_claims, replicas_studies

  average_results.study(run, replicas_studies.STUDIES)
  average_results.finish(run, replicas_claims.CLAIMS)


if __name__ == "__main__":
  app.run(main)
