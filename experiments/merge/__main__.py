"""Merging experts of several tasks: every method on one bed, tuned alike.

For each seed a base is pre-trained and fine-tuned to an expert for each task;
methods merge the experts, one coefficient each is tuned on validation images
and reported untuned too, and probes look at what the claim is about.

python -m experiments.merge --config=configs/merge_bench.py --data_dir=DIR
"""

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the experiment of one config."""
  from experiments.bench import task_vectors
  from experiments.merge import probes, results
  from experiments.merge.claims import CLAIMS, table
  from experiments.run import claims, progress

  for label in run.config.beds:
    bed = task_vectors.build(run, label)
    with progress.bar(f"{label}: measured", run.config.seeds) as advance:
      for seed in range(run.config.seeds):
        results.measure(bed, seed)
        for name in bed.run.config.probes:
          probes.PROBES[name](bed, seed)
        advance(seed + 1)
  claims.finish(run, CLAIMS[run.config.judge], table(run))


if __name__ == "__main__":
  app.run(main)
