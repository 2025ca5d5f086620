"""Merging the experts of a mixture: fewer experts, the same router.

Experts are grouped around the most used ones by how alike the router treats
them, aligned, and averaged by how often they are used; the router keeps its
outputs, and `groups` says which merged expert each of them now means.

>>> params = {"block": {"experts": {"up": jnp.array([[[1.0]], [[5.0]]])}}}
>>> groups = {"block": np.array([0, 0])}
>>> use = {"block": jnp.array([3.0, 1.0])}
>>> small = merge_experts(params, groups, use)
>>> small.params["block"]["experts"]["up"].ravel().tolist()
[2.0]
>>> expand_experts(small)["block"]["experts"]["up"].ravel().tolist()
[2.0, 2.0]
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import means, trees
from weightspace.merge.core import checks
from weightspace.types import Params

NAME = "experts"  # the name under which a block keeps them
# The axis of hidden units in each leaf [experts, ...], which `perm` reorders.
HIDDEN = {"gate": 2, "up": 2, "down": 1}


class Merged(NamedTuple):
  """A model with fewer experts: `expand_experts` makes its parameters."""

  params: Params  # leaves under `block/experts` are [groups, ...]
  groups: dict[str, jax.Array]  # {block: [E] the group of each router output}


def group_experts(
  routing: Mapping[str, Mapping[str, Any]], share: float
) -> dict[str, np.ndarray]:
  """Return the group of each expert, around the most used ones.

  The `share` of all experts that are used most stay apart: frequencies count
  relative to the largest of their block, so every block keeps one at least.
  Every other expert joins the one of its block whose router logits have the
  largest cosine with its own.

  Args:
    routing: of `ws.statistics.routing`.
    share: of experts that stay, in [0, 1], over all blocks together.

  Returns:
    {block: [E]} numbers of groups, 0, 1, ... in the order of the experts that
    the groups are around.

  Raises:
    ValueError: for a share outside [0, 1], no block, or a NaN.

  >>> use = jnp.array([0.5, 0.1, 0.4])
  >>> alike = jnp.array([[1.0, 0.2, 0.1], [0.2, 1.0, 0.9], [0.1, 0.9, 1.0]])
  >>> found = {"a": {"frequency": use, "similarity": alike}}
  >>> group_experts(found, 0.7)["a"].tolist()
  [0, 1, 1]

  Li et al. 2024, "Merge, then compress: demystify efficient SMoE with hints
  from its routing policy", https://arxiv.org/abs/2310.01334.
  """
  checks.number("group_experts: share", share, 0, 1)
  if not routing:
    raise ValueError("group_experts: no block, expected those of routing")
  trees.check_finite(dict(routing), "group_experts")
  use = {b: np.asarray(found["frequency"]) for b, found in routing.items()}
  scaled = {b: f / max(float(f.max()), 1e-30) for b, f in use.items()}
  every = sorted(
    ((-value, b, e) for b, f in scaled.items() for e, value in enumerate(f)),
    key=lambda item: item[0],
  )
  count = max(len(use), int(np.floor(share * len(every) + 1e-6)))
  kept: dict[str, list[int]] = {b: [int(f.argmax())] for b, f in use.items()}
  for _, block, expert in every:
    if sum(map(len, kept.values())) < count and expert not in kept[block]:
      kept[block].append(expert)
  return {b: _joined(routing[b]["similarity"], kept[b]) for b in use}


def _joined(similarity: Any, kept: list[int]) -> np.ndarray:
  """Return the group of each expert, given those that stay apart."""
  kept = sorted(kept)
  groups = np.asarray(similarity)[:, kept].argmax(1)
  groups[kept] = np.arange(len(kept))
  return groups


def merge_experts(
  params: Params,
  groups: Mapping[str, Any],
  frequency: Mapping[str, Any] | None = None,
  *,
  perm: Mapping[str, Any] | None = None,
) -> Merged:
  """Average the experts of each group, W_g = sum_e f_e W_e / sum_e f_e.

  Args:
    params: of a mixture: leaves `block/experts/... [E, ...]`.
    groups: {block: [E]} of `group_experts`, or made by hand.
    frequency: {block: [E]} f_e, how often each expert is chosen, or what
      `ws.statistics.routing` gives; without, all count alike.  A group that is
      never chosen is averaged plainly.
    perm: {block: [E, hidden]} the alignment: hidden unit i of expert e becomes
      its unit perm[e, i] of before.  Without, experts are taken as they are.

  Returns:
    Merged.

  Raises:
    ValueError: for a block without experts, another number of groups or
      frequencies than of experts, groups that are not 0, 1, .., or rows of
      perm that are no permutation.

  >>> params = {"block": {"experts": {"up": jnp.arange(3.0)[:, None, None]}}}
  >>> small = merge_experts(params, {"block": np.array([0, 1, 1])})
  >>> small.params["block"]["experts"]["up"].ravel().tolist()
  [0.0, 1.5]

  Li et al. 2024, https://arxiv.org/abs/2310.01334.
  """
  named = {path: jnp.asarray(x) for path, x in trees.named(params).items()}
  index = {}
  for block, group in groups.items():
    group = np.asarray(group)
    under = [path for path in named if path.startswith(f"{block}/{NAME}/")]
    count = len(named[under[0]]) if under else 0
    _check_groups(block, group, count)
    weights = _weights(block, frequency, group)
    order = (
      None if perm is None or block not in perm else np.asarray(perm[block])
    )
    for path in under:
      x = named[path]
      if order is not None:
        x = _permuted(block, x, order, HIDDEN.get(path.split("/")[-1], 0))
      # One row of weights for each group.
      named[path] = jax.vmap(lambda w, x=x: means.contract(x, w))(
        weights
      ).astype(x.dtype)
    index[block] = jnp.asarray(group, jnp.int32)
  leaves = [named[path] for path in trees.names(params)]
  return Merged(jax.tree.unflatten(jax.tree.structure(params), leaves), index)


def _check_groups(block: str, group: np.ndarray, count: int) -> None:
  if not count:
    raise ValueError(f"merge_experts: {block!r} has no {NAME!r}")
  if group.shape != (count,):
    raise ValueError(
      f"merge_experts: {block!r} has groups {group.shape}, expected ({count},)"
    )
  if sorted(set(group.tolist())) != list(range(int(group.max()) + 1)):
    raise ValueError(
      f"merge_experts: {block!r} has groups {sorted(set(group.tolist()))},"
      " expected 0, 1, .. without gaps"
    )


def _weights(block: str, frequency: Any, group: np.ndarray) -> jax.Array:
  """Return [groups, E] weights, rows summing to one."""
  use = np.ones(len(group))
  if frequency is not None:
    found = frequency[block]
    found = found["frequency"] if isinstance(found, Mapping) else found
    use = np.asarray(found, np.float64)
    if use.shape != group.shape or not (use >= 0).all():
      raise ValueError(
        f"merge_experts: {block!r} has frequencies {use.tolist()}, expected"
        f" {len(group)} of at least 0"
      )
  member = group[None] == np.arange(group.max() + 1)[:, None]
  rows = member * use[None]
  empty = rows.sum(1, keepdims=True) <= 0
  rows = np.where(empty, member, rows)
  return jnp.asarray(rows / rows.sum(1, keepdims=True), jnp.float32)


def _permuted(
  block: str, x: jax.Array, order: np.ndarray, axis: int
) -> jax.Array:
  """Reorder the hidden units of each expert of [E, ...]."""
  if not axis:
    return x
  size = x.shape[axis]
  wanted = np.broadcast_to(np.arange(size), (len(x), size))
  if order.shape != wanted.shape or (np.sort(order, 1) != wanted).any():
    raise ValueError(
      f"merge_experts: perm of {block!r} is {order.shape}, expected {len(x)}"
      f" permutations of {size}"
    )
  shape = [len(x)] + [1] * (x.ndim - 1)
  shape[axis] = size
  return jnp.take_along_axis(x, jnp.asarray(order).reshape(shape), axis)


def expand_experts(merged: Merged) -> Params:
  """Return the parameters for the model as it was: [E, ...] under each block.

  Runs under jit: what is kept between calls is the small form.
  """
  named = trees.named(merged.params)
  for block, group in merged.groups.items():
    for path in named:
      if path.startswith(f"{block}/{NAME}/"):
        named[path] = named[path][group]
  leaves = list(named.values())
  return jax.tree.unflatten(jax.tree.structure(merged.params), leaves)


class Cost(NamedTuple):
  """What a mixture costs: bytes kept, and operations for a token on average."""

  bytes: int
  flops: float  # of the experts' products, all blocks together


def expert_cost(
  merged: Merged | Params, gates: Mapping[str, Any] | None = None
) -> Cost:
  """Count the memory of a model and the work of its experts.

  A token that is sent to two experts of one group needs it once.

  Args:
    merged: of `merge_experts`, or a mixture's parameters.
    gates: {block: [..., E]} of `ws.models.routing` (or that itself), zero for
      experts that are not chosen; None leaves the work out (NaN).

  >>> params = {"block": {"experts": {"up": jnp.ones((2, 3, 5))}}}
  >>> gates = {"block": jnp.array([[0.5, 0.5], [1.0, 0.0]])}
  >>> expert_cost(params, gates)
  Cost(bytes=120, flops=45.0)
  >>> small = merge_experts(params, {"block": np.array([0, 0])})
  >>> expert_cost(small, gates)
  Cost(bytes=68, flops=30.0)

  Ours.
  """
  whole = isinstance(merged, Merged)
  index = merged.groups if isinstance(merged, Merged) else {}
  params = merged.params if isinstance(merged, Merged) else merged
  leaves = trees.named(params)
  size = sum(x.size * x.dtype.itemsize for x in leaves.values())
  size += sum(x.size * x.dtype.itemsize for x in index.values()) if whole else 0
  if gates is None:
    return Cost(size, float("nan"))
  flops = 0.0
  for block, found in gates.items():
    picked = np.asarray(found["gates"] if isinstance(found, Mapping) else found)
    picked = picked.reshape(-1, picked.shape[-1]) > 0
    group = np.asarray(index.get(block, np.arange(picked.shape[-1])))
    used = np.stack([picked[:, group == g].any(1) for g in np.unique(group)], 1)
    one = sum(
      2 * x[0].size
      for path, x in leaves.items()
      if path.startswith(f"{block}/{NAME}/")
    )
    flops += one * float(used.sum(1).mean())
  return Cost(size, flops)
