"""Vanishing variance: gossip between models of independent starts.

Nodes train on data of their own and average with a random partner after each
round.  Where they start apart, averages shrink their weights; corrected ones do
not.  Nodes of one common start are what both are measured against.

python -m experiments.merge_variance --config=configs/merge_variance.py \
  --data_dir=DIR
"""

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the experiment of one config."""
  from experiments.merge_variance import results
  from experiments.run import claims, progress

  config, model = run.config, run.model()
  made = results.tools(run, model)
  with progress.bar("gossip", config.seeds) as advance:
    for seed in range(config.seeds):
      data, test = results.draw(run, seed)
      starts = results.starts(run, model, data, seed)
      results.measure_starts(run, starts, seed)
      for arm in results.ARMS:
        results.gossip(run, made, arm, starts, (data, test), seed=seed)
      advance(seed + 1)
  claims.finish(run, results.CLAIM, results.table(run))


if __name__ == "__main__":
  app.run(main)
