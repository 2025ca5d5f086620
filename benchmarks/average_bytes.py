"""What replicas send: bytes of collectives, read off compiled programs.

Eight simulated devices hold a replica of an MLP each.  A round is compiled for
each method, and the operands of its all-reduces and permutes are added up.  Run
by `python -m benchmarks.average`.
"""

import subprocess
import sys
from typing import Any

from benchmarks import report


def problem(widths: tuple[int, ...], examples: int) -> tuple[Any, Any, Any]:
  """Return the loss, the parameters and random images."""
  import jax
  import numpy as np

  import weightspace as ws
  from weightspace import losses

  random = np.random.default_rng(0)
  x = random.random((examples, 28, 28, 1), np.float32)
  y = random.integers(0, widths[-1], examples, np.int32)
  data = {"x": jax.numpy.asarray(x), "y": jax.numpy.asarray(y)}
  model = ws.models.build("mlp", hidden=widths[1:-1], classes=widths[-1])
  params = model.init(jax.random.key(0), data["x"][:1])
  return losses.of(model.apply, losses.cross_entropy), params, data


def measure(widths: tuple[int, ...], replicas: int, steps: int) -> None:
  """Print a row for each method: bytes of a round, and for each step."""
  import jax

  jax.config.update("jax_num_cpu_devices", replicas)
  import numpy as np
  import optax

  import weightspace as ws
  from weightspace import average
  from weightspace.average.workers import mixing, rounds
  from weightspace.average.workers import replicas as checked

  loss, params, data = problem(widths, 1000)
  size = sum(x.nbytes for x in jax.tree.leaves(params))
  mesh = jax.make_mesh((replicas,), ("population",))
  stack = jax.tree.map(lambda x: jax.numpy.repeat(x[None], replicas, 0), params)
  names = tuple(ws.trees.names(params))
  methods = {
    "all-reduce at every step": (average.fedavg(), 1),
    "DiLoCo": (average.diloco(), steps),
    "NoLoCo": (average.noloco(), steps),
  }
  for name, (method, each) in methods.items():
    matrix = checked.topology(method, jax.random.key(0), 0, replicas)
    routes = None if matrix is None else mixing.plan(matrix)
    plan = rounds.Plan(
      loss, optax.sgd(0.1), method, each, 64, names,
      jax.tree.structure(params), names, True, mesh, routes,
    )  # fmt: skip
    carry, frozen, placed = rounds.begin(plan, stack, data)
    flags = np.ones(replicas, bool), np.ones(replicas)
    given = np.zeros(2, np.uint32), *flags, np.eye(replicas, dtype=np.float32)
    lowered = rounds.advance.lower(plan, carry, frozen, placed, *given)
    found = average.collectives(lowered.compile().as_text() or "")
    total = sum(found.values())
    kinds = ", ".join(found)
    share = f"{total / each / size:.4f}"
    print(f"{name}|{kinds}|{total}|{total // each}|{share}")


def section(widths: tuple[int, ...], replicas: int, steps: int) -> str:
  """Return a table of what each method sends."""
  numbers = [*map(str, widths), str(replicas), str(steps)]
  command = [sys.executable, "-m", "benchmarks.average_bytes", *numbers]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  rows = [line.split("|") for line in done.stdout.splitlines()]
  head = ["", "collective", "bytes a round", "bytes a step", "models a step"]
  return (
    f"Bytes that a replica hands to collectives, of {replicas} devices, an"
    f" outer step each {steps} steps; an all-reduce's operand counts once, a"
    f" ring puts 2 ({replicas} - 1) / {replicas} of it on the wire.\n\n"
    f"{report.table(head, rows)}"
  )


if __name__ == "__main__":
  *sizes, count, each = map(int, sys.argv[1:])
  measure(tuple(sizes), count, each)
