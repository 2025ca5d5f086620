"""What the soup experiments measure, and what each of their claims asks.

Every number is logged as one line of metrics.jsonl; tables, verdicts and
figures are made from the lines alone.

>>> sorted(CLAIMS)
['collapse', 'greedy', 'uniform']
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments import runs
from experiments.population import Problem
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
Rows = dict[str, np.ndarray]  # {method: [seeds]} of one metric


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
    ws.stack([a, b]), weights, problem.loss, problem.test
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
    return np.asarray(ws.merge.evaluate_mixes(stack, each, function, data))

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


def gather(run: runs.Run, metric: str) -> Rows:
  """Return {method: [seeds]} of a metric, from the lines of the run."""
  rows: dict[str, list[float]] = {name: [] for name in METHODS}
  for line in run.lines.values():
    if "method" in line:
      rows[line["method"]].append(line[metric])
  return {name: np.array(values) for name, values in rows.items()}


def _only(run: runs.Run, *names: str) -> list[dict[str, Any]]:
  return [x for x in run.lines.values() if all(name in x for name in names)]


def _said(found: intervals.Interval, unit: str, seeds: int) -> str:
  ends = f"[{found.low:+.2f}, {found.high:+.2f}]"
  return f"{found.mean:+.2f} {unit} {ends} over {seeds} seeds"


def greedy_claim(run: runs.Run) -> tuple[str, bool]:
  """Judge: on the selection set, no greedy soup is below the best member."""
  rows = gather(run, "validation accuracy")
  gap = rows["greedy"] - rows["best"]
  found = intervals.mean_interval(gap)
  measured = (
    f"greedy minus best member on the selection set: smallest {gap.min():+.2f},"
    f" mean {_said(found, 'points', len(gap))}"
  )
  return measured, bool((gap >= 0.0).all())


def uniform_claim(run: runs.Run) -> tuple[str, bool]:
  """Judge: the uniform soup is above the best member, on average."""
  rows = gather(run, "test accuracy")
  found = intervals.paired(rows["uniform"], rows["best"])
  said = _said(found, "points of test accuracy", found.size)
  return f"uniform soup minus best member: {said}", found.low > 0.0


def collapse_claim(run: runs.Run) -> tuple[str, bool]:
  """Judge: the average of independent members falls by over ten points."""
  rows = gather(run, "test accuracy")
  fall = intervals.paired(rows["uniform"], rows["mean"])
  lines = _only(run, "barrier")
  loss = intervals.mean_interval([line["loss"] for line in lines])
  error = intervals.mean_interval([line["error"] for line in lines])
  measured = (
    f"uniform soup minus mean member: {_said(fall, 'points', fall.size)};"
    f" midpoint of two members: error {error.mean:+.1f} points"
    f" [{error.low:+.1f}, {error.high:+.1f}], loss {loss.mean:+.2f}"
    f" [{loss.low:+.2f}, {loss.high:+.2f}]"
  )
  return measured, fall.high < -10.0 and loss.low > 0.0


class Claim(NamedTuple):
  """A statement, and the function that says what was found and if it holds."""

  statement: str
  judge: Callable[[runs.Run], tuple[str, bool]]


CLAIMS = {
  "greedy": Claim(
    "On the selection set the greedy soup is never below the best member.",
    greedy_claim,
  ),
  "uniform": Claim(
    "The uniform soup of members of equal quality is above the best of them,"
    " chosen on the selection set.",
    uniform_claim,
  ),
  "collapse": Claim(
    "The average of members from independent starts collapses: it falls more"
    " than ten points below them, behind a loss barrier.",
    collapse_claim,
  ),
}


def finish(run: runs.Run) -> None:
  """Judge the claim of the config, and write the table, figure and page."""
  metrics = ("validation accuracy", "test accuracy", "test loss")
  rows = {metric: gather(run, metric) for metric in metrics}
  table: runs.Table = {}
  for name, label in METHODS.items():
    accuracy = rows["test accuracy"]
    table[label] = {
      "test (%)": intervals.mean_interval(accuracy[name]),
      "over best": intervals.paired(accuracy[name], accuracy["best"])
      if name != "best"
      else None,
      "test loss": intervals.mean_interval(rows["test loss"][name]),
      "selection (%)": intervals.mean_interval(
        rows["validation accuracy"][name]
      ),
    }
  claim = CLAIMS[run.config.claim]
  measured, holds = claim.judge(run)
  caption = (
    "Left: test accuracy; faint dots are seeds, or single members on the row of"
    " the mean member; bars are 95 % intervals of the mean over seeds. Right:"
    " test loss on the straight line through two members, mean and 95 % band."
    " In the table, over best is less the best member, paired over seeds, and"
    " selection is accuracy on the data that chose."
  )
  charts = {"soups": (draw(run, rows["test accuracy"]), caption)}
  run.finish(claim.statement, measured, table, holds, charts)


def draw(run: runs.Run, accuracy: Rows) -> Any:
  """Draw the methods, and the loss on the line through two members."""
  named = {METHODS[name]: values for name, values in accuracy.items()}
  singles = [
    line["test accuracy"] for line in _only(run, "member", "test loss")
  ]
  seeds = sorted({line["seed"] for line in _only(run, "line")})
  line = [
    [x["loss"] for x in _only(run, "line") if x["seed"] == seed]
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
