"""Vanishing variance: gossip between models of independent starts.

Nodes train on data of their own and average with a random partner after each
round.  Where they start apart, averages shrink their weights; corrected ones do
not.  Nodes of one common start are what both are measured against.

python -m experiments.merge_variance --config=configs/merge_variance.py \
  --data_dir=DIR
"""

from experiments import app, runs


def main(run: runs.Run) -> None:
  """Run the experiment of one config."""
  from experiments import merge_variance_results, progress

  config, model = run.config, run.model()
  made = merge_variance_results.tools(run, model)
  with progress.bar("gossip", config.seeds) as advance:
    for seed in range(config.seeds):
      data, test = merge_variance_results.draw(run, seed)
      starts = merge_variance_results.starts(run, model, data, seed)
      merge_variance_results.measure_starts(run, starts, seed)
      for arm in merge_variance_results.ARMS:
        merge_variance_results.gossip(
          run, made, arm, starts, (data, test), seed
        )
      advance(seed + 1)
  merge_variance_results.finish(run)


if __name__ == "__main__":
  app.run(main)
