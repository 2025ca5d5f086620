"""How hard each example is: the error norm of early models.

>>> el2n(jnp.array([[0.0, 0.0]]), jnp.array([1])).round(4).tolist()
[0.707...]
"""

import jax
import jax.numpy as jnp
import numpy as np


def el2n(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return |softmax(logits) - y|_2 of each example, or its mean over models.

  Args:
    logits: [N, C], or [M, N, C] of several models, whose scores are averaged.
    labels: whole numbers [N].

  Returns:
    [N], between 0 and sqrt(2).

  Raises:
    ValueError: when the shapes do not fit.

  >>> el2n(jnp.array([[99.0, 0.0]]), jnp.array([0])).item()
  0.0

  Paul et al. 2021, "Deep learning on a data diet", definition 2.2,
  https://arxiv.org/abs/2107.07075.
  """
  if logits.ndim not in (2, 3) or logits.shape[-2] != len(labels):
    raise ValueError(
      f"el2n: logits {logits.shape} for labels {np.shape(labels)}, expected"
      " [N, C] or [M, N, C]"
    )
  truth = jax.nn.one_hot(labels, logits.shape[-1])
  gap = jax.nn.softmax(logits) - (truth[None] if logits.ndim == 3 else truth)
  scores = jnp.linalg.norm(gap, axis=-1)
  return scores.mean(0) if logits.ndim == 3 else scores
