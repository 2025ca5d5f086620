"""Re-basin: models of independent starts, aligned by permutations, averaged.

For each case (a model) and seed, members are trained from starts of their own.
Each method permutes them to one order; the loss is measured on the line between
the first two, and the mean of all is measured as it is and repaired.

python -m experiments.rebasin --config=configs/rebasin.py --data_dir=DIR
"""

from typing import Any

from experiments import app, runs


def main(run: runs.Run) -> None:
  """Run the experiment of one config."""
  import weightspace as ws
  from experiments import population, rebasin_results
  from weightspace import losses

  base = population.problem(run)
  for case, hyper in run.config.cases.items():
    model = ws.models.build(**hyper)
    problem = base._replace(
      model=model,
      loss=losses.of(model.apply, losses.cross_entropy),
      score=losses.of(model.apply, losses.accuracy),
    )
    for seed in range(run.config.seeds):
      stack = members(run, problem, case, seed)
      rebasin_results.measure(run, problem, stack, case, seed)
  rebasin_results.finish(run)


def members(run: runs.Run, problem: Any, case: str, seed: int) -> Any:
  """Return the members of a case and seed, trained from their own starts."""
  import jax

  from experiments import population

  name = f"{case}-seed{seed}"
  key = jax.random.fold_in(run.key, 2 * seed + 1)
  settings = run.config.members

  def train() -> Any:
    stack = population.initials(run, problem, seed, settings.count)
    return population.fit(problem, stack, settings, key, name)[0]

  return run.once(name, train)


if __name__ == "__main__":
  app.run(main)
