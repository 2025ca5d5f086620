"""Git Re-Basin's own code as a contender, in a Python that can run it.

It imports names that JAX no longer has, so it needs an interpreter with a JAX
of its time (0.4.23 and NumPy 1.26 were used).  Nothing of this package is
imported but `contenders`.

  python -m benchmarks.matching_peer PROBLEM.npz SRC [--first]
"""

import json
import sys
import time

import numpy as np


def main() -> None:
  """Match the models of a file, again and again, or once and say how long."""
  path, source, *rest = sys.argv[1:]
  sys.path.insert(0, source)
  import jax
  import weight_matching

  from benchmarks import contenders

  held = np.load(path)
  axes = json.loads(str(held["axes"]))
  spec = weight_matching.permutation_spec_from_axes_to_perm(
    {name: tuple(row) for name, row in axes.items()}
  )
  a, b = (
    {name: jax.numpy.asarray(held[f"{side}:{name}"]) for name in axes}
    for side in "ab"
  )
  key = jax.random.PRNGKey(0)

  def run() -> None:
    weight_matching.weight_matching(key, spec, a, b, silent=True)

  if rest:
    began = time.perf_counter()
    run()
    return print(time.perf_counter() - began)
  run()
  contenders.serve(run)


if __name__ == "__main__":
  main()
