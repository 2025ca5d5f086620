"""LoRA adapters in memory: merged by their product, or by their factors.

An adapter is a tree of `Adapter` leaves under the paths of the base's leaves
that it changes: base + scale a b.

>>> ones = {"w": Adapter(jnp.ones((2, 1)), jnp.ones((1, 3)), 0.5)}
>>> product(ones)["w"].tolist()
[[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace import parametrize, trees
from weightspace.merge.core import checks, task_vector
from weightspace.merge.core.recipe import Recipe, run
from weightspace.parametrize import Adapter
from weightspace.types import Key, Params

FACTORS = ("product", "factors")


def product(tree: Params) -> Params:
  """Return the tree with each `Adapter` as its product, in float32.

  Other computed leaves (`weightspace.parametrize`) are their values likewise.

  Raises:
    ValueError: naming an adapter whose factors do not fit each other.

  >>> one = Adapter(jnp.ones((2, 1)), jnp.ones((1, 1)), scale=3.0)
  >>> product({"w": one})["w"].sum().item()
  6.0

  Hu et al. 2022, "LoRA: low-rank adaptation of large language models",
  https://arxiv.org/abs/2106.09685.
  """

  def leaf(path: Any, x: Any) -> Any:
    if not parametrize.is_leaf(x):
      return x
    try:
      return x.value()
    except ValueError as error:
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      raise ValueError(f"adapter: {name!r} has {error}") from None

  return jax.tree_util.tree_map_with_path(
    leaf, tree, is_leaf=parametrize.is_leaf
  )


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
    adapters: M trees of `Adapter` leaves, or of other changes of
      `weightspace.parametrize`, under some paths of the base, all the same;
      their ranks and kinds may differ where the product is merged.
    base: the model that they adapt.
    factors: what the recipe sees: "product", base + scale a b beside the base;
      or "factors" of `Adapter` leaves, scale a and b beside zeros.  A mean of
      factors is not the mean of products.
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
  columns = [trees.named(product(_added(one, whole))) for one in adapters]
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


def _added(tree: Params, whole: dict[str, Any]) -> Params:
  """Return the tree with changes that are no sum as what they add."""

  def leaf(path: Any, x: Any) -> Any:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if parametrize.is_leaf(x) or name not in whole:
      return x
    kernel = jnp.asarray(whole[name])
    wide = kernel.astype(trees.accumulator(kernel.dtype))
    return x.value_of(wide) - wide

  return jax.tree_util.tree_map_with_path(
    leaf, tree, is_leaf=lambda x: hasattr(x, "value_of")
  )


def _factors(tree: Params) -> dict[str, dict[str, jax.Array]]:
  """Return {path: {"a": scale a, "b": b}}: recipes see no scale.

  Raises:
    ValueError: naming a leaf that has no such factors.
  """
  leaves = jax.tree_util.tree_flatten_with_path(
    tree, is_leaf=lambda x: hasattr(x, "value_of")
  )[0]
  pairs = {}
  for path, x in leaves:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if not isinstance(x, Adapter):
      raise ValueError(
        f"run_adapters: {name!r} is a {type(x).__name__}, expected an Adapter"
        " to merge by factors"
      )
    scale = jnp.asarray(x.scale, jnp.result_type(x.a))
    pairs[name] = {"a": jnp.asarray(x.a) * scale, "b": jnp.asarray(x.b)}
  return pairs
