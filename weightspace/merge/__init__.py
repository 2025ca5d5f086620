"""Merging: models in, one model out.

Recipes are chains of steps over a Stack; selections choose the coefficients of
a mean from a score.

>>> import weightspace as ws
>>> stack = ws.stack([{"w": 1.0}, {"w": 3.0}])
>>> ws.merge.uniform()(stack)["w"].item()
2.0
"""

from weightspace.merge.averages import linear, uniform, wise_ft
from weightspace.merge.learned_soup import Learned, learned
from weightspace.merge.provenance import guard
from weightspace.merge.recipe import Recipe, chain, on_deltas, run
from weightspace.merge.soups import Selection, Trial, greedy, pruned
from weightspace.merge.steps import At, Step, reduction
from weightspace.mixes import evaluate_mixes

RECIPES = {"linear": linear, "uniform": uniform, "wise_ft": wise_ft}

__all__ = [
  "RECIPES",
  "At",
  "Learned",
  "Recipe",
  "Selection",
  "Step",
  "Trial",
  "chain",
  "evaluate_mixes",
  "greedy",
  "guard",
  "learned",
  "linear",
  "on_deltas",
  "pruned",
  "reduction",
  "run",
  "uniform",
  "wise_ft",
]
