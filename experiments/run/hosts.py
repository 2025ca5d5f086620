"""Several hosts and devices at one run: the mesh, and that all mean the same.

A config's `mesh` says how many devices lie along each axis, {"population": 8};
-1 stands for all that are left, so that the same config runs on a laptop and on
a pod.  It is no part of what a run is: the folder is the same on any mesh, and
a run goes on where another number of devices left it.

>>> complete({"population": 8})
{'population': 8, 'data': 1, 'model': 1}
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from experiments.run import collecting

AXES = ("population", "data", "model")


def complete(given: Mapping[str, Any] | None) -> dict[str, int]:
  """Return the devices along each axis, one where nothing is said.

  Raises:
    ValueError: for another axis, or a number of devices that cannot be.
  """
  sizes = dict.fromkeys(AXES, 1) | dict(given or {})
  for name, size in sizes.items():
    if name not in AXES:
      raise ValueError(
        f"config.mesh: axis {name!r}, expected {', '.join(AXES)}"
      )
    if type(size) is not int or size < -1 or not size:
      raise ValueError(
        f"config.mesh.{name}: {size!r}, expected devices, or -1 for the rest"
      )
  if list(sizes.values()).count(-1) > 1:
    raise ValueError(f"config.mesh: {sizes}, expected -1 once at most")
  return sizes


def mesh(sizes: Mapping[str, int]) -> Any:
  """Return the mesh of a config's sizes; None for a single device.

  Raises:
    ValueError: for fewer devices than are asked for, or hosts left out.
  """
  import jax

  sizes = complete(sizes)  # in the order of the axes
  here, hosts = jax.device_count(), jax.process_count()
  known = math.prod(size for size in sizes.values() if size > 0)
  rest = max(1, here // known)
  shape = tuple(rest if size < 0 else size for size in sizes.values())
  need = math.prod(shape)
  if need > here:
    raise ValueError(
      f"config.mesh: {_text(sizes)} needs {need} devices, found {here}"
    )
  if hosts > 1 and need < here:
    raise ValueError(
      f"config.mesh: {_text(sizes)} takes {need} of the {here} devices of"
      f" {hosts} hosts, expected all, as --config.mesh.population=-1 does"
    )
  if need == 1:
    return None
  auto = (jax.sharding.AxisType.Auto,) * len(AXES)
  return jax.make_mesh(
    shape, AXES, axis_types=auto, devices=jax.devices()[:need]
  )


def _text(sizes: Mapping[str, int]) -> str:
  return ", ".join(f"{name}={size}" for name, size in sizes.items())


def agree(known: Mapping[str, Any]) -> None:
  """Check that all hosts mean the same.

  Args:
    known: what must be the same, as JSON has it.

  Raises:
    ValueError: in all hosts, naming the first setting that differs.
  """
  from weightspace.hosts import multihost

  mine = json.dumps(collecting.flat(known), sort_keys=True)
  everyone = [json.loads(text) for text in multihost.gather(mine)]
  for process, theirs in enumerate(everyone):
    for name in sorted(everyone[0].keys() | theirs.keys()):
      first, other = everyone[0].get(name), theirs.get(name)
      if first != other:
        raise ValueError(
          f"hosts disagree on {name}: {first!r} in process 0, {other!r} in"
          f" process {process}"
        )


def fitting(mesh: Any, count: int) -> Any:
  """Return a mesh that shares so many models out evenly; None for one device.

  Where the axis `population` does not divide them, as many devices as do take
  part; several hosts, none of which may be left out, then all do all of it.

  Args:
    mesh: a run's, or None.
    count: of models.
  """
  import jax

  if mesh is None:
    return None
  size = mesh.shape[AXES[0]]
  part = max(n for n in range(1, size + 1) if count % n == 0)
  if part == size:
    return mesh
  if part == 1 or jax.process_count() > 1:
    return None
  auto = (jax.sharding.AxisType.Auto,)
  devices = list(mesh.devices.flat)[:part]
  return jax.make_mesh((part,), AXES[:1], axis_types=auto, devices=devices)


def gathered(mesh: Any, tree: Any) -> Any:
  """Return what was trained on a mesh as arrays of one device.

  What was trained on other devices, or on more of them, goes together with it.

  Args:
    mesh: that it lies on; None where it is on one device already.
    tree: of arrays.
  """
  import jax
  import jax.numpy as jnp
  import numpy as np

  if mesh is None:
    return tree
  return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), tree)
