"""Training inside of a mask: optimisers that leave the rest bit for bit alone.

`optax.masked` and its kin act on leaves; here single entries are frozen.  What
is outside of the mask has no gradient and an update of exactly 0, so neither
momentum nor weight decay nor rounding moves it.

>>> import optax
>>> tx = train_only(optax.adamw(0.1), {"w": jnp.array([True, False])})
>>> params = {"w": jnp.ones(2)}
>>> updates, _ = tx.update({"w": jnp.ones(2)}, tx.init(params), params)
>>> updates["w"].tolist()
[-0.1..., -0.0]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from weightspace.sparse import masks
from weightspace.types import Params

Rule = Callable[[Params], Params]  # from parameters to their mask


class TrainOnly(NamedTuple):
  """State of `train_only`: the mask rides along, so members have their own."""

  mask: Params
  step: jax.Array  # []
  inner: Any


def cut(tree: Params, mask: Params) -> Params:
  """Return a tree of numbers with exact zeros outside of a mask.

  The zeros are -0.0, which leaves also a parameter of -0.0 as it is when added.
  """
  return jax.tree.map(
    lambda x, keep: jnp.where(keep, x, -jnp.zeros_like(x)), tree, mask
  )


def begin(
  tx: optax.GradientTransformation,
  mask: Params | Rule,
  params: Params,
  what: str,
) -> tuple[Params, Any]:
  """Return the mask, from a rule or as given, and the state of `tx`."""
  mask = mask(params) if callable(mask) else mask
  masks.check(params, mask, what)
  return jax.tree.map(jnp.asarray, mask), tx.init(params)


def cut_state(tx: Any, state: Any, mask: Params) -> Any:
  """Return an optimiser's state with exact zeros outside of a mask.

  Args:
    tx: the transformation that made the state.
    state: its parts that are shaped as the parameters are cut: moments.
    mask: booleans.
  """
  return optax.tree.map_params(
    tx, lambda x, keep: jnp.where(keep, x, jnp.zeros_like(x)), state, mask
  )


def train_only(
  tx: optax.GradientTransformation,
  mask: Params | Rule,
  every: int | None = None,
  rule: Rule | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Wrap an optimiser so that it changes nothing outside of a mask.

  Gradients outside are cut off before `tx` sees them and its updates there are
  exactly 0, so parameters outside stay as they are, bit by bit, under momentum
  and weight decay too.

  Args:
    tx: any optax transformation.
    mask: booleans, shaped as the parameters; or a function of the parameters
      that training starts from, so that members of a population differ.
    every: renew the mask by `rule` after so many steps; None keeps it.
    rule: `rule(params) -> mask`.  Moments of entries that stay in are kept,
      those of entries that leave are set to 0, as are those of new ones.  Use
      it with optimisers whose state has moments, not copies of parameters.

  Returns:
    An optax transformation; its update needs the parameters.

  Raises:
    ValueError: from `init`, at the first leaf that the mask does not fit; for
      `every` without `rule`, or below 1; from `update`, without parameters.

  >>> params = {"w": jnp.array([3.0, 4.0])}
  >>> tx = train_only(optax.sgd(1.0), {"w": jnp.array([False, True])})
  >>> tx.update(params, tx.init(params), params)[0]["w"].tolist()
  [-0.0, -4.0]

  Masks that are renewed as in the code of Liu et al. 2025, "LIFT the veil for
  the truth", https://arxiv.org/abs/2506.00772; as a wrapper ours.
  """
  if (every is None) != (rule is None) or (every is not None and every < 1):
    raise ValueError(
      f"train_only: every is {every} and rule {rule}, expected both or none,"
      " and at least 1 step"
    )
  inner = optax.with_extra_args_support(tx)

  def init(params: Params) -> TrainOnly:
    start, state = begin(inner, mask, params, "train_only")
    return TrainOnly(start, jnp.zeros((), jnp.int32), state)

  def renew(state: TrainOnly, params: Params) -> TrainOnly:
    new = rule(params) if rule else state.mask
    return state._replace(mask=new, inner=cut_state(inner, state.inner, new))

  def update(
    updates: Params, state: TrainOnly, params: Any = None, **extra: Any
  ) -> tuple[Params, TrainOnly]:
    if params is None:
      raise ValueError("train_only: params is None, expected the parameters")
    if every is not None:
      due = (state.step > 0) & (state.step % every == 0)
      state = jax.lax.cond(due, renew, lambda s, _: s, state, params)
    updates = cut(updates, state.mask)
    updates, new = inner.update(updates, state.inner, params, **extra)
    state = TrainOnly(state.mask, optax.safe_increment(state.step), new)
    return cut(updates, state.mask), state

  return optax.GradientTransformationExtraArgs(init, update)
