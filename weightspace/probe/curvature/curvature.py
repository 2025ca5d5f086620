"""Curvature matrices of a loss: Hessian, Gauss-Newton, Fisher, empirical.

With l_n the loss of example n and z_n the outputs of the network:

| operator | matrix | |
| --- | --- | --- |
| hessian | mean_n d2 l_n / dw2 | may be indefinite |
| ggn | mean_n J_n' (d2 l_n / dz2) J_n | the Hessian less sum_c dl/dz_c d2z_c |
| fisher | mean_n J_n' E_y[g g'] J_n, y from the model | = ggn for softmax |
| empirical_fisher | mean_n g_n g_n', true labels | neither of them |

Each is a mean over examples: of one batch held on the device with everything
that does not depend on the vector kept (default), of blocks of it that are
linearised again in every product (`batch_size`), or of a stream (`streamed`).

>>> import jax.numpy as jnp
>>> data = {"x": jnp.array([[1.0], [3.0]]), "y": jnp.array([0.0, 1.0])}
>>> def loss(w, d): return 0.5 * (d["x"] @ w - d["y"]) ** 2
>>> [f(loss, jnp.ones(1), data)(jnp.ones(1)).item() for f in (hessian, ggn)]
[5.0, 5.0]
"""

from collections.abc import Sequence
from typing import Any

import jax

from weightspace.jaxpr import closures
from weightspace.losses import logits, objectives
from weightspace.probe.curvature import building, products
from weightspace.probe.curvature.operators import Operator
from weightspace.probe.functions import outputs
from weightspace.types import Apply, Data, Loss, Params


def hessian(
  loss: Loss,
  params: Params,
  data: Data,
  *,
  only: Sequence[str] | None = None,
  mask: Params | None = None,
  batch_size: int | None = None,
  weights: Any = None,
) -> Operator:
  """Return the Hessian of the mean loss, as an operator.

  H v = d/dt grad L(w + t v): the gradient is linearised once and reused.  ReLU
  kinks count as flat.  For a model with BatchNorm, close the loss over its
  statistics (evaluation mode), or the batch itself is differentiated through.

  Args:
    loss: `loss(params, data)`, one number or one per example [N].
    params: one model; integer leaves are left alone.
    data: a pytree, [N, ...] where the loss is per example.
    only: paths or their beginnings: the diagonal block of these layers.
    mask: a prefix tree of booleans, or arrays shaped as leaves: the block of
      these parameters.
    batch_size: examples linearised at a time, again in every product: less
      memory, 1.7 times the work; exact for any size.  The last block is filled
      up and its filling weighs 0.
    weights: [N] of the examples, 0 for padding.

  Returns:
    Operator on trees like `params`, with float32 (or wider) vectors.

  Raises:
    ValueError: for a loss that is neither a number nor [N], NaN parameters, a
      `only` or `mask` that does not fit; with `batch_size`, for a loss of one
      number that is not the mean over its examples.

  >>> import jax.numpy as jnp
  >>> product = hessian(lambda w, a: w @ a @ w, jnp.zeros(2), jnp.eye(2))
  >>> product(jnp.array([1.0, 2.0])).tolist()
  [2.0, 4.0]

  Pearlmutter 1994, https://doi.org/10.1162/neco.1994.6.1.147.
  """
  where = dict(only=only, mask=mask, batch_size=batch_size, weights=weights)
  made = products.Hessian(loss)
  return building.build(made, "hessian", loss, params, data, **where)


def ggn(
  loss: Any,
  params: Params,
  data: Data,
  *,
  apply: Apply | None = None,
  **where: Any,
) -> Operator:
  """Return the generalised Gauss-Newton matrix, mean_n J_n' (d2l/dz2) J_n.

  What a loss has of the parameters themselves (a penalty, a learned temperature
  or weight) adds its own Hessian, as if it were an output; a penalty that is
  not convex may then make the matrix indefinite.

  Args:
    loss: `loss(params, data)`, whose outputs z are read off its jaxpr: what the
      last uses of the parameters give on each way to the loss.  Or, with
      `apply`, `loss(outputs, y)` on data {"x", "y"}.
    params: one model.
    data: as in `hessian`.
    apply: `apply(params, x) -> outputs`, where the outputs are not those.
    **where: only, mask, batch_size and weights of `hessian`.

  Returns:
    Operator; positive semi-definite for a criterion convex in z.

  Raises:
    ValueError: as `hessian`, and for a criterion that is (piecewise) affine in
      the outputs: its matrix would be zero.

  >>> import jax.numpy as jnp
  >>> def loss(w, x): return (x * w[0] * w[1] - 1.0) ** 2
  >>> w, x = jnp.array([1.0, 1.0]), jnp.array([1.0])
  >>> ggn(loss, w, x)(w).tolist(), hessian(loss, w, x)(w).tolist()
  ([4.0, 4.0], [4.0, 4.0])

  Schraudolph 2002, https://doi.org/10.1162/08997660260028683.
  """
  whole = loss
  if apply is not None:
    head, tail = outputs.given(apply, loss)
    outputs.check_curved(apply, loss, params, data, "ggn")

    def whole(params: Params, data: Data) -> jax.Array:
      return tail(*head(params, data), data)

  else:
    outputs.split(loss, params, data)  # refuses before work is spent
  made = products.Ggn(loss, apply)
  return building.build(made, "ggn", whole, params, data, **where)


def fisher(
  apply: Apply,
  params: Params,
  data: Data,
  likelihood: str = "categorical",
  *,
  tokens: str = "mean",
  ignore: int = logits.IGNORE,
  **where: Any,
) -> Operator:
  """Return the exact Fisher matrix: labels as the model itself would draw.

  Args:
    apply: `apply(params, x) -> outputs` [N, ..., C].
    params: one model.
    data: {"x": [N, ...]}; "y" [N, T], where there is one, says which tokens of
      a sequence count.
    likelihood: "categorical" (outputs are logits) or "gaussian" (unit
      variance).
    tokens: "mean" over the tokens of a sequence, as `ggn` of a cross-entropy
      and `statistics.fisher` have, or their "sum".
    ignore: the label of a token that does not count.
    **where: only, mask, batch_size and weights of `hessian`.

  Raises:
    ValueError: for another likelihood, or as `hessian`.

  >>> import jax.numpy as jnp
  >>> data = {"x": jnp.ones((1, 1))}
  >>> product = fisher(lambda p, x: x @ p, jnp.zeros((1, 2)), data)
  >>> product(jnp.array([[1.0, 0.0]])).tolist()
  [[0.25, -0.25]]

  Martens 2020, https://arxiv.org/abs/1412.1193.
  """
  if likelihood not in ("categorical", "gaussian"):
    raise ValueError(
      f"likelihood: {likelihood!r}, expected 'categorical' or 'gaussian'"
    )

  if tokens not in ("mean", "sum"):
    raise ValueError(f"tokens: {tokens!r}, expected 'mean' or 'sum'")

  def each(params: Params, data: Data) -> jax.Array:
    z = apply(params, data["x"])
    return z.reshape(len(z), -1).sum(1)

  made = products.Fisher(apply, likelihood, tokens, ignore)
  return building.build(made, "fisher", each, params, data, **where)


def empirical_fisher(
  loss: Loss,
  params: Params,
  data: Data,
  **where: Any,
) -> Operator:
  """Return mean_n g_n g_n', the uncentred covariance of the gradients.

  Args:
    loss: `loss(params, data)`, one per example [N].
    params: one model.
    data: as in `hessian`.
    **where: only, mask, batch_size and weights of `hessian`.

  Raises:
    ValueError: for a loss that is one number, or as `hessian`.

  >>> import jax.numpy as jnp
  >>> product = empirical_fisher(lambda w, x: w * x, jnp.ones(()), jnp.ones(3))
  >>> product(jnp.array(2.0)).item()
  2.0

  How it differs from the Fisher: Kunstner et al. 2019,
  https://arxiv.org/abs/1905.12558.
  """
  loss = closures.fixed(loss)
  count = objectives.examples(loss, params, data, "empirical_fisher")
  if count is None:
    raise ValueError("empirical_fisher: needs a loss that returns [N]")
  made = products.Empirical(loss)
  return building.build(made, "empirical_fisher", loss, params, data, **where)
