"""Views of checkpoints: other names, other dtypes, the same reader.

>>> import numpy as np
>>> whole = {"a": np.ones(2), "b": np.zeros(2)}
>>> kinds = {name: (x.shape, x.dtype) for name, x in whole.items()}
>>> reader = readers.Reader("m", kinds, lambda name, index: whole[name])
>>> seen = view(reader, {"c": "a"}, {"c": np.dtype("float16")})
>>> seen.keys(), seen.dtype("c"), seen.read("c").sum().item()
(['c'], dtype('float16'), 2.0)
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from weightspace.checkpoints import readers


def view(
  reader: readers.Reader,
  names: Mapping[str, str],
  dtypes: Mapping[str, np.dtype] | None = None,
) -> readers.Reader:
  """Return some leaves of a checkpoint under other names and dtypes.

  Args:
    reader: the checkpoint.
    names: for each leaf of the view, that of the checkpoint.
    dtypes: of the view's leaves that are cast when they are read.
  """
  kinds = {
    name: (reader.shape(inner), (dtypes or {}).get(name, reader.dtype(inner)))
    for name, inner in names.items()
  }

  def load(name: str, index: Any) -> Any:
    leaf = reader.read(names[name], index)
    return leaf.astype(kinds[name][1], copy=False)

  return readers.Reader(reader.path, kinds, load)
