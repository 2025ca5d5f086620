"""Blocks and what they hold, matched together: heads with their inner units.

For every pair of blocks the inner units are matched first; what that gains is
the gain of the pair, and one assignment of blocks follows.

>>> grams = np.array([[1.0, 5.0], [4.0, 1.0]])[..., None, None]
>>> pairs(grams, "scipy")[0].tolist()
[[1.0, 5.0], [4.0, 1.0]]
"""

import time
from typing import Any

import numpy as np

from weightspace.match.solvers import assignment
from weightspace.match.solvers.grams import gram
from weightspace.match.solvers.matching_plan import Pair, Plan
from weightspace.symmetry.axes import Perm, base, blocks, shape


def step(models: Pair, name: str) -> tuple[Perm, float]:
  """Return the best change of blocks and of what they hold, and its gain.

  Where a piece has two names that lie in the block (queries: groups and inner
  units) it is counted for the innermost, the other staying as it is.
  """
  plan, solver = models.plan, models.solver
  began = time.perf_counter()
  direct, inner = _gains(plan, models.a, models.b, name)
  middle = time.perf_counter()
  models.seconds["products"] += middle - began
  count, outer = direct.shape[0], shape(plan.axes, name)[:-1]
  change: dict[str, list[Any]] = {name: []} | {m: [] for m in inner}
  total = 0.0
  for row in range(count):
    scores, best = direct[row].astype(np.float64), {}
    for m, grams in inner.items():
      values, best[m] = pairs(grams[row], solver)
      scores = scores + values
    stay = direct[row].diagonal().astype(np.float64) + sum(
      np.einsum("hhii->h", g[row], dtype=np.float64) for g in inner.values()
    )
    moves = assignment.solve(scores, solver)
    kept, gain = _keep(scores, stay, moves)
    total += gain
    change[name].append(kept)
    for m, grams in inner.items():
      change[m].append(_rows(grams[row], best[m], kept))
  models.seconds["assignment"] += time.perf_counter() - middle
  if not total > 0:
    return {}, 0.0
  result = {name: np.stack(change[name]).reshape(*outer, -1)}
  for m in inner:
    rows = np.stack(change[m])
    result[m] = rows.reshape(*outer, *rows.shape[1:])
  return result, total


def pairs(grams: np.ndarray, solver: str) -> tuple[np.ndarray, np.ndarray]:
  """Match the units of every pair of blocks.

  Args:
    grams: [H, H, n, n].
    solver: of the assignments.

  Returns:
    The gains [H, H], and for each pair the places [H, H, n].
  """
  moves = assignment.solve(grams, solver)
  picked = np.take_along_axis(np.asarray(grams), moves[..., None], -1)[..., 0]
  return picked.sum(-1, dtype=np.float64), moves


def _keep(
  scores: np.ndarray, stay: np.ndarray, moves: np.ndarray
) -> tuple[np.ndarray, float]:
  """Leave blocks that gain nothing where they are, as `keep_ties` does."""
  square = scores.copy()
  n = np.arange(len(stay))
  square[n, n] = stay
  kept, gain = assignment.keep_ties(square.astype(np.float32), moves)
  # A block that stays may still gain by its inner units.
  same = kept == n
  return kept, gain + float((scores[n, n] - stay)[same].clip(0).sum())


def _rows(grams: np.ndarray, best: np.ndarray, kept: np.ndarray) -> np.ndarray:
  """Return the inner places of each block; where blocks stay, ties stay."""
  rows = best[np.arange(len(kept)), kept]
  for h, place in enumerate(kept):
    if place == h:
      rows[h] = assignment.keep_ties(grams[h, h], rows[h])[0]
  return rows


def _gains(plan: Plan, a: Any, b: Any, name: str) -> tuple[Any, dict[str, Any]]:
  """Return [rows, H, H] of pieces without inner units, and of each with them.

  The rows are the fixed or outer blocks that the name lies in itself.
  """
  count = plan.axes.sizes[name]
  depth = len(blocks(name))
  direct: Any = None
  inner: dict[str, Any] = {}
  for k, axis in plan.places[name]:
    labels = plan.pieces[k].labels
    known = [None if n is None else base(n) for n in labels]
    batch = [known.index(block) for block in blocks(name)]
    held = [m for m in labels if m in plan.inner[name]]
    if not held:
      part = np.asarray(gram(a[k], b[k], axis, batch))
      part = part.reshape(-1, count, count)
      direct = part if direct is None else direct + part
      continue
    # Only what lies in this block and nothing deeper can have an order a pair.
    held.sort(key=lambda m: len(blocks(m)) - depth)
    last = next(
      (m for m in reversed(held) if len(blocks(m)) == depth + 1), None
    )
    if last is None:
      continue
    part = _cross(a[k], b[k], axis, labels.index(last), batch)
    inner[last] = part if last not in inner else inner[last] + part
  rows = next(iter(inner.values())).shape[0] if inner else 1
  if direct is None:
    direct = np.zeros((rows, count, count), np.float32)
  return direct, inner


def _cross(
  x: Any, y: Any, axis: int, unit: int, batch: list[int]
) -> np.ndarray:
  """Return [rows, H, H, n, n]: the units of every two blocks."""
  first = (*batch, axis, unit)
  x, y = (np.moveaxis(np.asarray(z), first, range(len(first))) for z in (x, y))
  rows = int(np.prod(x.shape[: len(batch)]))
  h, n = x.shape[len(batch)], x.shape[len(batch) + 1]
  x, y = x.reshape(rows, h * n, -1), y.reshape(rows, h * n, -1)
  return (
    (x @ y.swapaxes(-1, -2)).reshape(rows, h, n, h, n).transpose(0, 1, 3, 2, 4)
  )
