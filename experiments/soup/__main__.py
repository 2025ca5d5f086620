"""Model soups: cook the averages of a population and compare them.

For each seed a start is trained, members are fine-tuned from it (or from
independent starts), soups are chosen on the validation set, and all is measured
on the test set.

python -m experiments.soup --config=configs/model_soups.py
"""

from typing import Any

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the experiment of one config."""
  from experiments.bench import population
  from experiments.soup import results

  problem = population.problem(run)
  for seed in range(run.config.seeds):
    one_seed(run, problem, seed)
  results.finish(run)


def one_seed(run: runs.Run, problem: Any, seed: int) -> None:
  """Train, cook and measure the population of one seed."""
  from experiments.bench import population
  from experiments.soup import results

  count = run.config.members.count

  def starts() -> Any:
    if run.config.shared_start:
      return population.repeated(population.start(run, problem, seed), count)
    return population.initials(run, problem, seed, count)

  stack, members = population.members(run, problem, starts, seed)
  soups = run.once(
    f"seed{seed}-soups", lambda: cook(run, problem, stack, members, seed)
  )
  results.measure(run, problem, stack, soups, seed)


def cook(
  run: runs.Run, problem: Any, stack: Any, members: Any, seed: int
) -> Any:
  """Return the soups of a population by name; log how each was chosen."""
  import weightspace as ws
  from experiments.bench import population
  from experiments.run import progress
  from experiments.soup import results

  data = problem.validation
  chosen: dict[str, Any] = {"uniform": None}
  ws.merge.guard(stack, members, problem.loss, data)
  with progress.bar(f"seed {seed}: soups", 3) as advance:
    for done, (name, select) in enumerate(
      {"greedy": ws.merge.greedy, "pruned": ws.merge.pruned}.items()
    ):
      found = select(stack, problem.score, data)
      chosen[name] = found.weights
      results.log_history(run, seed, name, found.history)
      advance(done + 1)
    learned = ws.merge.learned(
      stack, problem.model.apply, data, **run.config.learned
    )
    advance(3)
  chosen["learned"] = learned.weights
  soups = {n: ws.weighted_mean(stack, w) for n, w in chosen.items()}
  shared = run.config.shared_start
  base = population.start(run, problem, seed) if shared else None
  for name, recipe in run.recipes().items():
    soups[name] = recipe(stack, base=base, key=run.key)
  return soups


if __name__ == "__main__":
  app.run(main)
