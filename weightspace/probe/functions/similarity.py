"""Linear CKA: how alike two networks' representations are.

Linear CKA compares what two networks compute on the same examples, whatever
the rotation of their features.  It is a ratio of HSICs, and all of its sums are
sums over examples: `cka_fold` gets the CKA of a whole data set from batches,
exactly, where averages over batches would not.

>>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
>>> turned = x @ jnp.array([[0.0, -1.0], [1.0, 0.0]])
>>> round(cka(x, turned).item(), 4)
1.0
"""

from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.types import Fold

HIGHEST = jax.lax.Precision.HIGHEST


def _features(x: Any, what: str) -> jax.Array:
  """Return [N, features] float32 or wider."""
  x = jnp.asarray(x)
  if x.ndim < 2:
    raise ValueError(f"cka: {what} is {x.shape}, expected [N, ...]")
  wide = trees.accumulator(x.dtype) if trees.inexact(x) else jnp.float32
  return x.reshape(len(x), -1).astype(wide)


def cka(x: Any, y: Any, debiased: bool = False) -> jax.Array:
  """Return the linear CKA of two representations of the same N examples.

  With K = X X', L = Y Y' and centred columns, <K, L> / (|K| |L|) = |Y'X|_F^2 /
  (|X'X|_F |Y'Y|_F); debiased, each product is the U-statistic of HSIC (zero
  diagonals), which has no positive bias at small N and may be negative.

  Args:
    x: [N, ...], flattened to [N, features]; centred here.
    y: [N, ...], of any width.
    debiased: use the U-statistic; N >= 4.

  Returns:
    []: 1 for representations equal up to rotation, scale and shift; NaN where
    one is constant.  The smaller of features and Gram matrices is formed.

  Raises:
    ValueError: for other shapes, unequal N, or too few examples (2; 4).

  >>> x = jnp.array([[0.0], [1.0], [2.0], [4.0]])
  >>> round(cka(x, 5.0 - 3.0 * x).item(), 4)
  1.0

  Kornblith et al. 2019, https://arxiv.org/abs/1905.00414; debiased: Song et al.
  2012, https://jmlr.org/papers/v13/song12a.html, as in Nguyen et al. 2021,
  https://arxiv.org/abs/2010.15327.
  """
  x, y = _features(x, "x"), _features(y, "y")
  count, least = len(x), 4 if debiased else 2
  if len(y) != count or count < least:
    raise ValueError(
      f"cka: {len(x)} and {len(y)} examples, expected as many, at least {least}"
    )
  x, y = x - x.mean(0, keepdims=True), y - y.mean(0, keepdims=True)
  if max(x.shape[1], y.shape[1]) <= count and not debiased:
    squares = [
      (jnp.matmul(b.T, a, precision=HIGHEST) ** 2).sum()
      for a, b in ((x, y), (x, x), (y, y))
    ]
  else:
    a, b = (jnp.matmul(z, z.T, precision=HIGHEST) for z in (x, y))
    inner = _unbiased if debiased else lambda a, b: (a * b).sum()
    squares = [inner(a, b), inner(a, a), inner(b, b)]
  return squares[0] / jnp.sqrt(squares[1] * squares[2])


def _unbiased(a: jax.Array, b: jax.Array) -> jax.Array:
  """Return the U-statistic of HSIC of two Gram matrices [N, N]."""
  count = len(a)
  off = 1.0 - jnp.eye(count, dtype=a.dtype)
  a, b = a * off, b * off
  rows = a.sum(1), b.sum(1)
  both = rows[0].sum() * rows[1].sum() / ((count - 1) * (count - 2))
  cross = 2.0 * jnp.dot(*rows, precision=HIGHEST) / (count - 2)
  return ((a * b).sum() + both - cross) / (count * (count - 3))


def cka_fold(debiased: bool = False) -> Fold:
  """Return the fold over batches (x, y) whose value is the CKA of them all.

  The sums of the feature form, and for `debiased` those of the row norms, are
  kept; they are exact for any split into batches, and `merge` joins shards.

  Args:
    debiased: as in `cka`.

  Returns:
    Fold over pairs ([B, ...], [B, ...]); memory of features squared.

  >>> x = jnp.array([[0.0], [1.0], [2.0], [4.0]])
  >>> fold = cka_fold(debiased=True)
  >>> state = fold.init((x, x**2))
  >>> for part in (slice(0, 1), slice(1, 4)):
  ...   state = fold.update(state, (x[part], x[part] ** 2))
  >>> bool(jnp.allclose(fold.value(state), cka(x, x**2, debiased=True)))
  True

  As `cka`; the sums over batches are ours (Nguyen et al. average the terms of
  batches instead, https://arxiv.org/abs/2010.15327).
  """

  def init(like: Any) -> dict[str, Any]:
    x, y = _features(like[0], "x"), _features(like[1], "y")
    pairs = {"xy": (x, y), "xx": (x, x), "yy": (y, y)}
    return {
      # CKA does not see a shift; near the mean the sums keep their digits.
      "shift": (x.mean(0), y.mean(0)),
      "count": jnp.zeros(()),
      "pairs": {name: _no_sums(*pair) for name, pair in pairs.items()},
    }

  def update(state: dict[str, Any], batch: Any) -> dict[str, Any]:
    x, y = (
      _features(part, "batch") - shift[None]
      for part, shift in zip(batch, state["shift"])
    )
    new = {
      name: _sums(a, b)
      for name, (a, b) in {"xy": (x, y), "xx": (x, x), "yy": (y, y)}.items()
    }
    pairs = jax.tree.map(jnp.add, state["pairs"], new)
    return state | {"count": state["count"] + len(x), "pairs": pairs}

  def value(state: dict[str, Any]) -> jax.Array:
    term = _unbiased_sums if debiased else _biased_sums
    found = {k: term(s, state["count"]) for k, s in state["pairs"].items()}
    return found["xy"] / jnp.sqrt(found["xx"] * found["yy"])

  def merge(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Join two parts that began with the same example batch."""
    pairs = jax.tree.map(jnp.add, a["pairs"], b["pairs"])
    return a | {"count": a["count"] + b["count"], "pairs": pairs}

  return Fold(init, update, value, merge)


def _no_sums(a: jax.Array, b: jax.Array) -> dict[str, Any]:
  return {
    "cross": jnp.zeros((a.shape[1], b.shape[1]), a.dtype),
    "diagonals": jnp.zeros((), a.dtype),
    "first": jnp.zeros(a.shape[1], a.dtype),  # sum_i |b_i|^2 a_i
    "second": jnp.zeros(b.shape[1], b.dtype),  # sum_i |a_i|^2 b_i
    "sums": (jnp.zeros(a.shape[1]), jnp.zeros(b.shape[1])),
    "norms": (jnp.zeros(()), jnp.zeros(())),
  }


def _sums(a: jax.Array, b: jax.Array) -> dict[str, Any]:
  norms = (a**2).sum(1), (b**2).sum(1)
  return {
    "cross": jnp.matmul(a.T, b, precision=HIGHEST),
    "diagonals": (norms[0] * norms[1]).sum(),
    "first": jnp.matmul(norms[1], a, precision=HIGHEST),
    "second": jnp.matmul(norms[0], b, precision=HIGHEST),
    "sums": (a.sum(0), b.sum(0)),
    "norms": (norms[0].sum(), norms[1].sum()),
  }


def _biased_sums(s: dict[str, Any], count: jax.Array) -> jax.Array:
  centred = s["cross"] - jnp.outer(*s["sums"]) / count
  return (centred**2).sum()


def _unbiased_sums(s: dict[str, Any], n: jax.Array) -> jax.Array:
  """Return `_unbiased` from sums: diagonals are taken off each of its terms."""
  a, b = s["sums"]
  inner = (s["cross"] ** 2).sum() - s["diagonals"]
  totals = (a @ a - s["norms"][0]) * (b @ b - s["norms"][1])
  rows = a @ s["cross"] @ b - s["second"] @ b - s["first"] @ a + s["diagonals"]
  whole = inner + totals / ((n - 1) * (n - 2)) - 2.0 * rows / (n - 2)
  return whole / (n * (n - 3))
