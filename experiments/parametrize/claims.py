"""What each claim about parametrizations asks, and whether a run grants it.

>>> sorted(CLAIMS)[:2]
['adalora', 'bone']
"""

import numpy as np

from experiments.run import runs
from experiments.run.claims import (
  Claim,
  Rows,
  Verdict,
  above,
  below,
  every,
  not_below,
  over,
  rows,
  said,
)

WHEN = ("a quarter", "the end")
MARGIN = 1.0  # points of accuracy that an adapter may cost


def eva(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: lower training loss after a quarter of the steps, and at the end."""
  gaps = [
    found["EVA"] - found["random"]
    for found in (
      rows(run, f"loss at {when}") for when in ("a quarter", "the end")
    )
  ]
  right = rows(run, "accuracy (%)")
  measured = (
    f"training loss, EVA minus random LoRA: {said(gaps[0], 'nats')} after a"
    f" quarter of the steps, {said(gaps[1], 'nats')} at the end; accuracy"
    f" {said(right['EVA'] - right['random'], 'points')}, {over(run)}"
  )
  return measured, every(*map(below, gaps))


def adalora(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: planted ranks are found; the loss is below that of equal ranks."""
  loss, found = rows(run, "test loss"), rows(run, "rank correlation")["AdaLoRA"]
  ratio = np.log(loss["AdaLoRA"] / loss["equal ranks"])
  bound = run.config.registered.threshold
  measured = (
    f"rank correlation with the planted ranks {said(found, '', signed=False)};"
    f" log of the ratio of test losses to equal ranks {said(ratio)},"
    f" {over(run)}"
  )
  return measured, every(above(found, bound), below(ratio))


def bone(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: at equal numbers, the training loss is below LoRA's."""
  loss, right = rows(run, "loss at the end"), rows(run, "accuracy (%)")
  gaps = {name: loss[name] - loss["LoRA"] for name in ("Bone", "MiSS")}
  parts = [
    f"{name} minus LoRA: training loss {said(gap, 'nats')}, accuracy"
    f" {said(right[name] - right['LoRA'], 'points')}"
    for name, gap in gaps.items()
  ]
  return f"{'; '.join(parts)}, {over(run)}", below(gaps["Bone"])


def compacter(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: within a point of full fine-tuning, at each number of examples."""
  right, size = rows(run, "accuracy (%)"), rows(run, "trained numbers")
  gaps, parts = [], []
  for count in run.config.examples:
    end = f", {count} examples" if len(run.config.examples) > 1 else ""
    gaps.append(right[f"Compacter{end}"] - right[f"full{end}"])
    parts.append(f"{said(gaps[-1], 'points')} at {count} examples")
  first = f", {run.config.examples[0]} examples"
  end = first if len(run.config.examples) > 1 else ""
  share = 100 * (size[f"Compacter{end}"] - run.config.head)
  share = share / (size[f"full{end}"] - run.config.head)
  measured = (
    f"accuracy, Compacter minus full fine-tuning: {' and '.join(parts)}, with"
    f" {share.mean():.2f} % of the numbers and the head, {over(run)}"
  )
  small = below(share + 1e-6 * np.arange(len(share)), 2.0)
  return measured, every(small, *(not_below(gap, MARGIN) for gap in gaps))


def glm(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: eight bits cost under 0.1 % of the loss, four under 3 %."""
  rise = rows(run, "rise of the loss (%)")
  orders = _orders(rise)
  measured = (
    f"rise of the test loss: INT8 {said(rise['INT8'], '%', 3)}, INT4"
    f" {said(rise['INT4'], '%', 3)}{orders}, {over(run)}"
  )
  return measured, every(below(rise["INT8"], 0.1), below(rise["INT4"], 3.0))


def _orders(rise: Rows) -> str:
  names = [name for name in rise if "then" in name]
  parts = [f"{name} {said(rise[name], '%', 3)}" for name in names]
  return f"; of a mean of experts: {', '.join(parts)}" if parts else ""


def nupes(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: an exponent below one, less error, a loss not above uniform's."""
  rise, error = (
    rows(run, name) for name in ("rise of the loss (%)", "weight error (%)")
  )
  power = rows(run, "power")["INT4, power by weights"]
  ratio = error["INT4, power by weights"] / error["INT4"]
  gaps = {
    name: rise[f"INT4, power by {name}"] - rise["INT4"]
    for name in ("weights", "loss", "learned")
  }
  parts = [f"{name} {said(gap, 'points')}" for name, gap in gaps.items()]
  measured = (
    f"4 bits: best exponent {said(power, '', signed=False)}, ratio of weight"
    f" errors {said(ratio, '', signed=False)}; rise of the loss minus"
    f" uniform's, exponent by {', '.join(parts)}, {over(run)}"
  )
  verdict = every(below(power, 1.0), below(ratio, 0.9), below(gaps["loss"]))
  return measured, verdict


def ofq(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: fewer jumps with StatsQ than a learned scale, fewer annealed."""
  jumps, right = rows(run, "jumps per 10,000"), rows(run, "accuracy (%)")
  scale = jumps["StatsQ"] - jumps["learned scale"]
  held = jumps["StatsQ, annealed"] - jumps["StatsQ, more steps"]
  gain = right["StatsQ"] - right["learned scale"]
  measured = (
    f"jumps per 10,000 weight-steps: StatsQ minus a learned scale"
    f" {said(scale)}; annealed minus not {said(held)}; accuracy of StatsQ minus"
    f" a learned scale {said(gain, 'points')}, {over(run)}"
  )
  return measured, every(below(scale), below(held))


def compander(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: kurtosis and test loss below those of plain weights."""
  found = [
    rows(run, name) for name in ("kurtosis", "test loss", "accuracy (%)")
  ]
  tails, loss, right = (x["companded"] - x["plain"] for x in found)
  measured = (
    f"companded minus plain: kurtosis {said(tails)}, test loss"
    f" {said(loss, 'nats')}, accuracy {said(right, 'points')}, {over(run)}"
  )
  return measured, every(below(tails), below(loss))


def parametrizations(run: runs.Run) -> tuple[str, Verdict | None]:
  """Judge nothing: a table for users."""
  right = rows(run, "accuracy merged (%)")
  best = max(right, key=lambda name: right[name].mean())
  measured = (
    f"merged by TIES, best of {len(right)} is {best}:"
    f" {said(right[best], '%', 2, False)}, {over(run)}"
  )
  return measured, None


CLAIMS = {
  "adalora": Claim(adalora),
  "bone": Claim(bone),
  "compacter": Claim(compacter),
  "compander": Claim(compander),
  "eva": Claim(eva),
  "glm_levels": Claim(glm),
  "nupes": Claim(nupes),
  "ofq": Claim(ofq),
  "parametrizations": Claim(parametrizations),
}
