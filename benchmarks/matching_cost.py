"""What tracing and matching cost: against width and depth, on log axes.

>>> sorted(sizes("depth"))[:2]
[2, 4]
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import matching_work

WIDTHS, DEPTHS = (64, 128, 256, 512, 1024), (2, 4, 8, 16, 32)
WIDTH, DEPTH = 128, 3  # of what is not varied
IMAGE = (28, 28, 1)
TRACED: dict[str, tuple[str, dict[str, Any]]] = {
  "ResNet20": ("resnet", {}),
  "a transformer of 12 layers": ("lm", {"layers": 12}),
  "one of a billion parameters, from shapes": (
    "lm",
    {
      "vocab": 50_000,
      "width": 2048,
      "heads": 16,
      "kv_heads": 4,
      "layers": 21,
    },
  ),
}


def sizes(by: str) -> dict[int, tuple[int, ...]]:
  """Return the hidden layers of an MLP for each width or depth."""
  if by == "width":
    return {n: (n,) * DEPTH for n in WIDTHS}
  return {n: (WIDTH,) * n for n in DEPTHS}


def costs() -> dict[str, dict[str, list[float]]]:
  """Return seconds, {"width" | "depth": {contender: [one a size]}}."""
  import jax

  import weightspace as ws

  key, found = jax.random.key(0), {}
  for by in ("width", "depth"):
    ours, loop = [], []
    run: Callable[[], Any]
    for hidden in sizes(by).values():
      models = matching_work.drawn("mlp", {"hidden": hidden}, IMAGE)
      run = functools.partial(ws.match.match_weights, *models, key)
      ours.append(matching_work.seconds(run))
      run = functools.partial(matching_work.loop, *models, matching_work.order)
      loop.append(matching_work.seconds(run, 1))
    found[by] = {"match_weights": ours, "published loop": loop}
  return found


def draw(found: dict[str, dict[str, list[float]]], path: str) -> None:
  """Draw seconds against width and depth on log axes."""
  from weightspace import figures

  def panel(by: str, title: str, power: int) -> figures.Panel:
    def on(axes: Any) -> None:
      xs = list(sizes(by))
      for colour, (name, ys) in zip(figures.COLOURS, found[by].items()):
        axes.loglog(xs, ys, "o-", color=colour, lw=1.8, label=name)
      last = found[by]["match_weights"][-1]
      guide = [0.6 * last * (x / xs[-1]) ** power for x in xs]
      axes.loglog(
        xs, guide, ":", color=figures.INK, lw=0.9, label=f"slope {power}"
      )
      axes.set_xticks(xs, [str(x) for x in xs])
      axes.minorticks_off()
      axes.grid(which="major")
      axes.set(xlabel=by, ylabel="seconds", title=title)
      axes.legend()

    return on

  drawn = figures.figure(
    panel("width", f"{DEPTH} hidden layers", 3),
    panel("depth", f"{WIDTH} units wide", 1),
    width=9.5,
    height=3.8,
  )
  with open(path, "wb") as file:
    file.write(figures.png(drawn))


def tracing() -> str:
  """Time the tracing of the axes of models of real size."""
  import jax

  import weightspace as ws

  parts = []
  for label, (name, hyper) in TRACED.items():
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    tokens = jax.ShapeDtypeStruct((1, 64), np.int32)
    x = tokens if name == "lm" else image
    model = ws.models.build(name, **hyper)
    shapes = jax.eval_shape(model.module.init, jax.random.key(0), x)["params"]
    wall, cpu = time.perf_counter(), time.process_time()
    ws.match.trace_axes(model.apply, shapes, x)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    parts.append(f"{label} {wall:.2f} s ({cpu:.2f} s of CPU)")
  return f"Tracing axes: {'; '.join(parts)}; 2 s are aimed at."
