"""Policies held to a reference: the closed form, and its KL divergence.

Reward is maximised less beta times the divergence from a reference; SALSA's
reference is the average, in weight space, of two fine-tuned models.

>>> tilted = tilt(jnp.zeros(2), jnp.array([0.0, 1.0]), beta=1.0)
>>> jax.nn.softmax(tilted).round(4).tolist()
[0.2689..., 0.731...]
"""

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.losses import logits


def tilt(
  reference: jax.Array, reward: jax.Array, beta: float | jax.Array
) -> jax.Array:
  """Return the log-probabilities of the best policy, ref + r / beta.

  argmax_pi E_pi r - beta KL(pi | ref) is pi ~ ref exp(r / beta).

  Args:
    reference: logits [..., A].
    reward: [A] or [..., A], of each action.
    beta: above 0.

  Returns:
    [..., A], normalised.

  Raises:
    ValueError: for a beta that is not above 0.

  >>> jnp.exp(tilt(jnp.zeros(2), jnp.zeros(2), 1.0)).tolist()
  [0.5, 0.5]

  The setting of "SALSA: soup-based alignment learning for stronger adaptation
  in RLHF", 2024, https://arxiv.org/abs/2411.01798; the closed form is
  classical.
  """
  if trees.concrete(beta) and not beta > 0:
    raise ValueError(f"tilt: beta is {beta}, expected above 0")
  reward = jnp.broadcast_to(reward, reference.shape)
  return jax.nn.log_softmax(reference + reward / beta)


def divergence(policy: jax.Array, reference: jax.Array) -> jax.Array:
  """Return KL(policy | reference) of logits, in nats.

  Args:
    policy: [..., A].
    reference: [..., A].

  Returns:
    [...].

  Raises:
    ValueError: for logits of unlike shapes.

  >>> divergence(jnp.zeros(4), jnp.zeros(4)).item()
  0.0
  """
  if jnp.shape(policy) != jnp.shape(reference):
    raise ValueError(
      f"divergence: logits {jnp.shape(policy)} and {jnp.shape(reference)},"
      " expected one shape"
    )
  logs = jax.nn.log_softmax(policy)
  return logits.expected(jnp.exp(logs), logs - jax.nn.log_softmax(reference))


def regularised(
  policy: jax.Array,
  reference: jax.Array,
  reward: jax.Array,
  beta: float | jax.Array,
) -> jax.Array:
  """Return E_pi r - beta KL(pi | ref), exactly, of logits.

  Args:
    policy: [..., A].
    reference: [..., A].
    reward: [A] or [..., A].
    beta: the weight of the divergence.

  Returns:
    [...], to be maximised.

  Raises:
    ValueError: for a beta below 0, or logits of unlike shapes.

  >>> even, reward = jnp.zeros(2), jnp.array([0.0, 1.0])
  >>> regularised(even, even, reward, beta=1.0).item()
  0.5

  https://arxiv.org/abs/2411.01798.
  """
  if trees.concrete(beta) and not beta >= 0:
    raise ValueError(f"regularised: beta is {beta}, expected 0 or more")
  reward = jnp.broadcast_to(reward, policy.shape)
  gain = logits.expected(jax.nn.softmax(policy), reward)
  return gain - beta * divergence(policy, reference)
