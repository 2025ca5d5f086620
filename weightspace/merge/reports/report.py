"""What a merge did to the weights, per leaf and in total.

The recipe is run step by step and looked at from outside: what reaches the step
that reduces over the models is compared with the task vectors as they came, and
the merged model with the base.

>>> import weightspace as ws
>>> models, start = {"w": jnp.array([[4, 1.0], [2, -3]])}, {"w": jnp.zeros(2)}
>>> found = ws.merge.report(ws.merge.ties(0.5), models, base=start)
>>> found.total["kept"], found.total["conflict"]
(0.5, 0.0)
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from weightspace import figures, trees
from weightspace.merge.core import engine
from weightspace.merge.core.bound import bind
from weightspace.merge.core.recipe import Recipe, check
from weightspace.merge.reports import tables, warnings
from weightspace.parametrize import leaf
from weightspace.types import Key, Params, Stack

COLUMNS = (
  "kept energy conflict sign_ties ties cosine norm_before norm_after scale"
).split()
SHOWN = 30  # leaves in the figure, those of the largest task vectors
WORTH_TELLING = 1e-3  # share of ties from which on they are flagged


class Report(NamedTuple):
  """What a merge did; `leaves` and `total` have these numbers.

  kept: share of a task vector's entries that reach the reduction, not zero;
    mean over the models that have any.
  energy: share of |tau|^2 in those entries, as they came.
  conflict: share of entries with both signs, of those with two models or more.
  sign_ties: share of entries that cancel exactly, of those.
  ties: share of entries at a threshold of magnitude, beyond the one that sets
    it; NaN where no step cuts by magnitude.
  cosine: between task vectors, mean over pairs; `cosines` [M, M] has them all.
  norm_before: |tau|, mean over models; `norms` has each.
  norm_after: |merged - base|.
  scale: of the sum of task vectors, that is nearest to the merged one: 1 / M
    for a mean, lambda for task arithmetic.

  Without a base the models take the place of task vectors.
  """

  leaves: dict[str, dict[str, Any]]
  total: dict[str, Any]
  flags: list[str]

  def text(self) -> str:
    """Return a table and the flags."""
    flags = [f"! {flag}" for flag in self.flags]
    total = {name: self.total[name] for name in COLUMNS}
    return "\n".join([tables.text(self.leaves, total), *flags])

  def json(self) -> str:
    """Return {"leaves": .., "total": .., "flags": ..}; undefined is null."""
    return tables.dump(self._asdict())

  def figure(self) -> Any:
    """Return a matplotlib Figure, or None where it is not installed."""
    return figures.figure(
      _shares(self.leaves),
      _norms(self.leaves),
      _cosines(self.total),
      width=11.0,
    )


def report(
  recipe: Recipe,
  stack: Stack,
  *,
  base: Params | None = None,
  key: Key | None = None,
  **statistics: Any,
) -> Report:
  """Run a recipe step by step and say what it did.

  Args:
    recipe: any Recipe; what each step needs is given as in a call.
    stack: leaves [M, ...].
    base: what the models were fine-tuned from; recipes that do not need it are
      looked at relative to it all the same.
    key: for recipes that draw masks.
    **statistics: what else the recipe needs.

  Returns:
    Report: numbers, and flags for steps that change nothing (a density left at
    1), ties at a threshold, sign ties, a base that is not used or that is one
    of the models, and equal models.

  Raises:
    ValueError: as the recipe does; or when no leaf has real numbers.

  >>> import weightspace as ws
  >>> models, start = {"w": jnp.array([[3.0, 1.0]])}, {"w": jnp.ones(2)}
  >>> found = ws.merge.report(ws.merge.ties(1.0), models, base=start)
  >>> found.flags
  ["'trim' changes nothing: is its density or rate left at its default?"]

  Ours.
  """
  recipe = check(recipe, "report")
  stack, base = leaf.plain(stack, stacked=True), leaf.plain(base)
  trees.check_finite(stack, "stack", stacked=True)
  bound = bind(recipe.steps, stack, base=base, key=key, statistics=statistics)
  leaves = {path: jnp.asarray(x) for path, x in trees.named(stack).items()}
  bound = bound.measure(bound.over(leaves))
  sums: dict[str, warnings.Sums] = {}
  cuts: dict[str, list[warnings.Cut]] = {}
  for path, x in leaves.items():
    if not jnp.issubdtype(x.dtype, jnp.floating):
      continue
    steps = bound.leaf(path)
    stages = engine.stages(steps, x)
    sums[path] = warnings.leaf(steps.chain, stages, steps.at.base)
    for name, cut in warnings.cuts(steps.chain, stages).items():
      cuts.setdefault(name, []).append(cut)
  dtypes = {path: x.dtype for path, x in leaves.items()}
  return summed([recipe], sums, cuts, dtypes, base is not None)


def summed(
  recipes: Sequence[Recipe],
  sums: Mapping[str, warnings.Sums],
  cuts: Mapping[str, list[warnings.Cut]],
  dtypes: Mapping[str, Any],
  based: bool,
) -> Report:
  """Return the report of leaves that were looked at one by one.

  Args:
    recipes: that merged them.
    sums: of each leaf.
    cuts: by the name of a step, those of each leaf.
    dtypes: of the leaves.
    based: whether a base was given.

  Raises:
    ValueError: when there are no leaves.
  """
  if not sums:
    raise ValueError("report: no leaf of real numbers, expected one")
  whole = warnings.Sums(*(sum(each) for each in zip(*sums.values())))
  ties = {name: warnings.tie_share(found) for name, found in cuts.items()}
  known = [share for share in ties.values() if np.isfinite(share)]
  total = warnings.row(whole) | {"ties": max(known, default=float("nan"))}
  flags = [
    *_idle(cuts),
    *_ties(ties, dtypes),
    *_sign_ties(recipes, total),
    *_same(total, based, any("base" in recipe.needs for recipe in recipes)),
  ]
  rows = {path: warnings.row(found) for path, found in sums.items()}
  return Report(rows, total, flags)


def _idle(cuts: Mapping[str, list[warnings.Cut]]) -> list[str]:
  return [
    f"{name!r} changes nothing: is its density or rate left at its default?"
    for name, found in cuts.items()
    if not any(cut.changes for cut in found)
  ]


def _ties(ties: Mapping[str, float], dtypes: Mapping[str, Any]) -> list[str]:
  narrow = {str(dtype) for dtype in dtypes.values() if dtype.itemsize < 4}
  why = f" ({', '.join(sorted(narrow))} has few magnitudes)" if narrow else ""
  return [
    f"{name!r}: {share:.2%} of the entries tie at the threshold{why}; all are"
    " kept, or the first with exact=True"
    for name, share in ties.items()
    if share > WORTH_TELLING
  ]


def _sign_ties(
  recipes: Sequence[Recipe], total: Mapping[str, Any]
) -> list[str]:
  kinds = {step.kind for recipe in recipes for step in recipe.steps}
  if "election" not in kinds or not total["sign_ties"] > WORTH_TELLING:
    return []
  return [
    f"{total['sign_ties']:.2%} of the contested entries add up to zero: their"
    " sign is that of the tie rule"
  ]


def _same(total: Mapping[str, Any], given: bool, needed: bool) -> list[str]:
  flags = []
  if given and not needed:
    flags.append("base= was given, but the recipe does not use it")
  norms, cosines = total["norms"], total["cosines"]
  for m, size in enumerate(norms):
    if given and not size:
      flags.append(f"model {m} equals the base, which is so averaged in")
    for other in range(m):
      equal = size and norms[other] == size and cosines[m][other] > 1 - 1e-12
      if equal:
        flags.append(f"models {other} and {m} are equal")
  return flags


def _shares(leaves: Mapping[str, Mapping[str, Any]]) -> figures.Panel:
  """Draw kept share, energy and sign conflict by leaf."""
  largest = sorted(leaves, key=lambda path: -leaves[path]["norm_before"])
  names = [path for path in leaves if path in largest[:SHOWN]]

  def draw(axes: Any) -> None:
    for place, column in enumerate(("kept", "energy", "conflict")):
      values = [leaves[path][column] for path in names]
      places = np.arange(len(names)) + 0.25 * (place - 1)
      colour = figures.COLOURS[place]
      axes.barh(places, values, 0.22, color=colour, label=column)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set(xlabel="share", title="what reaches the merge", xlim=(0, 1.4))
    axes.set_xticks([0, 0.5, 1])
    axes.legend(fontsize=8, loc="upper right")

  return draw


def _norms(leaves: Mapping[str, Mapping[str, Any]]) -> figures.Panel:
  """Draw the norm of the merged task vector over those before."""

  def draw(axes: Any) -> None:
    before = [row["norm_before"] for row in leaves.values()]
    after = [row["norm_after"] for row in leaves.values()]
    axes.plot(before, after, "o", color=figures.COLOURS[0], ms=5, alpha=0.7)
    axes.axline((0, 0), slope=1, color=figures.INK, lw=0.7, ls=":")
    axes.set(xlabel="norm before", ylabel="norm after", title="task vectors")

  return draw


def _cosines(total: Mapping[str, Any]) -> figures.Panel:
  """Draw the cosines between task vectors."""

  def draw(axes: Any) -> None:
    values = np.asarray(total["cosines"])
    axes.imshow(values, vmin=-1, vmax=1, cmap="RdBu")
    for (i, j), value in np.ndenumerate(values):
      colour = "#ffffff" if abs(value) > 0.6 else "#111111"  # on any page
      place = {"ha": "center", "va": "center"}
      axes.text(j, i, f"{value:.2f}", fontsize=8, color=colour, **place)
    axes.set_xticks(range(len(values)))
    axes.set_yticks(range(len(values)))
    axes.set(xlabel="model", title="cosines")

  return draw
