"""How planes and Lanczos steps scale: grid points, parameters, devices.

One process for each number of (simulated) devices; the figure has log axes, on
which work that is linear in something is a line of slope one.

  python -m benchmarks.landscape_scaling [--figure=docs/landscape_scaling.png]
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import report

GRIDS = (4, 8, 16, 32)
WIDTHS = (32, 64, 128, 256, 512)
DEVICES = (1, 2, 4, 8)
EXAMPLES, INPUTS, WIDTH = 1000, 256, 64
STEPS = 8


def problem(width: int) -> tuple[Any, Any, Any]:
  """Return parameters, loss and data of an MLP on random inputs."""
  import jax

  import weightspace as ws
  from weightspace import losses

  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (EXAMPLES, INPUTS))
  data = {"x": x, "y": jax.random.randint(keys[1], (EXAMPLES,), 0, 10)}
  model = ws.models.build("mlp", hidden=(width, width))
  params = model.init(keys[0], x[:1])
  return params, losses.of(model.apply, losses.cross_entropy), data


def seconds(run: Callable[[], Any], repeats: int = 3) -> float:
  """Return the least wall time of a warm call."""
  import jax

  jax.block_until_ready(run())
  found = []
  for _ in range(repeats):
    begin = time.perf_counter()
    jax.block_until_ready(run())
    found.append(time.perf_counter() - begin)
  return min(found)


def plane(width: int, points: int, mesh: Any = None) -> float:
  """Return the seconds of a grid of points x points."""
  import jax
  import numpy as np

  from weightspace import probe

  params, loss, data = problem(width)
  u, v = (
    probe.random_direction(params, k)
    for k in jax.random.split(jax.random.key(1))
  )
  places = np.linspace(-1, 1, points)
  return seconds(
    lambda: probe.surface(loss, data, params, u, v, places, places, mesh=mesh)
  )


def steps(width: int) -> tuple[int, float]:
  """Return the parameters of a model, and seconds of one Lanczos step."""
  import jax

  import weightspace as ws
  from weightspace import probe

  params, loss, data = problem(width)
  operator, key = probe.hessian(loss, params, data), jax.random.key(0)
  taken = seconds(lambda: probe.top_eigenpairs(operator, 1, STEPS, key)[0])
  return ws.models.count(params), taken / STEPS


def measure(devices: int) -> None:
  """Print the numbers of one process as JSON."""
  import jax

  jax.config.update("jax_num_cpu_devices", devices)
  found: dict[str, Any] = {}
  mesh = None
  if devices > 1:
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((devices,), ("points",), axis_types=auto)
  else:
    found["grid"] = [[n * n, plane(WIDTH, n)] for n in GRIDS]
    found["parameters"] = [steps(width) for width in WIDTHS]
  found["devices"] = [devices, plane(WIDTH, GRIDS[-1], mesh)]
  print(json.dumps(found))


def draw(found: dict[str, Any], path: str) -> None:
  """Draw the three scalings on log axes."""
  from weightspace import figures

  def panel(name: str, x: str, y: str) -> figures.Panel:
    def on(axes: Any) -> None:
      xs, ys = zip(*found[name])
      axes.loglog(xs, ys, "o-", color=figures.COLOURS[0], lw=1.8)
      if name != "devices":
        line = [ys[-1] * a / xs[-1] for a in xs]
        axes.loglog(xs, line, ":", color=figures.INK, lw=0.8)
      else:
        axes.set_xscale("log", base=2)
        axes.set_xticks(xs, [str(n) for n in xs])
      axes.grid(which="major")
      axes.set(xlabel=x, ylabel=y, title=f"By {name}")

    return on

  drawn = figures.figure(
    panel("grid", "points of the plane", "seconds"),
    panel("parameters", "parameters", "seconds of a Lanczos step"),
    panel("devices", "simulated devices on two cores", "seconds of a plane"),
    width=12.0,
    height=3.6,
  )
  with open(path, "wb") as file:
    file.write(figures.png(drawn))


def main() -> None:
  """Measure in one process a device count, and write section and figure."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--out", default="BENCHMARKS.md")
  parser.add_argument("--figure", default="docs/landscape_scaling.png")
  parser.add_argument("--devices", type=int, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.devices:
    return measure(options.devices)
  found: dict[str, Any] = {"devices": []}
  for devices in DEVICES:
    command = [sys.executable, "-m", "benchmarks.landscape_scaling"]
    done = subprocess.run(
      [*command, f"--devices={devices}"], check=True, stdout=subprocess.PIPE
    )
    new = json.loads(done.stdout.splitlines()[-1])
    found["devices"].append(new.pop("devices"))
    found |= new
  rows = [
    (name, f"{x}", f"{1e3 * y:.2f}") for name in found for x, y in found[name]
  ]
  section = (
    "## Scaling of landscapes\n\nMLP 256-64-64-10 on 1000 examples (other"
    " widths for parameters); least of three warm calls; wall milliseconds, of"
    " a plane, or of one Lanczos step for parameters. Simulated devices share"
    " two cores: flat is as good as it gets.\n\n"
    f"{report.table(['by', 'size', 'ms'], rows)}\n\n"
    f"![Scaling of planes and Lanczos steps]({options.figure})\n\n"
    f"{report.conditions('jax', 'jaxlib')}"
  )
  draw(found, options.figure)
  report.write_section(options.out, "landscape scaling", section)
  print(section)


if __name__ == "__main__":
  main()
