"""A tree as named arrays and a JSON form: what a checkpoint consists of.

Files hold arrays by name.  What names cannot tell (a list from a dict, an empty
container, None, the kind of a PRNG key, a computed leaf of
`weightspace.parametrize`) goes into a form of strings and dicts, so that
`rebuild` returns exactly the tree that `describe` was given.

>>> form, arrays = describe({"layers": [np.ones(2), None], "rest": ()})
>>> form
{'dict': {'layers': {'list': ['array', 'none']}, 'rest': {'tuple': []}}}
>>> rebuild(form, nest(arrays))
{'layers': [array([1., 1.]), None], 'rest': ()}
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.types import Params

CONTAINERS = (dict, list, tuple)
LEAVES = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)
BOTH = (
  "float16 bfloat16 float32 float64 bool complex64 int8 int16 int32 int64"
  " uint8 uint16 uint32 uint64"
).split()
ORBAX_ONLY = (
  "complex128 int2 int4 float4_e2m1fn float8_e3m4 float8_e4m3fn float8_e4m3fnuz"
  " float8_e4m3b11fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu"
).split()


def describe(tree: Params) -> tuple[Any, dict[str, Any]]:
  """Split a tree into its form and its arrays by `layer/kernel` name.

  Args:
    tree: nested dicts, lists and tuples of arrays, numbers, typed PRNG keys,
      computed leaves of `weightspace.parametrize` and None.

  Returns:
    The form (JSON values) and the arrays that have elements, in tree order.

  Raises:
    ValueError: naming the first node that has no form.

  >>> describe({"a": {"b": 1.5}})
  ({'dict': {'a': {'dict': {'b': 'array'}}}}, {'a/b': array(1.5)})
  """
  if _is_leaf(tree) and not _is_computed(tree):
    name = type(tree).__name__
    raise ValueError(f"tree: a {name}, expected a dict, list or tuple")
  arrays: dict[str, Any] = {}
  return _describe("", tree, arrays), arrays


def _describe(path: str, node: Any, arrays: dict[str, Any]) -> Any:
  kind = type(node)
  if _is_computed(node):
    return _describe_computed(path, node, arrays)
  if _is_leaf(node):
    return _describe_leaf(path, node, arrays)
  if kind not in CONTAINERS:  # a state of a fold, or of an optimiser
    node, kind = _fields(node), dict
  below = {}
  for key, child in node.items() if kind is dict else enumerate(node):
    if kind is dict and (type(key) is not str or not key):
      raise ValueError(f"tree: key {key!r} under {path!r}, expected a string")
    name = f"{path}/{key}" if path else str(key)
    below[key] = _describe(name, child, arrays)
  return {kind.__name__: below if kind is dict else list(below.values())}


def _is_leaf(node: Any) -> bool:
  if type(node) in CONTAINERS:
    return False
  return node is None or jax.tree_util.all_leaves([node])


def _fields(node: Any) -> dict[str, Any]:
  """Return what a registered node holds, by the names that JAX gives."""
  below = jax.tree_util.tree_flatten_with_path(
    node, is_leaf=lambda child: child is not node
  )[0]
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): child
    for path, child in below
  }


def _is_computed(node: Any) -> bool:
  """Tell whether a node is a struct of parametrize, without importing it."""
  if not type(node).__module__.startswith("weightspace.parametrize."):
    return False
  from weightspace.parametrize import stored

  return stored.is_stored(node)


def _describe_computed(path: str, node: Any, arrays: dict[str, Any]) -> Any:
  from weightspace.parametrize import stored

  kind, fields, rest = stored.take_apart(node)
  below = {
    name: _describe(f"{path}/{name}" if path else name, field, arrays)
    for name, field in fields.items()
  }
  return {"computed": {"kind": kind, "fields": below, "rest": rest}}


def _describe_leaf(path: str, node: Any, arrays: dict[str, Any]) -> str:
  if node is None:
    return "none"
  if not isinstance(node, LEAVES):
    raise ValueError(
      f"tree: {path!r} is a {type(node).__name__}, expected an array, a number,"
      " None, or a dict, list or tuple of these"
    )
  leaf = node if isinstance(node, jax.Array) else np.asarray(node)
  form = "array"
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    form = f"key {jax.random.key_impl(leaf)}"
    leaf = jax.random.key_data(leaf)
  if not leaf.size:
    if form != "array":
      raise ValueError(f"tree: {path!r} holds no keys, expected at least one")
    return " ".join(["empty", str(leaf.dtype), *map(str, leaf.shape)])
  if path in arrays:
    raise ValueError(f"tree: two leaves at {path!r}, expected distinct paths")
  arrays[path] = leaf
  return form


def check(arrays: dict[str, Any], flat: bool) -> None:
  """Check that safetensors (`flat`), or else Orbax, can hold named arrays.

  Raises:
    ValueError: naming the first array that it cannot hold.
  """
  if not arrays:
    raise ValueError("tree: no arrays with elements, expected at least one")
  seen: dict[str, str] = {}
  for path, leaf in arrays.items():
    dtype = str(leaf.dtype)
    if dtype not in BOTH and (flat or dtype not in ORBAX_ONLY):
      where = "safetensors, expected an Orbax path for it" if flat else "Orbax"
      raise ValueError(f"tree: {path!r} is {dtype}, unknown to {where}")
    if flat and path == "__metadata__":
      raise ValueError(f"tree: {path!r} is reserved by safetensors")
    # Orbax joins keys by dots, and would write both to one place.
    if not flat and "" in path.split("/"):
      raise ValueError(f"tree: {path!r} has an empty part, unknown to Orbax")
    other = seen.setdefault(path.replace("/", "."), path)
    if other != path and not flat:
      raise ValueError(
        f"tree: {path!r} and {other!r} are one name to Orbax, expected keys"
        " that differ when joined by dots"
      )


def rebuild(form: Any, tree: Any, path: str = "") -> Params:
  """Undo `describe`, given its form and the nested dicts of its arrays.

  Raises:
    ValueError: naming an array that the form has and the dicts lack.
  """
  if not isinstance(form, dict):
    return _rebuild_leaf(form, tree, path)
  parts = {}
  for key, child in _children(form):
    inner = _below(tree, str(key))
    parts[key] = rebuild(child, inner, f"{path}/{key}" if path else str(key))
  ((kind, below),) = form.items()
  if kind == "computed":
    from weightspace.parametrize import stored

    return stored.put_together(below["kind"], parts, below["rest"])
  if kind == "dict":
    return parts
  return tuple(parts.values()) if kind == "tuple" else list(parts.values())


def _below(tree: Any, key: str) -> Any:
  """Return what lies at a key, which may hold `/`, in nested dicts."""
  for part in key.split("/"):
    tree = tree.get(part) if isinstance(tree, dict) else None
  return tree


def _children(form: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
  """Yield the key and the form of each child of a container's form."""
  ((kind, below),) = form.items()
  if kind == "computed":
    below = below["fields"]
  yield from below.items() if isinstance(below, dict) else enumerate(below)


def computed(form: Any, path: str = "") -> dict[str, Any]:
  """Return the forms of the outermost computed leaves, by path.

  >>> one = {"kind": "Frozen", "fields": {"x": "array"}, "rest": {}}
  >>> one = {"computed": one}
  >>> list(computed({"dict": {"a": {"list": [one, "array"]}}}))
  ['a/0']
  """
  if not isinstance(form, dict):
    return {}
  if "computed" in form:
    return {path: form}
  nodes: dict[str, Any] = {}
  for key, child in _children(form):
    nodes |= computed(child, f"{path}/{key}" if path else str(key))
  return nodes


def _rebuild_leaf(form: str, leaf: Any, path: str) -> Any:
  kind, *rest = form.split()
  if kind == "none":
    return None
  if kind == "empty":
    return np.zeros(tuple(map(int, rest[1:])), jnp.dtype(rest[0]))
  if not isinstance(leaf, np.ndarray | jax.ShapeDtypeStruct):
    raise ValueError(f"{path!r} is missing")
  if kind == "key":
    return jax.random.wrap_key_data(jnp.asarray(leaf), impl=rest[0])
  return leaf


def empties(form: Any, path: str = "") -> dict[str, np.ndarray]:
  """Return the empty arrays of a form, which lie in no file.

  >>> empties({"dict": {"a": {"list": ["array", "empty int8 0 2"]}}})
  {'a/1': array([], shape=(0, 2), dtype=int8)}
  """
  if not isinstance(form, dict):
    found = form.startswith("empty ")
    return {path: _rebuild_leaf(form, None, path)} if found else {}
  found = {}
  for key, child in _children(form):
    found |= empties(child, f"{path}/{key}" if path else str(key))
  return found


def nest(arrays: dict[str, Any]) -> dict[str, Any]:
  """Turn names with `/` into nested dicts.

  Raises:
    ValueError: naming an array that lies below another array.

  >>> nest({"a/b": 1, "a/c": 2})
  {'a': {'b': 1, 'c': 2}}
  """
  tree: dict[str, Any] = {}
  for path in sorted(arrays):  # a parent before what lies below it
    *parents, name = path.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
      if not isinstance(node, dict):
        raise ValueError(f"{path!r} lies below another array")
    node[name] = arrays[path]
  return tree
