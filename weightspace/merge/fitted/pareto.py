"""Pareto fronts of mixes: several scores at once, from few evaluations.

One merged model cannot be the best at every task; a front says what can be had.
MAP fits a quadratic to each task's score as a function of the coefficients of
the task vectors and searches the quadratics, which costs nothing; what it finds
is then evaluated, so every point of the front here is measured.

>>> import jax.numpy as jnp
>>> models, start = {"w": jnp.eye(2)}, {"w": jnp.zeros(2)}
>>> def score(p, x): return -((p["w"] - x) ** 2).sum()
>>> goals = [jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])]
>>> found = pareto_front(models, score, goals, jax.random.key(0), base=start)
>>> bool((abs(found.weights.sum(1) - 1.0) < 0.2).mean() > 0.8)
True
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from weightspace import trees
from weightspace.merge.core import checks
from weightspace.merge.fitted import map_samples
from weightspace.merge.fitted.scored_mixes import Measured, joined, measurer
from weightspace.search import pareto_fronts, surrogates
from weightspace.types import Data, Key, Params, Score, Stack

WAYS = ("plain", "bayesian")


class Front(NamedTuple):
  """Mixes that no other mix dominates, in the order of the first objective.

  `evaluations` counts mixes scored on all objectives; `history` has for each
  round the evaluations so far and the hypervolume of the front so far above
  the least scores of the first round.
  """

  weights: np.ndarray  # [F, M]
  values: np.ndarray  # [F, T], higher is better
  errors: np.ndarray  # [F, T] standard errors; NaN for scores of one number
  predicted: np.ndarray  # [F, T] by the surrogates
  evaluations: int
  history: np.ndarray  # [rounds + 1, 2]
  surrogates: list[surrogates.Quadratic]


def pareto_front(
  stack: Stack,
  score: Score | Sequence[Score],
  data: Sequence[Data],
  key: Key,
  *,
  base: Params | None = None,
  budget: int | None = None,
  rounds: int = 1,
  points: int = 20,
  box: tuple[float, float] = (0.0, 1.0),
  link: str = "none",
  way: str = "plain",
) -> Front:
  """Return the front of sum_m c_m tau_m over several scores (MAP).

  Sample coefficients, fit link(quadratic) to each score, search the quadratics
  for their front, and evaluate what was found; each further round fits again
  with these evaluations.

  Args:
    stack: M models, leaves [M, ...].
    score: higher is better, `score(params, data)`, [] or [N]; or one for each
      objective.
    data: of each objective, T sets.
    key: of the samples and the search.
    base: what the models were fine-tuned from: c are coefficients of the task
      vectors.  Without, they multiply the stack as they are.
    budget: mixes to sample before the first fit; by default three times what
      the quadratics need, (M + 1)(M + 2) / 2.
    rounds: of search and evaluation.
    points: mixes to evaluate in a round.
    box: the least and the largest coefficient, of samples and front: outside of
      what was sampled a quadratic knows nothing.
    link: "sigmoid" for accuracies, "softplus" for negated losses, or "none".
    way: how to sample: "plain" (each model, multiples of their sum with and
      without noise, and the box at random) or "bayesian" (half of the budget
      goes where the fit so far is worst, by direction).

  Returns:
    Front, of all mixes that were evaluated.  With one objective it is the best
    of them.

  Raises:
    ValueError: for a budget below what the quadratics need, saying how many; no
      objective; another number of scores than of data sets; NaN.

  >>> import jax.numpy as jnp
  >>> models, start = {"w": jnp.ones((1, 1))}, {"w": jnp.zeros(1)}
  >>> def score(p, x): return -((p["w"][0] - x) ** 2)
  >>> found = pareto_front(models, score, [jnp.array(0.5)], jax.random.key(0),
  ...                      base=start)
  >>> found.weights.round(2).tolist()
  [[0.5]]

  Li et al. 2024, "MAP: low-compute model merging with amortized Pareto fronts
  via quadratic approximation", https://arxiv.org/abs/2406.07529.  The paper
  searches by NSGA-III and does not evaluate the front; the closed-form fit, the
  search (NSGA-II) and the rounds are ours.
  """
  checks.option("pareto_front: way", way, WAYS)
  checks.number("pareto_front: points", points, 1)
  if not box[0] < box[1]:
    raise ValueError(f"pareto_front: box is {box}, expected low < high")
  count = trees.size(stack)
  least = surrogates.needed(count)
  budget = 3 * least if budget is None else budget
  if budget < least:
    raise ValueError(
      f"pareto_front: budget is {budget}, expected at least {least}: as many as"
      f" a quadratic in {count} coefficients has numbers"
    )
  measure = measurer("pareto_front", stack, score, data, base)
  random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
  first = map_samples.plain(
    count, budget if way == "plain" else least, box, random
  )
  seen = measure(first)
  while len(seen.weights) < budget:  # bayesian: the rest, in four parts
    fitted = _fit(seen, link)
    more = min(budget - len(seen.weights), -(-(budget - least) // 4))
    missed = np.abs(_predict(fitted, seen.weights) - seen.values).max(1)
    next_ = map_samples.where_worst(seen.weights, missed, more, box, random)
    seen = joined(seen, measure(next_))
  reference = seen.values.min(0)
  history = [_line(seen, reference)]
  for _ in range(rounds):
    fitted = _fit(seen, link)
    start = map_samples.plain(count, max(100, 2 * points), box, random)
    predict = functools.partial(_predict, fitted)
    front = pareto_fronts.evolved_front(predict, start, box, random)
    seen = joined(seen, measure(_spread(front, fitted, points)))
    history.append(_line(seen, reference))
  return _front(seen, _fit(seen, link), np.array(history))


def line_front(
  stack: Stack,
  score: Score | Sequence[Score],
  data: Sequence[Data],
  *,
  count: int = 11,
) -> Front:
  """Return the scores along the line between two models, and their front.

  theta(l) = (1 - l) theta_0 + l theta_1 at `count` even l: the front of quality
  and diversity of diversity-rewarded guidance.

  Args:
    stack: two models, leaves [2, ...].
    score, data: as in `pareto_front`.
    count: of points, both ends included.

  Returns:
    Front of all points, dominated ones too, by rising l; `weights` are
    [1 - l, l].  `above_chord` tells how far it bends.

  Raises:
    ValueError: for another number of models than two, fewer than two points.

  >>> import jax.numpy as jnp
  >>> models = {"w": jnp.array([0.0, 1.0])}
  >>> def score(p, x): return -((p["w"] - x) ** 2)
  >>> found = line_front(models, score, [jnp.array(2.0)], count=3)
  >>> found.values.ravel().tolist()
  [-4.0, -2.25, -1.0]

  Cideron et al. 2024, "Diversity-rewarded CFG distillation",
  https://arxiv.org/abs/2410.06084.
  """
  if trees.size(stack) != 2 or count < 2:
    raise ValueError(
      f"line_front: {count} points between {trees.size(stack)} models, expected"
      " at least 2 between 2"
    )
  share = np.linspace(0.0, 1.0, count)
  rows = np.stack([1 - share, share], 1)
  seen = measurer("line_front", stack, score, data, None)(rows)
  nothing = np.full_like(seen.values, np.nan)
  return Front(*seen, nothing, count, np.zeros((0, 2)), [])


def above_chord(values: np.ndarray) -> np.ndarray:
  """Return how far points [F, 2] lie above the line from the first to the last.

  In units of both scores' ranges along the line, at a right angle: positive
  above; the ends are zero.

  >>> front = np.array([[1.0, 0.0], [0.8, 0.8], [0.0, 1.0]])
  >>> above_chord(front).round(3).tolist()
  [0.0, 0.424, 0.0]
  """
  ends = values[[0, -1]]
  extent = np.abs(ends[1] - ends[0])
  scaled = (values - ends.min(0)) / np.where(extent > 0, extent, 1.0)
  a, b = scaled[0], scaled[-1]
  normal = np.array([abs(a[1] - b[1]), abs(b[0] - a[0])])
  length = np.linalg.norm(normal)
  return (scaled - a) @ normal / (length if length > 0 else 1.0)


def _fit(seen: Measured, link: str) -> list[surrogates.Quadratic]:
  return [surrogates.fit(seen.weights, v, link) for v in seen.values.T]


def _predict(
  fitted: list[surrogates.Quadratic], weights: np.ndarray
) -> np.ndarray:
  return np.stack([quadratic(weights) for quadratic in fitted], 1)


def _spread(
  front: np.ndarray, fitted: list[surrogates.Quadratic], count: int
) -> np.ndarray:
  """Return `count` vectors of a front, evenly by the order of its first value.

  A shorter front is filled up with its last vector: every number of mixes would
  be a program of its own.
  """
  order = front[np.argsort(_predict(fitted, front)[:, 0])]
  places = np.linspace(0, len(order) - 1, count).round().astype(int)
  return order[places]


def _line(seen: Measured, reference: np.ndarray) -> tuple[float, float]:
  volume = pareto_fronts.hypervolume(seen.values, reference)
  return float(len(seen.weights)), volume


def _front(
  seen: Measured,
  fitted: list[surrogates.Quadratic],
  history: np.ndarray,
) -> Front:
  """Return the measured mixes that are on the front, each once."""
  kept = np.flatnonzero(pareto_fronts.on_front(seen.values))
  _, first = np.unique(seen.weights[kept], axis=0, return_index=True)
  kept = kept[first]
  if seen.values.shape[1] == 1:
    kept = kept[:1]
  kept = kept[np.argsort(seen.values[kept, 0], kind="stable")]
  weights = seen.weights[kept]
  return Front(
    weights,
    seen.values[kept],
    seen.errors[kept],
    _predict(fitted, weights),
    len(seen.weights),
    history,
    fitted,
  )
