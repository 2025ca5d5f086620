"""Robust weight signatures: what robust training changed, as a part to add.

A signature is the change that robust training made beyond clean training, for
the chosen layers.  It is added to other models, scaled, composed with others,
quantised, and taken out again to the last bit: `Patched` keeps the clean model
and the signatures apart, and `patch` adds them up in one fixed order.

>>> start, clean = {"w": jnp.zeros(2)}, {"w": jnp.array([1.0, 0.0])}
>>> robust = {"w": jnp.array([3.0, 2.0])}
>>> found = extract(robust, clean, start)
>>> found.added["w"].tolist()  # without its part along clean - start
[0.0, 2.0]
>>> patch(add(Patched(clean), "noise", found))["w"].tolist()
[1.0, 2.0]
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.merge.core import checks
from weightspace.merge.per_leaf import by_path
from weightspace.types import Params


class Signature(NamedTuple):
  """Leaves by path: those added to a model, and those that replace its own."""

  added: dict[str, jax.Array]
  replaced: dict[str, jax.Array]


class Patched(NamedTuple):
  """A clean model with signatures by name, each with its scale."""

  clean: Params
  signatures: Mapping[str, Signature] = {}
  scales: Mapping[str, float | jax.Array] = {}


def extract(
  robust: Params,
  clean: Params,
  base: Params | None = None,
  layers: Sequence[by_path.Pattern] = ("*",),
  norms: Sequence[by_path.Pattern] = (),
) -> Signature:
  """Return the signature of a robust model against a clean one.

  v = d - <d, c> / <c, c> c, leaf by leaf, with d = robust - base and
  c = clean - base.

  Args:
    robust: trained with a corruption, from `base`.
    clean: trained without, from `base`.
    base: their common start; None gives v = robust - clean.
    layers: patterns of the leaves that are added; the first layers, in the
      paper.
    norms: patterns of the leaves that replace the model's own (norm layers, in
      the paper's code); they are not added.

  Raises:
    ValueError: for trees that differ, a NaN, or a pattern that matches nothing.

  >>> extract({"w": jnp.ones(2)}, {"w": jnp.zeros(2)}).added["w"].tolist()
  [1.0, 1.0]

  Cai et al. 2023, "Robust weight signatures: gaining robustness as easy as
  patching weights?", https://arxiv.org/abs/2302.12480.
  """
  for what, tree in (("robust", robust), ("base", base)):
    if tree is not None:
      trees.check_same(clean, tree, what)
      trees.check_finite(tree, what)
  trees.check_finite(clean, "clean")
  start = clean if base is None else base
  models = [trees.named(model) for model in (robust, clean, start)]
  paths = [path for path, x in models[0].items() if trees.inexact(x)]
  for pattern in (*layers, *norms):
    by_path.first_match([pattern, "*"], paths, "signature")
  added, replaced = {}, {}
  for path in paths:
    leaves = [_widen(m[path]) for m in models]
    if any(by_path.matches(p, path) for p in norms):
      replaced[path] = leaves[0]
    elif any(by_path.matches(p, path) for p in layers):
      added[path] = _beyond(leaves[0] - leaves[2], leaves[1] - leaves[2])
  return Signature(added, replaced)


def _beyond(change: jax.Array, along: jax.Array) -> jax.Array:
  """Return `change` without its projection on `along`."""
  square = jnp.sum(along**2)
  share = jnp.sum(change * along) / jnp.where(square == 0, 1.0, square)
  return change - share * along


def add(
  patched: Patched,
  name: str,
  signature: Signature,
  scale: float | jax.Array = 1.0,
) -> Patched:
  """Add a signature under a name.

  Raises:
    ValueError: for a name that is taken, or leaves that the model has not.

  >>> some = Signature({"w": jnp.ones(2)}, {})
  >>> sorted(add(Patched({"w": jnp.zeros(2)}), "fog", some).signatures)
  ['fog']
  """
  if name in patched.signatures:
    raise ValueError(f"signature {name!r} is there already: remove it first")
  checks.number(f"signature {name!r}: scale", scale)
  own = trees.named(patched.clean)
  for path, x in (*signature.added.items(), *signature.replaced.items()):
    if path not in own or jnp.shape(own[path]) != x.shape:
      found = jnp.shape(own[path]) if path in own else "missing"
      raise ValueError(
        f"signature {name!r}: {path!r} has shape {x.shape}, the model's is"
        f" {found}"
      )
  return Patched(
    patched.clean,
    {**patched.signatures, name: signature},
    {**patched.scales, name: scale},
  )


def remove(patched: Patched, name: str) -> Patched:
  """Take a signature out: the rest is as if it had never been added.

  Raises:
    ValueError: for a name that is not there.

  >>> model = Patched({"w": jnp.array([0.5])})
  >>> foggy = add(model, "fog", Signature({"w": jnp.array([0.1])}, {}))
  >>> patch(remove(foggy, "fog"))["w"].tolist()
  [0.5]
  """
  if name not in patched.signatures:
    there = sorted(patched.signatures)
    raise ValueError(
      f"signature {name!r} is not there, expected one of {there}"
    )
  return Patched(
    patched.clean,
    {n: s for n, s in patched.signatures.items() if n != name},
    {n: s for n, s in patched.scales.items() if n != name},
  )


def compose(
  signatures: Mapping[str, Signature],
  scales: Mapping[str, float | jax.Array] | float = 1.0,
) -> Signature:
  """Return the sum of k signatures, each scaled by its scale / k.

  Leaves that replace are the mean of those that have them.  The sum runs in the
  order of names.

  Raises:
    ValueError: for a signature without a scale, or leaves of other shapes.

  >>> a, b = (Signature({"w": jnp.full(1, x)}, {}) for x in (1.0, 3.0))
  >>> compose({"fog": a, "noise": b}, 2.0).added["w"].tolist()
  [4.0]

  https://arxiv.org/abs/2302.12480; its code multiplies by scale / k twice.
  """
  if isinstance(scales, Mapping):
    for name in signatures.keys() - scales.keys():
      raise ValueError(f"compose: no scale for {name!r}, expected one for each")
  added: dict[str, Any] = {}
  replaced: dict[str, list] = {}
  for name in sorted(signatures):
    scale = scales[name] if isinstance(scales, Mapping) else scales
    for path, x in signatures[name].added.items():
      _check_shape(name, path, x, added.get(path))
      part = scale / len(signatures) * x
      added[path] = added[path] + part if path in added else part
    for path, x in signatures[name].replaced.items():
      _check_shape(name, path, x, *replaced.get(path, [])[:1])
      replaced.setdefault(path, []).append(x)
  return Signature(added, {p: sum(xs) / len(xs) for p, xs in replaced.items()})


def _check_shape(name: str, path: str, x: Any, other: Any = None) -> None:
  """Refuse a leaf that is shaped unlike that of an earlier signature."""
  if other is not None and jnp.shape(other) != jnp.shape(x):
    raise ValueError(
      f"compose: {path!r} of {name!r} has shape {jnp.shape(x)}, expected"
      f" {jnp.shape(other)} as in the others"
    )


def patch(patched: Patched) -> Params:
  """Return the model with its signatures, in the clean model's dtypes."""
  total = compose(patched.signatures, patched.scales)

  def leaf(path: str, x: Any) -> Any:
    x = jnp.asarray(x)
    if path in total.replaced:
      return total.replaced[path].astype(x.dtype)
    if path in total.added:
      return (_widen(x) + total.added[path]).astype(x.dtype)
    return x

  return trees.map_named(leaf, patched.clean)


def _widen(x: Any) -> jax.Array:
  x = jnp.asarray(x)
  return x.astype(trees.accumulator(x.dtype))
