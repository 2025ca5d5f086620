"""Computed leaves of our trees, read as the arrays that they stand for.

>>> import tempfile
>>> from weightspace import checkpoints, parametrize
>>> path = f"{tempfile.mkdtemp()}/model.safetensors"
>>> kept = parametrize.quantise(np.array([7.0, -3.2, 0.0], np.float32), bits=4)
>>> checkpoints.save(path, {"w": kept})
>>> reader = checkpoints.open(path)
>>> reader.keys(), reader.read("w").tolist()
(['w'], [7.0, -3.0, 0.0])
"""

from typing import Any

import jax
import numpy as np

from weightspace.checkpoints import tensor_files, tree_json
from weightspace.checkpoints.readers import Reader
from weightspace.parametrize import stored


def as_values(reader: Reader) -> Reader:
  """Return a reader that shows each computed leaf as one array, its value.

  One that lacks a part (rules that are shared) is shown by its parts.
  """
  parts: dict[str, str] = {}
  values: dict[str, tensor_files.Kind] = {}
  for path, form in reader.computed.items():
    inside = [name for name in reader.kinds if name.startswith(f"{path}/")]
    shapes = {
      name.removeprefix(f"{path}/"): jax.ShapeDtypeStruct(*reader.kinds[name])
      for name in inside
    }
    try:
      node = tree_json.rebuild(form, tree_json.nest(shapes), path)
      values[path] = stored.shape_of(node)
    except ValueError:
      continue
    parts |= dict.fromkeys(inside, path)
  kinds: dict[str, tensor_files.Kind] = {}
  for name, kind in reader.kinds.items():
    path = parts.get(name, name)
    kinds[path] = values.get(path, kind)

  def load(key: str, index: Any) -> np.ndarray:
    if key not in values:
      return reader.load(key, index)
    arrays = {
      name.removeprefix(f"{key}/"): reader.load(name, None)
      for name, path in parts.items()
      if path == key
    }
    form = reader.computed[key]
    node = tree_json.rebuild(form, tree_json.nest(arrays), key)
    value = np.asarray(stored.value_of(node))
    return value if index is None else value[index]

  return reader._replace(kinds=kinds, load=load)
