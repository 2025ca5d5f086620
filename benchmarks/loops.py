"""Convolutions in loops: what `canonical` saves on the CPU.

The same gradients, or products with a Hessian, STEPS of them: `apart` calls a
compiled function for each, without a loop; `loop` is jax.lax.scan around
it; `canonical` is the same scan with the function rewritten, as training,
curves, replicas and probes have it.

  python -m benchmarks.loops
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import contenders, report

STEPS, BATCH = 4, 64
MODELS: dict[str, dict[str, Any]] = {
  "VGG 16-32-64": {"name": "vgg", "widths": (16, 32, 64), "depths": (1, 2, 2)},
  "ResNet20, width 1/2": {"name": "resnet", "width": 0.5, "depth": 20},
}
KINDS = ("gradient", "Hessian")
NAMES = ("canonical", "loop", "apart")
START = [sys.executable, "-m", "benchmarks.loops", "--contender"]


def problem(model: str, kind: str) -> tuple[Callable[..., Any], Any, Any]:
  """Return `step(params, data) -> params`, parameters and data."""
  import jax
  import jax.numpy as jnp

  import weightspace as ws
  from weightspace import losses

  built = ws.models.build(**MODELS[model])
  x = jax.random.normal(jax.random.key(0), (BATCH, 32, 32, 3))
  params = built.init(jax.random.key(1), x[:1])
  loss = losses.of(built.apply, losses.cross_entropy)

  def slope(params: Any, data: Any) -> Any:
    return jax.grad(lambda p: loss(p, data).mean())(params)

  def step(v: Any, params: Any, data: Any) -> Any:
    if kind == "gradient":
      found = slope(v, data)
    else:
      found = jax.jvp(lambda p: slope(p, data), (params,), (v,))[1]
    return jax.tree.map(lambda a, b: a - 1e-6 * b, v, found)

  return step, params, {"x": x, "y": jnp.zeros(BATCH, int)}


def contend(name: str, model: str, kind: str) -> None:
  """Take STEPS steps in one of the three ways."""
  import jax

  from weightspace.jaxpr.convolutions import canonical

  step, params, data = problem(model, kind)
  inner = canonical(step) if name == "canonical" else step

  @jax.jit
  def scan(v: Any, params: Any, data: Any) -> Any:
    def body(v: Any, _: Any) -> tuple[Any, None]:
      return inner(v, params, data), None

    return jax.lax.scan(body, v, length=STEPS)[0]

  one = jax.jit(step)

  def run() -> None:
    v = params
    if name == "apart":
      for _ in range(STEPS):
        v = one(v, params, data)
    else:
      v = scan(v, params, data)
    jax.block_until_ready(v)

  run()
  contenders.serve(run)


def section(repeats: int) -> str:
  """Race all ways in each case; return the section."""
  rows = []
  for model in MODELS:
    for kind in KINDS:
      commands = {name: [*START, name, model, kind] for name in NAMES}
      turns = contenders.alternate(commands, repeats)
      cpu = {n: contenders.median(t).cpu / STEPS for n, t in turns.items()}
      own = cpu["canonical"]
      each = [f"{1e3 * cpu[name]:.0f}" for name in NAMES]
      ratios = f"{cpu['loop'] / own:.1f}", f"{own / cpu['apart']:.2f}"
      rows.append((model, kind, *each, *ratios))
  columns = ["model", "step", *(f"{name}, CPU ms a step" for name in NAMES)]
  columns += ["loop / canonical", "canonical / apart"]
  return (
    f"## Convolutions in loops\n\nSteps of a batch of {BATCH} images 32 x 32 x"
    " 3 inside one compiled loop, as JAX has it and with convolutions rewritten"
    " (`weightspace/jaxpr/convolutions.py`); apart: one call a step, in the"
    " order that XLA brings convolutions into outside of loops. Medians of"
    f" {repeats} alternated turns of warm processes.\n\n"
    f"{report.table(columns, rows)}\n\n{report.conditions('jax', 'jaxlib')}"
  )


def main() -> None:
  """Be a contender, or run the benchmark and write its section."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--out", default="BENCHMARKS.md")
  parser.add_argument("--contender", nargs=3, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.contender:
    return contend(*options.contender)
  text = section(options.repeats)
  print(text)
  report.write_section(options.out, "loops", text)


if __name__ == "__main__":
  main()
