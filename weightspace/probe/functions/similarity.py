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
from weightspace.numerics import scales
from weightspace.types import Fold

HIGHEST = jax.lax.Precision.HIGHEST
SMALLEST = 2.0**-100  # the least power of two that sums are kept over
ROUNDING = 4.0  # units of rounding within which a feature is constant


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
    one is constant: no feature varies by more than a few units of rounding of
    its largest value.  The smaller of features and Gram matrices is formed.

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
  x, y = _centred(x), _centred(y)
  if max(x.shape[1], y.shape[1]) <= count and not debiased:
    squares = [
      (jnp.matmul(b.T, a, precision=HIGHEST) ** 2).sum()
      for a, b in ((x, y), (x, x), (y, y))
    ]
  else:
    a, b = (jnp.matmul(z, z.T, precision=HIGHEST) for z in (x, y))
    inner = _unbiased if debiased else lambda a, b: (a * b).sum()
    squares = [inner(a, b), inner(a, a), inner(b, b)]
  return scales.ratio(*squares)


def _centred(x: jax.Array) -> jax.Array:
  """Return [N, features] less its means, over a power of two.

  A feature that varies by rounding only is constant: zero.
  """
  x = x / scales.power(x)
  away = x - x[:1]  # exactly zero where a feature is constant
  away = away - away.mean(0, keepdims=True)
  varies = _varies(jnp.abs(away).max(0), jnp.abs(x).max(0))
  away = jnp.where(varies[None], away, 0.0)
  return away / scales.power(away)


def _varies(spread: jax.Array, size: jax.Array) -> jax.Array:
  """Tell of features whether they vary by more than rounding."""
  return spread > ROUNDING * jnp.finfo(size.dtype).eps * size


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
    both = _features(like[0], "x"), _features(like[1], "y")
    pairs = {"xy": both, "xx": (both[0],) * 2, "yy": (both[1],) * 2}
    return {
      # CKA does not see a shift; near the mean the sums keep their digits.
      "shift": tuple(x.mean(0) for x in both),
      "scale": tuple(jnp.full((), SMALLEST, x.dtype) for x in both),
      "size": tuple(jnp.zeros_like(x[0]) for x in both),
      "count": jnp.zeros(()),
      "pairs": {name: _no_sums(*pair) for name, pair in pairs.items()},
    }

  def update(state: dict[str, Any], batch: Any) -> dict[str, Any]:
    both = tuple(_features(part, "batch") for part in batch)
    away = [x - shift[None] for x, shift in zip(both, state["shift"])]
    new = tuple(
      jnp.maximum(old, scales.power(x, least=SMALLEST))
      for old, x in zip(state["scale"], away)
    )
    state = _rescaled(state, new)
    x, y = (a / scale for a, scale in zip(away, new))
    added = {"xy": _sums(x, y), "xx": _sums(x, x), "yy": _sums(y, y)}
    size = tuple(
      jnp.maximum(old, jnp.abs(x).max(0, initial=0.0))
      for old, x in zip(state["size"], both)
    )
    pairs = jax.tree.map(jnp.add, state["pairs"], added)
    count = state["count"] + len(x)
    return state | {"count": count, "pairs": pairs, "size": size}

  def value(state: dict[str, Any]) -> jax.Array:
    term = _unbiased_sums if debiased else _biased_sums
    found = {k: term(s, state["count"]) for k, s in state["pairs"].items()}
    varies = [_any_varies(state, k, p) for k, p in enumerate(("xx", "yy"))]
    result = scales.ratio(found["xy"], found["xx"], found["yy"])
    return jnp.where(varies[0] & varies[1], result, jnp.nan)

  def merge(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Join two parts that began with the same example batch."""
    new = tuple(map(jnp.maximum, a["scale"], b["scale"]))
    a, b = _rescaled(a, new), _rescaled(b, new)
    pairs = jax.tree.map(jnp.add, a["pairs"], b["pairs"])
    size = tuple(map(jnp.maximum, a["size"], b["size"]))
    count = a["count"] + b["count"]
    return a | {"count": count, "pairs": pairs, "size": size}

  return Fold(init, update, value, merge)


def _rescaled(state: dict[str, Any], new: Any) -> dict[str, Any]:
  """Return the state with its sums over larger powers of two."""
  x, y = (old / scale for old, scale in zip(state["scale"], new))
  ratios = {"xy": (x, y), "xx": (x, x), "yy": (y, y)}
  pairs = {k: _times(s, *ratios[k]) for k, s in state["pairs"].items()}
  return state | {"pairs": pairs, "scale": new}


def _times(s: dict[str, Any], a: jax.Array, b: jax.Array) -> dict[str, Any]:
  return {
    "cross": s["cross"] * (a * b),
    "diagonals": s["diagonals"] * (a * b) ** 2,
    "first": s["first"] * (a * b**2),
    "second": s["second"] * (a**2 * b),
    "sums": (s["sums"][0] * a, s["sums"][1] * b),
    "norms": (s["norms"][0] * a**2, s["norms"][1] * b**2),
  }


def _any_varies(state: dict[str, Any], k: int, pair: str) -> jax.Array:
  """Tell whether any feature of one side varies by more than rounding."""
  sums, scale = state["pairs"][pair], state["scale"][k]
  square, first = jnp.diagonal(sums["cross"]), sums["sums"][0]
  count = jnp.maximum(state["count"], 1.0)
  variance = (square - first**2 / count) / count
  # What is left where the sums cancel is rounding as well.
  noise = ROUNDING * jnp.finfo(square.dtype).eps * square / count
  spread = jnp.sqrt(jnp.maximum(variance - noise, 0.0)) * scale
  return _varies(spread, state["size"][k]).any()


def _no_sums(a: jax.Array, b: jax.Array) -> dict[str, Any]:
  return jax.tree.map(jnp.zeros_like, _sums(a[:1], b[:1]))


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
  means = s["sums"][0] / count
  centred = s["cross"] - jnp.outer(means, s["sums"][1])
  return (centred**2).sum()


def _unbiased_sums(s: dict[str, Any], n: jax.Array) -> jax.Array:
  """Return `_unbiased` from sums: diagonals are taken off each of its terms."""
  a, b = s["sums"]
  inner = (s["cross"] ** 2).sum() - s["diagonals"]
  totals = (a @ a - s["norms"][0]) * (b @ b - s["norms"][1])
  rows = a @ s["cross"] @ b - s["second"] @ b - s["first"] @ a + s["diagonals"]
  whole = inner + totals / ((n - 1) * (n - 2)) - 2.0 * rows / (n - 2)
  return whole / (n * (n - 3))
