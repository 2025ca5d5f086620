"""Studies of mixtures of experts: which merges keep what the mixture knows.

>>> sorted(STUDIES)
['mixtures']
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import text
from experiments.run import progress, runs
from weightspace.types import Params


def mixtures(run: runs.Run) -> text.Lines:
  """Halve the experts of a language model, aligned or not, weighted or not."""
  config = run.config
  parts, model, loss = text.language(run)
  limits = (config.examples, config.validation, config.test)
  train, val, test = (
    jax.tree.map(
      lambda x, n=n: jnp.asarray(x[:n]), text.windows(p, config.length)
    )
    for p, n in zip(parts, limits)
  )

  def balanced(params: Any, batch: Any) -> jax.Array:
    even = ws.models.balance(ws.models.routing(model, params, batch["x"]))
    return loss(params, batch) + config.balance * even

  start = text.starts(model, train["x"], run.key, config.seeds)
  tx = optax.adam(config.rate)
  kept, _ = text.trajectory(
    run, balanced, start, tx, train, key=run.key, part=config.fine
  )
  scored = jax.jit(lambda params: loss(params, test).mean())
  with progress.bar("merged", config.seeds) as advance:
    for seed, params in enumerate(ws.unstack(kept[-1])):
      use = ws.statistics.routing(model, params, val)
      gates = ws.models.routing(model, params, test["x"][:64])
      groups = ws.merge.group_experts(use, config.share)
      perm = {b: alignment(params, b, g) for b, g in groups.items()}
      plain: dict[str, Any] = {"all experts": (None, None, False)}
      for name, order in (("as they are", None), ("aligned", perm)):
        plain[f"mean, {name}"] = (None, order, True)
        plain[f"by frequency, {name}"] = (use, order, True)
      for name, (weights, order, merge) in plain.items():
        small: Any = params
        if merge:
          small = ws.merge.merge_experts(params, groups, weights, perm=order)
        yield _line(seed, name, scored, small, gates)
      yield _compressed(run, seed, scored, small, gates)
      advance(seed + 1)


def alignment(params: Params, block: str, groups: np.ndarray) -> np.ndarray:
  """Return orders of hidden units: each expert aligned to its group's first."""
  tree: Any = params
  for name in block.split("/"):
    tree = tree[name]
  experts = ws.unstack(tree["experts"])

  def apply(p: Any, x: jax.Array) -> jax.Array:
    return (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]

  rows = jnp.zeros((1, experts[0]["up"].shape[0]))
  axes = ws.match.trace_axes(apply, experts[0], rows)
  orders = []
  for expert, group in zip(experts, groups):
    first = experts[int(np.flatnonzero(groups == group)[0])]
    found = ws.match.match_weights(axes, first, expert)
    orders.append(np.asarray(next(iter(found.perm.values()))))
  return np.stack(orders)


def _line(
  seed: int, name: str, scored: Any, small: Any, gates: Any
) -> dict[str, Any]:
  whole = small
  if isinstance(small, ws.merge.Merged):
    whole = ws.merge.expand_experts(small)
  cost = ws.merge.expert_cost(small, gates)
  return {
    "seed": seed,
    "method": name,
    "test loss": float(scored(whole)),
    "stable rank": _rank(small),
    "KiB": cost.bytes / 1024,
    "kFLOP a token": cost.flops / 1000,
  }


def _rank(small: Any) -> float:
  params = small.params if isinstance(small, ws.merge.Merged) else small
  ranks = [
    np.asarray(ws.merge.stable_rank(x)).mean()
    for path, x in ws.trees.named(params).items()
    if "experts/" in path
  ]
  return float(np.mean(ranks))


def _compressed(
  run: runs.Run, seed: int, scored: Any, small: Any, gates: Any
) -> dict[str, Any]:
  """Return the line of the last merge, its experts of low rank plus sparse."""
  config = run.config
  kept = ws.merge.low_rank_sparse(
    small.params, config.rank, config.keep, only="experts"
  )
  back = small._replace(params=ws.merge.dense(kept, small.params))
  line = _line(seed, "by frequency, aligned, compressed", scored, back, gates)
  return line | {"KiB": ws.merge.stored(kept) / 1024}


STUDIES = {"mixtures": mixtures}
