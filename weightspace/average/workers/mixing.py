"""Replicas mixed by a matrix: on one device, or by collectives of a mesh.

A round's matrix W is applied to whatever a method exchanges.  With flags p of
who takes part, replica i gets sum_j W_ij p_j x_j for its part p_i, and keeps
the weight of those who are away: the matrix stays doubly stochastic.  On one
device that is a product with [M, M]; on a mesh it is `pmean` where all meet
all, one `ppermute` for each set of disjoint messages where there is a replica a
device, and `all_gather` otherwise.

>>> pair = {"w": jnp.array([0.0, 4.0])}
>>> mix(pair, jnp.array([[0.75, 0.25], [0.25, 0.75]]))["w"].tolist()
[1.0, 3.0]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from weightspace import trees
from weightspace.average.workers import matrices
from weightspace.train.placement import AXIS
from weightspace.types import Stack

Tree = Any


class Talk(NamedTuple):
  """What replicas can exchange in a round; trees are [m, ...], m here."""

  mean: Callable[[Tree], Tree]  # the mean over all replicas, without [m]
  mix: Callable[[Tree, jax.Array], Tree]  # by W, among those present [m]


class Routes(NamedTuple):
  """A matrix as messages: sets of (from, to) that one `ppermute` carries."""

  rows: tuple[tuple[float, ...], ...]
  sends: tuple[tuple[tuple[int, int], ...], ...]
  complete: bool


def mix(stack: Stack, matrix: npt.ArrayLike, stochastic: str = "rows") -> Stack:
  """Mix the models of a Stack: theta_i <- sum_j W_ij theta_j.

  Args:
    stack: leaves [M, ...].
    matrix: W [M, M].
    stochastic: what W must be: "rows" (non-negative rows of sum 1), "doubly"
      (columns too), or "none".

  Returns:
    Stack, summed in float32, in the input dtypes; integer leaves stay.

  Raises:
    ValueError: for a matrix that is not [M, M] or not stochastic as asked
      (naming the row), or NaN in a model.  Values are checked when concrete.

  >>> models = {"w": jnp.array([1.0, 3.0])}
  >>> mix(models, [[0.5, 0.5], [0.0, 1.0]])["w"].tolist()
  [2.0, 3.0]

  Boyd et al. 2006, "Randomized gossip algorithms",
  https://doi.org/10.1109/TIT.2006.874516.
  """
  matrices.check(matrix, stochastic, "mix")
  count = trees.size(stack)
  if np.shape(matrix)[0] != count:
    raise ValueError(
      f"mix: matrix of shape {np.shape(matrix)}, expected ({count}, {count})"
    )
  trees.check_finite(stack, "mix", stacked=True)

  def leaf(x: Any) -> jax.Array:
    x = jnp.asarray(x)
    return product(matrix, x).astype(x.dtype) if trees.inexact(x) else x

  return jax.tree.map(leaf, stack)


def product(matrix: npt.ArrayLike, x: jax.Array) -> jax.Array:
  """Return sum_j W_ij x_j, [M, ...], in the accumulator dtype of x."""
  wide = trees.accumulator(x.dtype)
  return jnp.tensordot(
    jnp.asarray(matrix, wide),
    x.astype(wide),
    1,
    precision=jax.lax.Precision.HIGHEST,
  )


def column(values: jax.Array, like: jax.Array) -> jax.Array:
  """Return [m] as [m, 1, ...], to scale `like` by."""
  return values.reshape((-1,) + (1,) * (like.ndim - 1)).astype(like.dtype)


def on_device(matrix: jax.Array) -> Talk:
  """Return the exchange of M replicas that lie on one device."""

  def mean(tree: Tree) -> Tree:
    count = len(matrix)
    return jax.tree.map(lambda x: _total(x) / count, tree)

  def mixed(tree: Tree, present: jax.Array) -> Tree:
    flags = present.astype(jnp.float32)
    masked = matrix * flags[None]
    mass = masked.sum(1)
    return _part(
      tree, flags, mass, jax.tree.map(lambda x: product(masked, x), tree)
    )

  return Talk(mean, mixed)


def on_mesh(routes: Routes) -> Talk:
  """Return the exchange between devices, within `shard_map` over AXIS."""

  def mean(tree: Tree) -> Tree:
    return jax.lax.pmean(jax.tree.map(lambda x: _total(x) / len(x), tree), AXIS)

  def mixed(tree: Tree, present: jax.Array) -> Tree:
    flags = present.astype(jnp.float32)
    sent = jax.tree.map(lambda x: column(flags, x) * x, (tree, flags))
    if routes.complete:
      near = jax.tree.map(lambda x: x[None], mean(sent))
    elif len(present) == 1:
      near = _permuted(routes, sent)
    else:
      near = _gathered(routes, sent)
    return _part(tree, flags, near[1], near[0])

  return Talk(mean, mixed)


def plan(matrix: np.ndarray) -> Routes:
  """Return a matrix as messages, in as few `ppermute` as are easily found.

  >>> plan(matrices.ring(4)).sends
  (((1, 0), (0, 1), (3, 2), (2, 3)), ((3, 0), (2, 1), (1, 2), (0, 3)))
  """
  rows = tuple(tuple(float(w) for w in row) for row in matrix)
  if np.ptp(matrix) == 0:
    return Routes(rows, (), True)
  sends: list[list[tuple[int, int]]] = []
  for to, row in enumerate(rows):
    for source, weight in enumerate(row):
      if source == to or weight == 0:
        continue
      for together in sends:  # in the first set where both are free
        if all(source != a and to != b for a, b in together):
          together.append((source, to))
          break
      else:
        sends.append([(source, to)])
  return Routes(rows, tuple(map(tuple, sends)), False)


def _total(x: jax.Array) -> jax.Array:
  """Return the sum over [m, ...], slice by slice."""
  total = x[0]
  for m in range(1, len(x)):
    total = total + x[m]
  return total


def _part(tree: Tree, flags: jax.Array, mass: jax.Array, near: Tree) -> Tree:
  """Return p near + (1 - p mass) x: who is away, and for whom, keeps x."""
  keep = 1.0 - flags * mass

  def leaf(x: jax.Array, y: jax.Array) -> jax.Array:
    return column(flags, y) * y + column(keep, y) * x.astype(y.dtype)

  return jax.tree.map(leaf, tree, near)


def _permuted(routes: Routes, sent: Tree) -> Tree:
  """Return sum_j W_ij sent_j on each device, one replica a device."""
  me = jax.lax.axis_index(AXIS)
  matrix = np.array(routes.rows, np.float32)
  own = jnp.asarray(np.diag(matrix))[me]
  total = jax.tree.map(lambda x: own.astype(x.dtype) * x, sent)
  for messages in routes.sends:
    weights = np.zeros(len(matrix), np.float32)
    for source, to in messages:
      weights[to] = matrix[to, source]
    weight = jnp.asarray(weights)[me]
    came = jax.lax.ppermute(sent, AXIS, messages)
    total = jax.tree.map(
      lambda t, x, w=weight: t + w.astype(x.dtype) * x, total, came
    )
  return total


def _gathered(routes: Routes, sent: Tree) -> Tree:
  """Return sum_j W_ij sent_j where a device has several replicas."""
  count = len(jax.tree.leaves(sent)[0])
  start = jax.lax.axis_index(AXIS) * count
  matrix = jnp.asarray(np.array(routes.rows, np.float32))
  rows = jax.lax.dynamic_slice_in_dim(matrix, start, count)
  everyone = jax.lax.all_gather(sent, AXIS, tiled=True)
  return jax.tree.map(lambda x: product(rows, x), everyone)
