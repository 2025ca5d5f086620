"""Why interpolation helps out of distribution, in numbers.

Two models that lean on different spurious features make different mistakes, so
their mean is right where both are wrong (FalseFalseTrue).  The mean suffers
when one of them is overconfident; BANG softens that one while it is fine-tuned.

>>> base, fine = jnp.array([False, True]), jnp.array([False, False])
>>> false_false_true(base, fine, jnp.array([True, True])).item()
0.5

Lin et al. 2024, "Spurious feature diversification improves out-of-distribution
generalization", https://arxiv.org/abs/2309.17230.
"""

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import losses


def false_false_true(
  base_right: jax.Array, fine_right: jax.Array, mixed_right: jax.Array
) -> jax.Array:
  """Return the share of examples that only the mix of two models has right.

  mean_n (1 - base_n) (1 - fine_n) mixed_n.  With all three negated it is
  TrueTrueFalse, what mixing loses; chance corrections are in both (ours).

  Args:
    base_right: [..., N], true or 1 where the base is right.
    fine_right: [..., N], of the fine-tuned model.
    mixed_right: [..., N], of their mix; leading axes broadcast.

  Returns:
    [...] float32, between 0 and 1.

  Raises:
    ValueError: when N differs or is zero.

  >>> right, wrong = jnp.ones(4), jnp.zeros(4)
  >>> false_false_true(wrong, wrong, right).item()
  1.0

  Lin et al. 2024, sec. 2, https://arxiv.org/abs/2309.17230.
  """
  sizes = [np.shape(x)[-1:] for x in (base_right, fine_right, mixed_right)]
  if len(set(sizes)) > 1 or sizes[0] in ((), (0,)):
    raise ValueError(
      f"false_false_true: examples {sizes}, expected one number of them"
    )
  base, fine, mixed = (
    jnp.asarray(x).astype(bool) for x in (base_right, fine_right, mixed_right)
  )
  case = jnp.logical_and(jnp.logical_and(~base, ~fine), mixed)
  return case.mean(-1, dtype=jnp.float32)


def output_ensemble(
  base_logits: jax.Array,
  fine_logits: jax.Array,
  alpha: float | jax.Array,
  scale: float | jax.Array = 1.0,
) -> jax.Array:
  """Return the output-space twin of WiSE-FT, (1 - alpha) base + alpha s fine.

  A scale s > 1 makes the fine-tuned model overconfident without changing any
  of its answers: what it does to the ensemble is the cost of overconfidence.

  Args:
    base_logits: [..., N, C].
    fine_logits: the same shape.
    alpha: the share of the fine-tuned model, as in `wise_ft`.
    scale: s, what the fine-tuned logits are multiplied by.

  Returns:
    The shape and dtype of `base_logits`.

  Raises:
    ValueError: when the shapes differ.

  >>> base, fine = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 1.0]])
  >>> [output_ensemble(base, fine, 0.5, s).argmax().item() for s in (1.0, 3.0)]
  [0, 1]

  Lin et al. 2024, https://arxiv.org/abs/2309.17230.
  """
  if np.shape(base_logits) != np.shape(fine_logits):
    raise ValueError(
      f"output_ensemble: fine_logits have shape {np.shape(fine_logits)},"
      f" expected {np.shape(base_logits)} as base_logits"
    )
  base, fine = (jnp.asarray(x, jnp.float32) for x in (base_logits, fine_logits))
  mean = (1 - alpha) * base + alpha * scale * fine
  return mean.astype(jnp.result_type(base_logits))


def overconfidence(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return max softmax(logits) - right for each example.

  Its mean is confidence minus accuracy: above zero for a model that is surer
  than it should be, zero on average for a calibrated one.

  Args:
    logits: [B, C].
    labels: [B].

  Returns:
    [B] float32; a metric for `losses.of`.

  Raises:
    ValueError: when the labels do not fit the logits.

  >>> overconfidence(jnp.zeros((1, 4)), jnp.array([0])).item()
  -0.75

  Guo et al. 2017, "On calibration of modern neural networks",
  https://arxiv.org/abs/1706.04599 (the signed gap, in one bin).
  """
  right = losses.accuracy(logits, labels)
  return jax.nn.softmax(logits.astype(jnp.float32)).max(-1) - right
