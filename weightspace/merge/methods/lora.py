"""LoRA adapters in memory: merged by their product, or by their factors.

An adapter is a tree of `Adapter` leaves under the paths of the base's leaves
that it changes: base + scale a b.

>>> ones = {"w": Adapter(jnp.ones((2, 1)), jnp.ones((1, 3)), 0.5)}
>>> product(ones)["w"].tolist()
[[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
"""

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from weightspace import trees
from weightspace.merge.core import checks, task_vector
from weightspace.merge.core.recipe import Recipe, run
from weightspace.types import Key, Params

FACTORS = ("product", "factors")


@flax.struct.dataclass
class Adapter:
  """A change of low rank, scale a b."""

  a: Any  # [..., in, r]
  b: Any  # [..., r, out]
  scale: Any = 1.0  # alpha / r of LoRA


def _is_adapter(x: Any) -> bool:
  return isinstance(x, Adapter)


def product(tree: Params) -> Params:
  """Return the tree with each `Adapter` as its product, in float32.

  Raises:
    ValueError: naming an adapter whose factors do not fit each other.

  >>> one = Adapter(jnp.ones((2, 1)), jnp.ones((1, 1)), scale=3.0)
  >>> product({"w": one})["w"].sum().item()
  6.0

  Hu et al. 2022, "LoRA: low-rank adaptation of large language models",
  https://arxiv.org/abs/2106.09685.
  """

  def leaf(path: Any, x: Any) -> Any:
    if not _is_adapter(x):
      return x
    a, b = jnp.asarray(x.a), jnp.asarray(x.b)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      raise ValueError(
        f"adapter: {name!r} has factors {a.shape} and {b.shape}, expected"
        " [in, r] and [r, out]"
      )
    wide = jnp.promote_types(trees.accumulator(a.dtype), jnp.float32)
    found = jnp.matmul(
      a.astype(wide), b.astype(wide), precision=jax.lax.Precision.HIGHEST
    )
    return jnp.asarray(x.scale, wide) * found

  return jax.tree_util.tree_map_with_path(leaf, tree, is_leaf=_is_adapter)


def run_adapters(
  recipe: Recipe,
  adapters: Sequence[Params],
  base: Params,
  factors: str = "product",
  *,
  key: Key | None = None,
) -> Params:
  """Merge adapters of one base into it.

  Args:
    recipe: sees models [M, ...] of the leaves that are adapted.
    adapters: M trees of `Adapter` leaves under some paths of the base, all the
      same; their ranks may differ where the product is merged.
    base: the model that they adapt.
    factors: what the recipe sees: "product", base + scale a b beside the base;
      or "factors", scale a and b beside zeros.  A mean of factors is not the
      mean of products.
    key: for recipes that draw masks.

  Returns:
    Params like the base; leaves without an adapter are the base's.

  Raises:
    ValueError: for another `factors`, a path that the base lacks, or a product
      that does not have its shape.

  >>> from weightspace.merge.methods.linear import uniform
  >>> one = {"w": Adapter(jnp.ones((2, 1)), jnp.ones((1, 2)), 1.0)}
  >>> two = {"w": Adapter(-jnp.ones((2, 1)), -jnp.ones((1, 2)), 1.0)}
  >>> start = {"w": jnp.zeros((2, 2))}
  >>> run_adapters(uniform(), [one, two], start)["w"].sum().item()
  4.0
  >>> run_adapters(uniform(), [one, two], start, "factors")["w"].sum().item()
  0.0

  Ours; https://arxiv.org/abs/2106.09685.
  """
  checks.option("run_adapters: factors", factors, FACTORS)
  if not adapters:
    raise ValueError("run_adapters: no adapters, expected at least one")
  whole = trees.named(base)
  columns = [trees.named(product(adapter)) for adapter in adapters]
  for index, column in enumerate(columns):
    for path, x in column.items():
      if path not in whole:
        raise ValueError(f"adapter {index}: {path!r} is not in the base")
      if x.shape != jnp.shape(whole[path]):
        raise ValueError(
          f"adapter {index}: {path!r} has shape {x.shape}, expected"
          f" {jnp.shape(whole[path])}"
        )
  start = {path: whole[path] for path in columns[0]}
  if factors == "product":
    models = [task_vector.apply(start, column) for column in columns]
    merged = run(recipe, models, start, key=key)
  else:
    models = [_factors(adapter) for adapter in adapters]
    found = run(
      recipe, models, jax.tree.map(jnp.zeros_like, models[0]), key=key
    )
    pairs = {path: Adapter(**pair) for path, pair in found.items()}
    merged = task_vector.apply(start, product(pairs))
  return trees.map_named(lambda path, x: merged.get(path, x), base)


def _factors(tree: Params) -> dict[str, dict[str, jax.Array]]:
  """Return {path: {"a": scale a, "b": b}}: recipes see no scale."""
  leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_adapter)[0]
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): {
      "a": jnp.asarray(x.a) * jnp.asarray(x.scale, jnp.result_type(x.a)),
      "b": jnp.asarray(x.b),
    }
    for path, x in leaves
  }
