"""Recipes that take whole models one by one, in the order of their arrival.

A recipe of this protocol is a Fold over models: its state depends on all
leaves of the models that came, so it cannot run leaf by leaf as a Recipe does.
`RECIPES` may hold either kind; both are called on a Stack in the same way.

>>> from weightspace.merge.methods.opcm import opcm
>>> isinstance(opcm(), OneByOne), hasattr(opcm(), "steps")
(True, False)
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.types import Fold, Key, Params, Stack


@runtime_checkable
class OneByOne(Protocol):
  """A Fold over models that may also be called on a Stack of them."""

  @property
  def init(self) -> Callable[[Params], Any]:
    """Return the state before the first model, from the base."""

  @property
  def update(self) -> Callable[[Any, Params], Any]:
    """Return the state after one more model."""

  @property
  def value(self) -> Callable[[Any], Params]:
    """Return the merged model."""

  @property
  def needs(self) -> tuple[str, ...]:
    """Names that must be given in a call, as `Recipe.needs`."""

  def __call__(
    self, stack: Stack, *, base: Params | None = None, key: Key | None = None
  ) -> Params:
    """Merge the models of a Stack, from the first to the last."""


def over_stack(
  name: str, fold: Fold, stack: Stack, base: Params | None
) -> Params:
  """Fold the models of a Stack in their order.

  Args:
    name: of the recipe, for its errors.
    fold: over models; `init` takes the base.
    stack: leaves [M, ...].
    base: what the models were fine-tuned from.

  Raises:
    ValueError: without a base, or naming the first path that does not fit it.

  >>> total = Fold(lambda b: b, lambda s, x: s + x, lambda s: s)
  >>> over_stack("total", total, jnp.array([1.0, 2.0]), jnp.array(0.0)).item()
  3.0
  """
  if base is None:
    raise ValueError(f"{name}: needs base=, which was not given")
  count = trees.size(stack)
  trees.check_same(trees.one_model(stack), base, "base")
  trees.check_finite(stack, "stack", stacked=True)
  state = fold.init(base)
  if not trees.concrete(stack, base):  # one program for all models
    arrays = jax.tree.map(jnp.asarray, stack)
    return fold.value(
      jax.lax.scan(lambda s, x: (fold.update(s, x), None), state, arrays)[0]
    )
  for index in range(count):
    model = jax.tree.map(lambda x, index=index: jnp.asarray(x)[index], stack)
    state = fold.update(state, model)
  return fold.value(state)
