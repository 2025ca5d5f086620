"""flax's own LoRA trees, read as changed kernels and written again.

`nnx.LoRALinear` keeps its factors beside the kernel, under `lora`; `nnx.LoRA`
keeps the module that it changes under `base_module`.

>>> params = {"kernel": jnp.ones((2, 2)), "lora": {
...   "lora_a": jnp.ones((2, 1)), "lora_b": jnp.ones((1, 2))}}
>>> tree = from_nnx_lora(params)
>>> tree["kernel"].value().tolist(), sorted(to_nnx_lora(tree))
([[2.0, 2.0], [2.0, 2.0]], ['kernel', 'lora'])
"""

from typing import Any

import jax.numpy as jnp

from weightspace.parametrize import leaf
from weightspace.parametrize.low_rank import Adapter
from weightspace.parametrize.merging import Changed
from weightspace.types import Params

FACTORS = {"lora_a", "lora_b"}


def from_nnx_lora(params: Params, path: str = "") -> Params:
  """Return parameters of nnx modules with LoRA's factors at their kernels.

  Args:
    params: nested dicts, as `ws.models.from_nnx` returns: `nnx.LoRALinear` is
      {"kernel", "bias", "lora": {"lora_a", "lora_b"}}, `nnx.LoRA` is
      {"base_module": {"kernel", ...}, "lora_a", "lora_b"}, and without a base
      its factors alone.
    path: of the parameters, for errors.

  Returns:
    The tree with `Changed(kernel, Adapter(a, b))` at kernels and an `Adapter`
    in place of factors alone; `value` of it is that of plain modules.

  Raises:
    ValueError: naming the path of factors without a kernel or without each
      other.

  flax nnx: https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/lora.html
  """
  if not isinstance(params, dict):
    return params
  own = FACTORS & set(params)
  if own and own != FACTORS:
    raise ValueError(
      f"from_nnx_lora: {path!r} has {sorted(own)}, expected {sorted(FACTORS)}"
    )
  if own and set(params) == FACTORS:
    return _adapter(params)
  tree = {
    key: from_nnx_lora(child, f"{path}/{key}" if path else str(key))
    for key, child in params.items()
    if key not in FACTORS
  }
  if own:
    tree["base_module"] = _changed(tree.get("base_module"), params, path)
  elif isinstance(tree.get("lora"), Adapter) and "kernel" in tree:
    tree = _changed(tree, params["lora"], path)
    del tree["lora"]
  return tree


def to_nnx_lora(tree: Params) -> Params:
  """Undo `from_nnx_lora`: return the tree that the nnx modules take.

  nnx has no scale: lora_b is scale b.

  Raises:
    ValueError: for a change that is merged or is no `Adapter`.

  >>> one = {"x": {"kernel": Changed(jnp.ones((2, 2)), Adapter(
  ...   jnp.ones((2, 1)), jnp.ones((1, 2)), 3.0))}}
  >>> to_nnx_lora(one)["x"]["lora"]["lora_b"].tolist()
  [[3.0, 3.0]]
  """
  if isinstance(tree, Adapter):
    return _factors(tree)
  if not isinstance(tree, dict):
    return tree
  params = {key: to_nnx_lora(child) for key, child in tree.items()}
  base = tree.get("base_module")
  if isinstance(base, dict) and isinstance(base.get("kernel"), Changed):
    inner = {k: v for k, v in params["base_module"].items() if k != "lora"}
    return params | {"base_module": inner} | _factors(base["kernel"].change)
  if isinstance(tree.get("kernel"), Changed):
    one = tree["kernel"]
    if one.merged or not isinstance(one.change, Adapter):
      raise ValueError(
        f"to_nnx_lora: a {type(one.change).__name__}, merged: {one.merged},"
        " expected an Adapter that is not merged"
      )
    params |= {"kernel": one.base, "lora": _factors(one.change)}
  return params


def _adapter(params: dict[str, Any]) -> Adapter:
  return Adapter(params["lora_a"], params["lora_b"])


def _changed(module: Any, factors: dict[str, Any], path: str) -> dict[str, Any]:
  """Return the parameters of a module with its kernel changed."""
  if not isinstance(module, dict) or "kernel" not in module:
    raise ValueError(
      f"from_nnx_lora: {path!r} has factors and no kernel, expected those of a"
      " linear module"
    )
  change = _adapter(factors)
  return module | {"kernel": Changed(module["kernel"], change)}


def _factors(one: Adapter) -> dict[str, Any]:
  b = leaf.array(one.b)
  scaled = (leaf.wide(b) * jnp.asarray(one.scale, jnp.float32)).astype(b.dtype)
  return {"lora_a": one.a, "lora_b": scaled}
