"""Every shared type, on one page.

A model is a pytree (`Params`); a population is the same pytree with a leading
model axis M on every leaf (`Stack`); whatever streams is a `Fold`.  Everything
else in the library is a function between these.

>>> total = Fold(lambda x: 0.0 * x, lambda s, x: s + x, lambda s: s)
>>> total.value(total.update(total.update(total.init(1.0), 2.0), 3.0))
5.0
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

Params = Any  # a pytree of arrays: the weights of one model
Stack = Any  # the same pytree with a leading model axis [M, ...] on each leaf
Weights = Any  # [M], a prefix tree of [M] arrays, or a whole Stack
Data = Any  # a pytree of arrays with a leading example axis [N, ...]
State = Any  # what a Fold carries from item to item
Key = jax.Array  # a typed PRNG key, as jax.random.key makes it

Apply = Callable[..., jax.Array]  # apply(params, x) -> outputs
Loss = Callable[[Params, Data], jax.Array]  # lower is better: [] or [N]
Score = Callable[[Params, Data], jax.Array]  # higher is better: [] or [N]


class Fold(NamedTuple):
  """A reduction over whatever streams: models, batches, leaves.

  `value(update(... update(init(like), item_0) ..., item_n))`; `init` takes an
  example of what is folded.  It is a pure function with the carry first, so it
  runs under `lax.scan` and in a Python loop alike.  `merge(state, state)` joins
  two parts of a stream and is None where no such law holds.
  """

  init: Callable[[Any], State]
  update: Callable[[State, Any], State]
  value: Callable[[State], Any]
  merge: Callable[[State, State], State] | None = None


class Path(Protocol):
  """A curve in weight space: a pytree struct with `path(t) -> Params`."""

  def __call__(self, t: jax.Array | float) -> Params: ...


class Member(NamedTuple):
  """Where a member of a population came from: kept beside its parameters.

  `start` is `trees.fingerprint` of the parameters that training began from;
  members may be averaged as they are only where it agrees.
  """

  start: str
  seed: int
  data: str = ""
  recipe: str = ""
