"""A recipe as one program on a mesh, with what went wrong as flags.

What a process cannot look at, since other processes hold it, the program says
of itself: where an input is NaN, and where the merge is no number.

>>> from weightspace.merge.methods.linear import uniform
>>> stack = {"w": jnp.array([[1.0, -jnp.inf], [3.0, -jnp.inf]])}
>>> bad, merged = merge(uniform(), stack, {}, None, None)
>>> bad, merged["w"].tolist()
({'inputs': {'w': False}, 'merged': {'w': False}}, [2.0, -inf])
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.merge.core.recipe import Recipe
from weightspace.merge.files import masks
from weightspace.types import Key


def merge(
  recipe: Recipe,
  stack: Any,
  given: Mapping[str, Any],
  key: Key | None,
  dtype: Any,
) -> tuple[dict[str, dict[str, bool]], Any]:
  """Run the recipe as one program; say also where there is a NaN."""

  def has_nan(tree: Any) -> Any:
    return {
      path: jnp.isnan(x).any() for path, x in tree.items() if trees.inexact(x)
    }

  def cast(tree: Any, to: Any) -> Any:
    real = jnp.floating
    return {
      path: x.astype(to(x)) if jnp.issubdtype(x.dtype, real) else x
      for path, x in tree.items()
    }

  def rounded(stack: Any, given: Any, key: Any) -> Any:
    if dtype is None:
      return recipe(stack, key=key, **given)
    wide = {n: cast(t, _wide) if n == "base" else t for n, t in given.items()}
    merged = recipe(cast(stack, _wide), key=key, **wide)
    return cast(merged, lambda x: dtype)  # rounded once

  @jax.jit
  def program(stack: Any, given: Any, key: Any) -> Any:
    bad = {n: has_nan(t) for n, t in ({"inputs": stack} | given).items()}
    base = given.get("base", {})
    held = {
      path: masks.hold(x, base.get(path))
      for path, x in stack.items()
      if trees.inexact(x)
    }
    kept = {
      n: _without(held, t) if n == "base" else t for n, t in given.items()
    }
    merged = rounded(_without(held, stack), kept, key)
    bad["merged"] = {p: ~jnp.isfinite(merged[p]).all() for p in held}
    for path, where in held.items():
      x = merged[path]
      merged[path] = jnp.where(where, stack[path][0].astype(x.dtype), x)
    return bad, merged

  found, merged = program(stack, dict(given), key)
  return jax.tree.map(bool, found), merged


def _without(held: Mapping[str, jax.Array], tree: Any) -> Any:
  """Return leaves with zeros for the entries that are held."""
  return {
    path: jnp.where(held[path], jnp.zeros((), x.dtype), x)
    if path in held
    else x
    for path, x in tree.items()
  }


def _wide(x: jax.Array) -> Any:
  return trees.accumulator(x.dtype)
