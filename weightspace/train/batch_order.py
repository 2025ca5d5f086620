"""The batches of an epoch, and the keys of its noise, member by member.

>>> key = jax.random.key(0)
>>> indices, keys = draw(key, [0, 1], 0, count=10, batch_size=4)
>>> indices.shape, keys.shape
((2, 2, 4), (2, 2))
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.types import Key


def draw(
  key: Key,
  seeds: Sequence[int],
  epoch: int,
  *,
  count: int,
  batch_size: int,
  same_order: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Draw the batches and the noise keys of one epoch.

  Each member has a permutation of its own, the order of N random 64-bit words
  of a Philox stream keyed by (key, epoch, seed): NumPy sorts them ten times
  faster than XLA on the CPU, whose sort would take 4% of a small MLP's epoch.
  Batches are full: the last N mod B examples of a permutation are left out in
  this epoch, others in the next.

  Args:
    key: of the whole run.
    seeds: M whole numbers.
    epoch: which epoch.
    count: N, the number of examples.
    batch_size: B.
    same_order: one permutation, that of the first seed, for all.

  Returns:
    indices [M, N // B, B], or [N // B, B] for one order, and keys [M, N // B].
  """
  steps = count // batch_size
  words = np.asarray(jax.random.key_data(key)).tolist()

  def permute(seed: int) -> np.ndarray:
    stream = np.random.Philox([*words, epoch, seed])
    indices = np.argsort(stream.random_raw(count))[: steps * batch_size]
    return indices.reshape(steps, batch_size).astype(np.int32)

  indices = jnp.asarray(
    permute(seeds[0]) if same_order else np.stack([*map(permute, seeds)])
  )
  return indices, _noise(key, jnp.asarray(seeds, jnp.uint32), epoch, steps)


@functools.partial(jax.jit, static_argnames="steps")
def _noise(key: Key, seeds: jax.Array, epoch: int, steps: int) -> jax.Array:
  key = jax.random.fold_in(key, epoch)
  members = jax.vmap(lambda seed: jax.random.fold_in(key, seed))(seeds)
  return jax.vmap(lambda member: jax.random.split(member, steps))(members)
