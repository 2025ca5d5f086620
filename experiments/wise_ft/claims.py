"""What each claim of the WiSE-FT experiment asks, its table and its figure.

All is made from the lines that `results` logged.

>>> sorted(CLAIMS)
['bang', 'peak', 'spurious']
"""

from typing import Any

import numpy as np

from experiments.run import runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  below,
  every,
  exact,
  not_below,
  percent,
  points,
)
from experiments.wise_ft import results
from weightspace import figures

BOTH = "both"  # the variant that BANG's claim is about: mixup and smoothing


def peak(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: the mean of in and out peaks inside, and 0.5 is above both ends."""
  mean = results.curves(run, results.PLAIN)["mean"]
  ends = mean[:, [0, -1]].max(1)
  best = results.curves(run, results.PLAIN, "validation")["mean"].argmax(1)
  inside = bool(((best > 0) & (best < len(results.ALPHAS) - 1)).all())
  chosen = mean[np.arange(len(mean)), best]
  where = ", ".join(
    f"{results.ALPHAS[place]:.2f}" for place in sorted(set(best))
  )
  measured = (
    f"mean of in and out at alpha 0.5 minus the better end:"
    f" {points(mean[:, results.HALF] - ends)}; at the alpha chosen on"
    f" validation images ({where}): {points(chosen - ends)}, over {len(mean)}"
    " seeds"
  )
  higher = above(mean[:, results.HALF] - ends), above(chosen - ends)
  return measured, every(exact(inside), *higher)


def spurious(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: FalseFalseTrue, OOD above both ends, overconfidence costs."""
  out = results.curves(run, results.PLAIN)["out"]
  gains = out[:, [results.HALF]] - out[:, [0, -1]]
  outcome, ensemble = (
    results.outcomes(run, results.PLAIN),
    results.ensembles(run, results.PLAIN),
  )
  fall = ensemble[:, -1] - ensemble[:, 0]
  measured = (
    f"out of distribution at alpha 0.5: {points(gains[:, 0])} over the base,"
    f" {points(gains[:, 1])} over the fine-tuned model; FalseFalseTrue"
    f" {points(outcome[0], '%')}, TrueTrueFalse {points(outcome[1], '%')};"
    f" fine-tuned logits times {results.SCALES[-1]:g} change the output"
    f" ensemble by {points(fall)}, over {len(out)} seeds"
  )
  kept = gains[:, 0], gains[:, 1], outcome[0]
  return measured, every(*map(above, kept), below(fall))


def bang(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: softened labels raise the interpolated model's OOD accuracy."""
  plain = results.curves(run, results.PLAIN)
  parts, gains = [], {}
  for variant in run.config.variants:
    if variant != results.PLAIN:
      found = results.curves(run, variant)
      out, inside = (found[name] - plain[name] for name in ("out", "in"))
      gains[variant] = out[:, results.HALF]
      parts.append(
        f"{variant} {points(out[:, results.HALF])} (in distribution"
        f" {points(inside[:, results.HALF])}; the fine-tuned model itself"
        f" {points(out[:, -1])})"
      )
  text = "out of distribution at alpha 0.5, minus WiSE-FT: "
  count = len(plain["out"])
  return f"{text}{'; '.join(parts)}, over {count} seeds", not_below(gains[BOTH])


MENDED = ("FalseFalseTrue", "TrueTrueFalse")
COLUMNS = {  # of the table; of "spurious" they are named by its domains
  "bang": ("in", "out", "mean", "overconfidence"),
  "peak": ("in", "seen", "unseen", "out", "mean"),
}


def table(run: runs.Run) -> runs.Table:
  """Return the numbers of both ends, of alpha 0.5 and of the outputs' mean."""
  shown = COLUMNS.get(run.config.judge, (*run.config.out, "out", *MENDED))
  rows: runs.Table = {}
  for variant in run.config.variants:
    found, ensemble = (
      results.curves(run, variant),
      results.ensembles(run, variant)[:, 0],
    )
    ends = {"base": (0, "base"), f"{variant}, fine-tuned": (-1, "fine")}
    for row, (place, model) in ends.items():
      rows[row] = {name: found[name][:, place] for name in found}
      rows[row]["overconfidence"] = results.surplus(run, variant, model)
    rows[f"{variant}, alpha 0.5"] = {
      **{name: found[name][:, results.HALF] for name in found},
      **dict(zip(MENDED, results.outcomes(run, variant))),
    }
    rows[f"{variant}, outputs"] = {"out": ensemble}
  return {
    row: {c: percent(v[c]) for c in shown if c in v} for row, v in rows.items()
  }


def draw_peak(run: runs.Run) -> Any:
  """Draw accuracy over alpha, and out against in as the paper does."""
  found = results.curves(run, results.PLAIN)
  label = "alpha (0 the base, 0.5 untuned, 1 fine-tuned)"
  shown = {name: found[name] for name in ("in", "out", "mean")}
  return figures.figure(
    figures.curves(
      results.ALPHAS,
      shown,
      (label, "test accuracy (%)"),
      "Between the two",
      [(0.5, "")],
    ),
    trade({results.PLAIN: found}),
    width=11.0,
    height=4.0,
  )


def draw_bang(run: runs.Run) -> Any:
  """Draw out-of-distribution accuracy over alpha, and gains over WiSE-FT."""
  found = {name: results.curves(run, name) for name in run.config.variants}
  plain = found[results.PLAIN]["out"][:, results.HALF]
  gains = {
    name: values["out"][:, results.HALF] - plain
    for name, values in found.items()
    if name != results.PLAIN
  }
  return figures.figure(
    figures.dots(
      gains, "points over WiSE-FT", "Out of distribution, alpha 0.5"
    ),
    trade(found),
    width=11.0,
    height=4.0,
  )


def trade(found: dict[str, dict[str, np.ndarray]]) -> figures.Panel:
  """Make the panel of out- against in-distribution accuracy, base to fine."""

  def draw(axes: Any) -> None:
    for place, (name, values) in enumerate(found.items()):
      colour = figures.COLOURS[place]
      x, y = values["in"].mean(0), values["out"].mean(0)
      axes.plot(x, y, color=colour, lw=2, label=name)
      axes.plot(x[[0, -1]], y[[0, -1]], "o", color=colour, ms=6)
      axes.plot(x[results.HALF], y[results.HALF], "*", color=colour, ms=13)
    first = next(iter(found.values()))
    start = first["in"].mean(0)[0], first["out"].mean(0)[0]
    axes.annotate("base", start, (6, -14), textcoords="offset points")
    axes.grid()
    axes.legend()
    axes.set(
      xlabel="in distribution (%)",
      ylabel="out of distribution (%)",
      title="The way from the base",
    )

  return draw


def draw_spurious(run: runs.Run) -> Any:
  """Draw accuracies of the ends and their mixes, and what mixing mends."""
  found = results.curves(run, results.PLAIN)["out"]
  scaled = results.ensembles(run, results.PLAIN)
  rows = {
    "base": found[:, 0],
    "fine-tuned": found[:, -1],
    "WiSE-FT, alpha 0.5": found[:, results.HALF],
    "output ensemble": scaled[:, 0],
    f"logits times {results.SCALES[-1]:g}": scaled[:, -1],
  }
  mended, broken = results.outcomes(run, results.PLAIN)
  gains = {
    "over the base": found[:, results.HALF] - found[:, 0],
    "over the fine-tuned": found[:, results.HALF] - found[:, -1],
    "FalseFalseTrue": mended,
    "TrueTrueFalse": broken,
    "overconfidence": scaled[:, -1] - scaled[:, 0],
  }
  return figures.figure(
    figures.dots(rows, "test accuracy (%)", "Out of distribution"),
    figures.dots(gains, "points", "Gains of alpha 0.5, by seed"),
    width=11.0,
    height=3.6,
  )


SEEDS = "Dots are seeds, bars and bands 95 % intervals of their mean."
CLAIMS = {
  "bang": Claim(
    bang,
    draw_bang,
    f"Left: gain of softened labels, paired by seed. {SEEDS} Right: from the"
    " base to each fine-tuned model, means over seeds; stars are alpha 0.5.",
  ),
  "peak": Claim(
    peak,
    draw_peak,
    f"Left: accuracy from the base to the fine-tuned model. {SEEDS} Right: the"
    " same way, out of against in distribution; the star is alpha 0.5.",
  ),
  "spurious": Claim(
    spurious,
    draw_spurious,
    "Left: where patches fail; the last row is the output ensemble with an"
    f" overconfident fine-tuned model. {SEEDS} Right: what is compared, paired"
    " by seed; FalseFalseTrue (TrueTrueFalse): only the mix is right (wrong);"
    " last, what overconfidence changes.",
  ),
}
