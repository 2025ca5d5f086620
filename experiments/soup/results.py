"""What the soup experiments measure, and the table and figure made of it.

Every number is logged as one line of metrics.jsonl; the table, the verdict and
the figure are made from the lines alone.

>>> METHODS["best"]
'best member'
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.bench.population import Problem
from experiments.run import claims, runs
from experiments.run.claims import Rows
from experiments.soup.claims import CLAIMS
from weightspace import figures, intervals, losses, paths
from weightspace.types import Params, Stack

METHODS = {
  "mean": "mean member",
  "best": "best member",
  "uniform": "uniform soup",
  "greedy": "greedy soup",
  "learned": "learned soup",
  "pruned": "pruned soup",
  "ensemble": "logit ensemble",
}
SPLITS = ("validation", "test")
PLACES = np.linspace(-0.25, 1.25, 31)  # on the line between two members


def log_history(run: runs.Run, seed: int, name: str, history: Any) -> None:
  """Log each trial of a selection: what was tried, and why it was kept."""
  for place, trial in enumerate(history):
    numbers = trial._asdict()
    found = numbers.pop("interval")
    ends = {"low": found.low, "high": found.high} if found else {}
    run.log(seed=seed, selection=name, place=place, **numbers, **ends)


def measure(
  run: runs.Run,
  problem: Problem,
  stack: Stack,
  soups: dict[str, Params],
  seed: int,
) -> None:
  """Log the metrics of every method, of every member, and along a line.

  Args:
    run: logs go there.
    problem: data and metrics; validation chooses the best member.
    stack: the members, [M, ...].
    soups: parameters by method.
    seed: of the population.
  """
  singles = _metrics(problem, stack)
  best = int(np.argmax(singles["validation accuracy"]))
  found = _metrics(problem, ws.stack(list(soups.values())))
  table = {
    name: {metric: values[k] for metric, values in found.items()}
    for k, name in enumerate(soups)
  }
  table["best"] = {metric: v[best] for metric, v in singles.items()}
  table["mean"] = {metric: v.mean() for metric, v in singles.items()}
  table["ensemble"] = _ensemble(problem, stack)
  for name, metrics in table.items():
    run.log(seed=seed, method=name, **metrics)
  for member in range(ws.trees.size(stack)):
    run.log(
      seed=seed, member=member, **{m: v[member] for m, v in singles.items()}
    )
  a, b = ws.unstack(stack)[:2]
  weights = np.stack([1 - PLACES, PLACES], 1)
  line = ws.merge.evaluate_mixes(
    ws.stack([a, b]), weights, problem.loss, problem.test, mesh=problem.mesh
  )
  for at, value in zip(PLACES, np.asarray(line)):
    run.log(seed=seed, line=f"{at:.2f}", loss=value)
  error = paths.barrier(_error(problem), problem.test, a, b)
  loss = paths.barrier(problem.loss, problem.test, a, b)
  run.log(seed=seed, barrier="midpoint", loss=loss.half, error=100 * error.half)


def _error(problem: Problem) -> Any:
  return lambda params, data: 1.0 - problem.score(params, data)


def _metrics(problem: Problem, stack: Stack) -> Rows:
  """Return {metric: [K]} of K models; accuracies in percent."""
  each = np.eye(ws.trees.size(stack), dtype=np.float32)

  def of(function: Any, data: Any) -> np.ndarray:
    found = ws.merge.evaluate_mixes(
      stack, each, function, data, mesh=problem.mesh
    )
    return np.asarray(found)

  return {
    "validation accuracy": 100 * of(problem.score, problem.validation),
    "test accuracy": 100 * of(problem.score, problem.test),
    "test loss": of(problem.loss, problem.test),
  }


def _ensemble(problem: Problem, stack: Stack) -> dict[str, Any]:
  """Return the metrics of the mean of the members' logits."""

  @jax.jit
  def logits(stack: Stack, x: Any) -> Any:
    each = jax.lax.map(lambda params: problem.model.apply(params, x), stack)
    return each.mean(0)

  mean = {s: logits(stack, getattr(problem, s)["x"]) for s in SPLITS}
  right = {
    split: 100 * losses.accuracy(mean[split], getattr(problem, split)["y"])
    for split in SPLITS
  }
  loss = losses.cross_entropy(mean["test"], jnp.asarray(problem.test["y"]))
  return {
    "validation accuracy": right["validation"].mean(),
    "test accuracy": right["test"].mean(),
    "test loss": loss.mean(),
  }


def labels(run: runs.Run) -> dict[str, str]:
  """Return what each method is called in the table, own recipes last."""
  return METHODS | {name: name for name in run.recipes()}


def finish(run: runs.Run) -> None:
  """Judge the claim of the config, and write the table, figure and page."""
  metrics = ("validation accuracy", "test accuracy", "test loss")
  rows = {metric: claims.rows(run, metric) for metric in metrics}
  table: runs.Table = {}
  for name, label in labels(run).items():
    accuracy = rows["test accuracy"]
    table[label] = {
      "test (%)": claims.percent(accuracy[name]),
      "over best": intervals.paired(accuracy[name], accuracy["best"])
      if name != "best"
      else None,
      "test loss": intervals.mean_interval(rows["test loss"][name]),
      "selection (%)": claims.percent(rows["validation accuracy"][name]),
    }
  caption = (
    "Left: test accuracy; faint dots are seeds, or single members on the row of"
    " the mean member; bars are 95 % intervals of the mean over seeds. Right:"
    " test loss on the straight line through two members, mean and 95 % band."
    " In the table, over best is less the best member, paired over seeds, and"
    " selection is accuracy on the data that chose."
  )
  charts = {"soups": (draw(run, rows["test accuracy"]), caption)}
  claims.finish(run, CLAIMS[run.config.claim], table, charts)


def draw(run: runs.Run, accuracy: Rows) -> Any:
  """Draw the methods, and the loss on the line through two members."""
  named = {label: accuracy[name] for name, label in labels(run).items()}
  singles = [
    line["test accuracy"] for line in claims.only(run, "member", "test loss")
  ]
  seeds = sorted({line["seed"] for line in claims.only(run, "line")})
  line = [
    [x["loss"] for x in claims.only(run, "line") if x["seed"] == seed]
    for seed in seeds
  ]
  return figures.figure(
    figures.dots(
      named,
      "test accuracy (%)",
      "Soups and their members",
      {METHODS["mean"]: singles},
    ),
    figures.curves(
      PLACES,
      {"test loss": line},
      ("place on the line", "test loss"),
      "Between two members",
      [(0.0, "member 0"), (1.0, "member 1")],
    ),
    width=11.0,
    height=3.8,
  )
