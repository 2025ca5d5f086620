"""The cost of merges from files by size, drawn and in words.

>>> def cost(peak): return {"weightspace": stream_work.Cost(1.0, 1.0, peak)}
>>> memory({"models": [("linear", 2, cost(100.0)), ("linear", 16, cost(99.0))]})
'Peak memory of 16 models against 2: linear 0.99 times.'
"""

import pathlib
from typing import Any

from benchmarks import stream_work


def draw(
  found: dict[str, Any], start: dict[str, stream_work.Cost], path: str
) -> bool:
  """Draw the cost on log axes; False where matplotlib is not installed."""
  from weightspace import figures

  def panel(axis: str) -> figures.Panel:
    def on(axes: Any) -> None:
      lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
      for method, x, costs in found[axis]:
        for name, cost in costs.items():
          cpu = max(cost.cpu - start[name].cpu, 0.01)
          lines.setdefault((method, name), []).append((x, cpu))
      for index, ((method, name), points) in enumerate(lines.items()):
        xs, ys = zip(*points)
        colour = figures.COLOURS[index % len(figures.COLOURS)]
        axes.loglog(xs, ys, "o-", color=colour, label=f"{method}, {name}")
      axes.set(xlabel=axis, ylabel="CPU seconds without imports")
      axes.set_title(f"By number of {axis}")
      ticks = sorted({x for points in lines.values() for x, _ in points})
      names = [f"{x / 1e6:g}M" if x > 1000 else str(x) for x in ticks]
      axes.set_xticks(ticks, names)
      axes.minorticks_off()
      axes.set_ylim(top=20 * axes.get_ylim()[1])  # room for the legend
      axes.grid(True)
      axes.legend(fontsize=8, ncols=2, loc="upper left")

    return on

  drawn = figures.figure(panel("models"), panel("parameters"), height=4.4)
  if drawn is not None:
    pathlib.Path(path).write_bytes(figures.png(drawn))
  return drawn is not None


def memory(found: dict[str, Any]) -> str:
  """Say how much more memory the most models take than the fewest."""
  peaks: dict[str, list[tuple[int, float]]] = {}
  for method, count, costs in found["models"]:
    peaks.setdefault(method, []).append((count, costs["weightspace"].peak))
  said = [f"{m} {p[-1][1] / p[0][1]:.2f} times" for m, p in peaks.items()]
  least, most = (next(iter(peaks.values()))[end][0] for end in (0, -1))
  return f"Peak memory of {most} models against {least}: {', '.join(said)}."
