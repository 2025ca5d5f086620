"""Averages of a run's checkpoints and of several runs.

>>> def head(value): return {"body": jnp.array(value), "head": jnp.array(1.0)}
>>> average_runs([head(1.0), head(3.0)], head="head")["body"].item()
2.0
"""

import fnmatch
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.average.in_time import streams, traces
from weightspace.types import Fold, Params, Stack

HEADS = ("shared", "own", "mean")
STATES = ("keep", "reset", "average")


def average_runs(
  models: Sequence[Params], head: str, heads: str = "shared"
) -> Any:
  """Average one model of each run, with a rule for their heads.

  Runs from one start may be averaged; heads that were initialised apart may
  not, since their classes are read from features in unrelated ways.  So train
  the runs on one frozen head ("shared").

  Args:
    models: R trees: the last checkpoint, or the mean of the checkpoints, of
      each run.
    head: pattern of the heads' paths, as in `head/*`.
    heads: "shared" (they must be equal), "own" (the body is averaged and each
      run keeps its head), or "mean" (heads are averaged too, whatever they
      are).

  Returns:
    Params, or for "own" a Stack [R, ...].

  Raises:
    ValueError: for another rule, a pattern that matches nothing, models of
      different structure, or shared heads that differ, naming the run.

  >>> models = [{"w": 1.0, "head": 0.0}, {"w": 2.0, "head": 4.0}]
  >>> average_runs(models, "head", heads="own")["head"].tolist()
  [0.0, 4.0]

  Schmidt et al. 2023, "Free lunch: robust cross-lingual transfer via model
  checkpoint averaging", https://arxiv.org/abs/2305.16834.
  """
  if heads not in HEADS:
    raise ValueError(f"average_runs: heads is {heads!r}, expected {HEADS}")
  stacked = trees.stack(models)
  names = trees.names(stacked)
  chosen = {path for path in names if fnmatch.fnmatch(path, head)}
  if not chosen:
    raise ValueError(
      f"average_runs: {head!r} matches no path of {', '.join(names)}"
    )
  mean = means.weighted_mean(stacked)
  if heads == "mean":
    return mean
  count = trees.size(stacked)
  if heads == "own":
    return trees.map_named(
      lambda path, x, m: (
        x if path in chosen else jnp.broadcast_to(m[None], x.shape)
      ),
      stacked,
      mean,
    )
  leaves = trees.named(stacked)
  for path in sorted(chosen):
    differs = [
      run
      for run in range(1, count)
      if not np.array_equal(leaves[path][run], leaves[path][0])
    ]
    if differs:
      raise ValueError(
        f"average_runs: {path!r} of run {differs[0]} differs from run 0,"
        " expected one shared head (or heads='own')"
      )
  return mean


def weight_ensemble(period: int) -> Fold:
  """Return ZSCL's fold: the mean of the start and of every `period`-th model.

  (theta_0 + theta_I + theta_2I + ...) / (n + 1): the start counts once.

  >>> fold = weight_ensemble(2)
  >>> state = fold.init({"w": jnp.array(0.0)})
  >>> for n in range(1, 5):
  ...   state = fold.update(state, {"w": jnp.array(float(n))})
  >>> fold.value(state)["w"].item()  # of 0, 2 and 4
  2.0

  Zheng et al. 2023, "Preventing zero-shot transfer degradation in continual
  learning of vision-language models", https://arxiv.org/abs/2303.06628; that
  the start counts is from its code.
  """
  mean = traces.running_mean(with_start=True)
  return streams.every(period, mean, start=period - 1, anew=False)


def optimizer_state(rule: str, tx: Any, params: Params, states: Stack) -> Any:
  """Return the optimiser's state to go on with after averaging.

  Args:
    rule: "keep" the state of the last checkpoint, "reset" to
      `tx.init(params)`, or "average" the moments as the weights were averaged;
      counts are those of the last.
    tx: the optax transformation.
    params: the average.
    states: of the checkpoints averaged, [M, ...].

  Returns:
    The state for `params`.

  Raises:
    ValueError: for another rule.

  >>> import optax
  >>> states = {"m": jnp.array([1.0, 3.0]), "count": jnp.array([5, 7])}
  >>> kept = optimizer_state("average", optax.sgd(0.1), {}, states)
  >>> kept["m"].item(), kept["count"].item()
  (2.0, 7)

  Ours: papers on averaging reset or do not say.
  """
  if rule not in STATES:
    raise ValueError(f"optimizer_state: rule is {rule!r}, expected {STATES}")
  if rule == "reset":
    return tx.init(params)
  last = jax.tree.map(lambda x: x[-1], states)
  if rule == "keep":
    return last
  # Integer leaves of a mean are those of the first model: here, the last.
  return means.weighted_mean(jax.tree.map(lambda x: x[::-1], states))
