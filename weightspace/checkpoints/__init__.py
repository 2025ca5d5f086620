"""Checkpoints: trees saved and restored whole, and opened leaf by leaf.

Two formats: a folder of Orbax and a file of safetensors.  `save` and `restore`
move trees; `open` reads tensors one at a time from files larger than memory.
No pickle is loaded.

>>> import weightspace as ws
>>> ws.checkpoints.__all__
['PathLike', 'member', 'open', 'restore', 'save']
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.checkpoints.folders import PathLike, member, restore, save
from weightspace.checkpoints.readers import open

__all__ = [
  "PathLike",
  "member",
  "open",
  "restore",
  "save",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
