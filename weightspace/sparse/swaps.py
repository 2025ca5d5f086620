"""Swaps: the best of what a mask leaves out for the worst of what it keeps.

>>> scores, mask = jnp.array([1.0, 0.5, 2.0]), jnp.array([True, True, False])
>>> swap(scores, mask, 1.0).tolist()
[True, False, True]
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.numerics import top_k
from weightspace.sparse import masks
from weightspace.types import Params

FORMS = ("cosine", "quartic", "released")


def swap(scores: Params, mask: Params, rate: Any) -> Params:
  """Let the best entries that are left out change places with the worst kept.

  An entry that is left out comes in question if it is among the k largest
  scores of its leaf, k of which are kept; as many kept ones are not.  Of these
  p pairs ceil(rate p) change places, the largest scores in for the smallest.
  Equal scores stay where they are.

  Args:
    scores: a tree of real numbers.
    mask: booleans of the same shapes.
    rate: a share in [0, 1] of the pairs in question; 0 never changes, 1 gives
      the k largest.  May be traced.

  Returns:
    Booleans; the counts of all leaves are those of `mask`.

  Raises:
    ValueError: for a rate out of range or NaN scores (on concrete values), or
      at the first leaf that the mask does not fit.

  >>> scores, mask = jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.arange(4) < 2
  >>> swap(scores, mask, 0.5).tolist()
  [False, True, False, True]

  Zhang et al. 2021, "Lottery jackpots exist in pre-trained models",
  https://arxiv.org/abs/2104.08700, and its code, which at rate 0 still swaps a
  pair that is alone in question.
  """
  masks.check(scores, mask, "swap")
  trees.check_finite(scores, "swap")
  if trees.concrete(rate) and not (np.ndim(rate) == 0 and 0 <= rate <= 1):
    raise ValueError(f"swap: rate is {rate}, expected a share in [0, 1]")
  return jax.tree.map(lambda s, keep: _swap(s, keep, rate), scores, mask)


def _swap(scores: jax.Array, mask: jax.Array, rate: Any) -> jax.Array:
  mask = jnp.asarray(mask)
  words = top_k.words(jnp.asarray(scores)).reshape(1, -1)
  keep = mask.reshape(1, -1)
  kept = jnp.sum(keep, dtype=jnp.int32)
  # Of equal scores those that are kept come first: a part of their own.
  inside, outside = top_k.first([words, words], kept, [keep, ~keep])
  pairs = jnp.sum(outside, dtype=jnp.int32)
  count = jnp.ceil(rate * pairs - 1e-6).astype(jnp.int32)
  (enter,) = top_k.first([words], count, [outside])
  (leave,) = top_k.first([~words], count, [keep & ~inside])
  return ((keep & ~leave) | enter).reshape(mask.shape)


def short_restriction(steps: int, form: str = "cosine") -> Callable[[Any], Any]:
  """Return the rate of `swap` by step: fewer and fewer masks change.

  Args:
    steps: of the search.
    form: "cosine", (1 + cos(pi t / steps)) / 2, of the paper's code for
      ImageNet; "quartic", (1 - t / steps)^4; or "released", the ceiling of
      that, as the code for CIFAR has it: 1 until the end, no restriction.

  Raises:
    ValueError: for no steps or another form.

  >>> rate = short_restriction(10, "quartic")
  >>> round(rate(5), 4)
  0.0625

  Zhang et al. 2021, https://arxiv.org/abs/2104.08700; both codes.
  """
  if form not in FORMS or steps < 1:
    raise ValueError(
      f"short_restriction: {steps} steps, form {form!r}, expected at least 1"
      f" and one of {FORMS}"
    )

  def rate(step: Any) -> Any:
    if form == "released":
      return 1.0 + 0.0 * step
    if form == "cosine":
      return 0.5 * (1.0 + jnp.cos(np.pi * step / steps))
    return (1.0 - step / steps) ** 4

  return rate
