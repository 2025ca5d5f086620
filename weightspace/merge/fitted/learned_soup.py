"""Learned soups: coefficients found by gradient through the mix.

>>> models = {"w": jnp.eye(2)[:, None]}
>>> data = {"x": jnp.ones((4, 1)), "y": jnp.zeros(4, jnp.int32)}
>>> def apply(params, x): return x @ params["w"]
>>> found = learned(models, apply, data, by="model", epochs=20)
>>> bool(found.weights[0] > 0.6)
True
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import losses, means, trees
from weightspace.merge.core import checks
from weightspace.types import Apply, Data, Key, Stack, Weights

LEVELS = ("leaf", "model")


class Learned(NamedTuple):
  """Coefficients of a learned soup: `weighted_mean(stack, weights)`."""

  weights: Weights  # [M], or a tree of [M]; softmax, so they sum to one
  temperature: float  # beta, multiplies the logits
  history: np.ndarray  # [epochs] mean loss


def learned(
  stack: Stack,
  apply: Apply,
  data: Data,
  *,
  by: str = "leaf",
  epochs: int = 5,
  batch_size: int = 256,
  learning_rate: float = 0.05,
  key: Key | None = None,
) -> Learned:
  """Learn convex coefficients and a temperature on held-out data.

  Minimise the cross-entropy of beta f(x; sum_m alpha_m theta_m) over
  alpha = softmax(raw) and beta > 0, from the uniform soup and beta = 1.

  Args:
    stack: M models, leaves [M, ...].
    apply: `apply(params, x) -> logits`.
    data: held-out {"x": [N, ...], "y": [N]}.
    by: "leaf" (one [M] per parameter array; the paper's code) or "model".
    epochs: passes over the data; the last, partial batch of each is left out.
    batch_size: examples a step; at most N are used.
    learning_rate: of AdamW without weight decay.
    key: for the order of examples; the default is key 0.

  Returns:
    Learned: weights ([M] or a tree of [M]), temperature, history [epochs].

  Raises:
    ValueError: for an unknown `by`, no epochs, empty data, inputs without
      labels, NaN in a member or in the loss.

  >>> models = {"w": jnp.zeros((3, 1, 2))}
  >>> data = {"x": jnp.ones((4, 1)), "y": jnp.zeros(4, jnp.int32)}
  >>> found = learned(models, lambda p, x: x @ p["w"], data, epochs=1)
  >>> found.weights["w"].shape
  (3,)

  Wortsman et al. 2022, sec. 2 and app. I, https://arxiv.org/abs/2203.05482;
  rates, epochs and batch from its code; beta is kept as exp(raw) (ours).
  """
  checks.option("by", by, LEVELS)
  examples = len(data["y"])
  if min(epochs, batch_size, examples) < 1 or len(data["x"]) != examples:
    raise ValueError(
      f"learned: {epochs} epochs of batches of {batch_size} over"
      f" {len(data['x'])} inputs and {examples} labels, expected at least one"
      " of each and a label for each input"
    )
  trees.check_finite(stack, "stack", stacked=True)
  key = jax.random.key(0) if key is None else key
  count = trees.size(stack)
  stack, data = jax.tree.map(jnp.asarray, (stack, data))
  levels = {"raw": jnp.zeros(count)} if by == "model" else {"raw": stack}
  found = jax.tree.map(lambda _: jnp.zeros(count), levels)
  found["log_beta"] = jnp.zeros(())
  optimiser = optax.adamw(learning_rate, weight_decay=0.0)
  state, batch_size = optimiser.init(found), min(batch_size, examples)
  history = []
  for epoch in range(epochs):
    order = jax.random.permutation(jax.random.fold_in(key, epoch), examples)
    values = []
    for batch in order[: examples // batch_size * batch_size].reshape(
      -1, batch_size
    ):
      (found, state), value = _step(
        (found, state),
        stack,
        data,
        batch,
        apply=apply,
        learning_rate=learning_rate,
      )
      values.append(value)
    history.append(np.mean(values))
    if not np.isfinite(history[-1]):
      raise ValueError(f"learned: the loss is {history[-1]} in epoch {epoch}")
  weights = jax.tree.map(jax.nn.softmax, found["raw"])
  return Learned(weights, float(jnp.exp(found["log_beta"])), np.array(history))


@functools.partial(jax.jit, static_argnames="apply", donate_argnums=0)
def _step(
  carry: tuple[Any, Any],
  stack: Stack,
  data: Data,
  index: jax.Array,
  *,
  apply: Apply,
  learning_rate: float,
) -> Any:
  """Take one AdamW step on the examples at `index`."""
  found, state = carry
  batch = jax.tree.map(lambda x: x[index], data)

  def loss(found: Any) -> jax.Array:
    weights = jax.tree.map(jax.nn.softmax, found["raw"])
    logits = apply(means.weighted_sum(stack, weights), batch["x"])
    beta = jnp.exp(found["log_beta"])
    return losses.cross_entropy(beta * logits, batch["y"]).mean()

  value, gradient = jax.value_and_grad(loss)(found)
  optimiser = optax.adamw(learning_rate, weight_decay=0.0)
  updates, state = optimiser.update(gradient, state, found)
  return (optax.apply_updates(found, updates), state), value
