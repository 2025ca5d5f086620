"""Re-basin: models of independent starts, aligned by permutations, averaged.

For each case (a model) and seed, members are trained from starts of their own.
Each method permutes them to one order; the loss is measured on the line between
the first two, and the mean of all is measured as it is and repaired.

python -m experiments.rebasin --config=configs/rebasin.py --data_dir=DIR
"""

from experiments import app, runs


def main(run: runs.Run) -> None:
  """Run the experiment of one config."""
  from experiments import population, rebasin_results, rebasin_training

  base = population.problem(run)
  for case, hyper in run.config.cases.items():
    problem = rebasin_training.problem(base, hyper)
    measured = rebasin_training.measured(problem, hyper)
    for seed in range(run.config.seeds):
      stack = rebasin_training.members(run, problem, case, seed)
      rebasin_results.measure(run, measured, stack, case, seed)
  rebasin_results.finish(run)


if __name__ == "__main__":
  app.run(main)
