"""Strategies: how a population is laid out in compiled programs.

Steps follow each other by `scan` (an epoch is one program) or `step` (a Python
loop over a compiled step); members lie side by side as `sequential` (one after
the other) or `vmap`; with a mesh they are `sharded` over it first.  What is
fastest depends on the device, and is decided here and nowhere else.

>>> choose("step sequential")
('step', 'sequential')
"""

from typing import Any

import jax

AXIS = "population"  # the mesh axis that members are sharded over
LOOPS = ("scan", "step")
MEMBERS = ("sequential", "vmap", "sharded")


def choose_small(convolves: bool) -> str:
  """Return how members of few, small operations lie: side by side.

  As replicas are, a few steps of which are a program.  Only on the CPU those
  that convolve take turns: see `choose`.

  >>> choose_small(convolves=False)
  'vmap'
  """
  return choose("auto")[1] if convolves else "vmap"


def choose(strategy: str, mesh: Any = None, count: int = 0) -> tuple[str, str]:
  """Return (loop, members): what is fastest here, unless the words settle it.

  On the CPU matrix products of one model fill the cores, and convolutions under
  `vmap` are slow: members take turns, and a member is the same program, and the
  same to the last bit, however many devices they are sharded over.  An
  accelerator gains from one program for all members (`vmap`).

  Args:
    strategy: `auto`, or words for one or both choices, as `step vmap`.
    mesh: a mesh with an axis `population`: members are sharded over it, and
      each device's lie as the device wants them.
    count: M, which that axis must divide.

  Raises:
    ValueError: for an unknown word, or a mesh and a strategy that disagree.

  >>> choose("vmap")
  ('scan', 'vmap')
  """
  words = set(strategy.split()) - {"auto"}
  loops, members = words & set(LOOPS), words & set(MEMBERS)
  if words - loops - members or len(loops) > 1 or len(members) > 1:
    raise ValueError(
      f"strategy: {strategy!r}, expected 'auto' or at most one of {LOOPS} and"
      f" one of {MEMBERS}"
    )
  if mesh is not None and AXIS not in mesh.axis_names:
    raise ValueError(f"mesh: axes {mesh.axis_names}, expected {AXIS!r}")
  if members and ("sharded" in members) == (mesh is None):
    raise ValueError(
      f"strategy: {strategy!r} with mesh={mesh}, expected a mesh if and only if"
      " members are sharded"
    )
  if mesh is not None and count % mesh.shape[AXIS]:
    raise ValueError(
      f"mesh: {mesh.shape[AXIS]} devices along {AXIS!r} for {count} models,"
      " expected as many for each"
    )
  side = "sequential" if jax.default_backend() == "cpu" else "vmap"
  return (*loops, LOOPS[0])[0], (*(members - {"sharded"}), side)[0]
