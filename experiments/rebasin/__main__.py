"""Re-basin: models of independent starts, aligned by permutations, averaged.

For each case (a model) and seed, members are trained from starts of their own.
Each method permutes them to one order; the loss is measured on the line between
the first two, and the mean of all is measured as it is and repaired.

python -m experiments.rebasin --config=configs/rebasin.py --data_dir=DIR
"""

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the experiment of one config."""
  from experiments.bench import population
  from experiments.rebasin import results, training
  from experiments.rebasin.claims import CLAIMS
  from experiments.run import claims

  base = population.problem(run)
  for case, hyper in run.config.cases.items():
    problem = training.problem(base, hyper)
    measured = training.measured(problem, hyper)
    for seed in range(run.config.seeds):
      stack = training.members(run, problem, case, seed)
      results.measure(run, measured, stack, case, seed)
  claims.finish(run, CLAIMS[run.config.judge], results.table(run))


if __name__ == "__main__":
  app.run(main)
