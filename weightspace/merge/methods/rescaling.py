"""Corrections of scale: variance, norms, a classifier's rows.

The mean of N independent weights has 1/N of their variance: averaging makes a
network smaller.  These recipes give the scale back from the weights alone,
without data.

>>> models = {"w": jnp.array([[[1.0, -1.0]], [[1.0, 1.0]]])}
>>> norm_matched()(models)["w"].round(3).tolist()
[[1.4140000343322754, 0.0]]
"""

import jax
import jax.numpy as jnp

from weightspace import means, trees
from weightspace.merge.core import checks
from weightspace.merge.core.recipe import Recipe, chain
from weightspace.merge.core.steps import At, Step
from weightspace.merge.per_leaf import by_path
from weightspace.types import Params, Stack

SCOPES = ("tensor", "row")


def variance_corrected(axes: int = 2) -> Recipe:
  """Return the mean of models with the variance that they have on average.

  m + (theta_mean - m) sqrt(v / var(theta_mean)), leaf by leaf, with m the mean
  of the entries of theta_mean and v = mean_m var(theta_m).

  Args:
    axes: leaves of fewer axes (biases, scales) are averaged as they are, and so
      are leaves of no variance.

  >>> models = {"w": jnp.array([[[0.0, 2.0]], [[2.0, 0.0]], [[0.0, 2.0]]])}
  >>> variance_corrected()(models)["w"].var().round(3).item()
  1.0

  "Vanishing variance problem in fully decentralized neural-network systems",
  2024, https://arxiv.org/abs/2404.04616; the scope of a leaf and the rule for
  leaves without variance are from a port of its code.
  """

  def edit(x: jax.Array, at: At) -> jax.Array:
    mean = _mean(x)
    if mean.ndim < axes:
      return mean
    centre, (now, before) = mean.mean(), _variances(x, mean)
    factor = jnp.where(now > 0, before / jnp.where(now > 0, now, 1.0), 1.0)
    return centre + (mean - centre) * jnp.sqrt(factor)

  return chain(Step("variance_corrected", edit, reduces=True))


def variance_ratio(stack: Stack) -> Params:
  """Return var(mean_m theta_m) / mean_m var(theta_m), leaf by leaf.

  (1 + (M - 1) rho) / M for a correlation rho between models: 1 for equal ones,
  1 / M for independent ones; 1 for a leaf of no variance.

  >>> ratio = variance_ratio({"w": jnp.array([[0.0, 1.0], [0.0, 1.0]])})
  >>> ratio["w"].item()
  1.0

  https://arxiv.org/abs/2404.04616; the correlated form follows from it.
  """
  trees.size(stack)

  def leaf(x: jax.Array) -> jax.Array:
    x = jnp.asarray(x)
    if not trees.inexact(x):
      return jnp.ones(())
    now, before = _variances(x, _mean(x))
    return jnp.where(before > 0, now / jnp.where(before > 0, before, 1.0), 1.0)

  return jax.tree.map(leaf, stack)


def norm_matched(scope: str = "tensor") -> Recipe:
  """Return the mean of models, rescaled to the mean of their norms.

  theta_mean mean_m |theta_m| / |theta_mean|, for each "tensor" or each "row"
  (the last axis).  A mean of zero stays zero.  `on_deltas(norm_matched())`
  matches the norms of task vectors.

  >>> models = {"w": jnp.array([[3.0, 4.0], [4.0, 3.0]])}
  >>> jnp.linalg.norm(norm_matched()(models)["w"]).round(4).item()
  5.0

  Raises:
    ValueError: for an unknown scope.

  Ours: the norm's form of https://arxiv.org/abs/2404.04616.
  """
  checks.option("norm_matched: scope", scope, SCOPES)

  def edit(x: jax.Array, at: At) -> jax.Array:
    axis = -1 if scope == "row" and x.ndim > 2 else None
    mean, before = _mean(x), jnp.zeros(())
    for model in x:
      before = before + _norm(model, axis) / len(x)
    now = _norm(mean, axis)
    return mean * (before / jnp.where(now == 0, 1.0, now))

  return chain(Step("norm_matched", edit, reduces=True))


def weight_aligned(
  path: str, old: int, axis: int = -1, only_shrink: bool = False
) -> Recipe:
  """Return the recipe that scales a classifier's new classes to its old ones.

  w_c <- w_c mean_old |w_c| / mean_new |w_c| for the new classes; old classes,
  biases and all other leaves stay.  It edits each model: a Stack comes back.

  Args:
    path: a pattern of the kernel's path, as in `head/kernel`.
    old: how many classes come first and keep their weights.
    axis: the classes' axis of the [in, classes] kernel; -2 for [classes, in].
    only_shrink: leave new classes that are shorter than the old ones.

  Raises:
    ValueError: when called, for a path that matches nothing, unless
      1 <= old < classes, or for a leaf that is not a matrix.

  >>> models = {"head": jnp.array([[[3.0, 6.0], [4.0, 8.0]]])}  # norms 5, 10
  >>> weight_aligned("head", old=1)(models)["head"][0, :, 1].tolist()
  [3.0, 4.0]

  Zhao et al. 2020, "Maintaining discrimination and fairness in class
  incremental learning", https://arxiv.org/abs/1911.07053.
  """

  def edit(x: jax.Array, at: At) -> jax.Array:
    if x.ndim < 3 or not 1 <= old < x.shape[axis]:
      raise ValueError(
        f"weight_aligned: {path!r} has shape {x.shape[1:]} and {old} old"
        " classes, expected a matrix and at least one old and one new class"
      )
    x = jnp.moveaxis(x, axis, -1)
    norms = _norm(x, -2)
    before, after = norms[..., :old], norms[..., old:]
    after_mean = after.mean(-1, keepdims=True)
    gamma = before.mean(-1, keepdims=True) / jnp.where(
      after_mean == 0, 1.0, after_mean
    )
    gamma = jnp.minimum(gamma, 1.0) if only_shrink else gamma
    new = jnp.arange(x.shape[-1]) >= old
    new = new.reshape((1,) * (x.ndim - 1) + (-1,))
    return jnp.moveaxis(jnp.where(new, x * gamma, x), -1, axis)

  return by_path.only(path, Step("weight_aligned", edit), rest="keep")


def _mean(x: jax.Array) -> jax.Array:
  return means.contract(x, jnp.full(len(x), 1 / len(x), jnp.float32))


def _variances(x: jax.Array, mean: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Return the variance of the mean, and the mean of the variances."""
  wide = trees.accumulator(x.dtype)
  before = sum(jnp.var(model.astype(wide)) for model in x) / len(x)
  return jnp.var(mean), jnp.asarray(before)


def _norm(x: jax.Array, axis: int | None) -> jax.Array:
  square = jnp.sum(jnp.abs(x) ** 2, axis=axis, keepdims=True)
  return jnp.sqrt(square)
