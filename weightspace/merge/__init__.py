"""Merging: models in, one model out.

Recipes are chains of steps over a Stack; selections choose the coefficients of
a mean from a score.

>>> import weightspace as ws
>>> stack = ws.stack([{"w": 1.0}, {"w": 3.0}])
>>> ws.merge.uniform()(stack)["w"].item()
2.0
"""

from weightspace.merge.around_base import model_stock, nearswap
from weightspace.merge.averages import linear, uniform, wise_ft
from weightspace.merge.directions import karcher, multislerp
from weightspace.merge.learned_soup import Learned, learned
from weightspace.merge.provenance import guard
from weightspace.merge.recipe import Recipe, chain, on_deltas, run
from weightspace.merge.soups import Selection, Trial, greedy, pruned
from weightspace.merge.spherical import nuslerp, slerp
from weightspace.merge.steps import At, Step, reduction
from weightspace.mixes import evaluate_mixes

RECIPES = {
  "karcher": karcher,
  "linear": linear,
  "model_stock": model_stock,
  "multislerp": multislerp,
  "nearswap": nearswap,
  "nuslerp": nuslerp,
  "slerp": slerp,
  "uniform": uniform,
  "wise_ft": wise_ft,
}

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
  "karcher",
  "learned",
  "linear",
  "model_stock",
  "multislerp",
  "nearswap",
  "nuslerp",
  "on_deltas",
  "pruned",
  "reduction",
  "run",
  "slerp",
  "uniform",
  "wise_ft",
]
