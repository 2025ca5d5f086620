"""What each claim about averages in the loop asks, and whether a run grants it.

>>> sorted(CLAIMS)
['cotta', 'ewa', 'salsa', 'salsa_bandit']
"""

from experiments.run import runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  below,
  every,
  rows,
  said,
)

WORSE = 0.5  # points of accuracy below dense that count as equal: ours


def cotta(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: at the end below TENT and the source, without a collapse."""
  last = rows(run, "error of the last turn (%)")
  first = rows(run, "error of the first turn (%)")
  tent, source = last["CoTTA"] - last["TENT"], last["CoTTA"] - last["source"]
  drift = last["CoTTA"] - first["CoTTA"]
  measured = (
    f"error of the last turn, CoTTA minus TENT: {said(tent, 'points')}, minus"
    f" the source model: {said(source, 'points')}; CoTTA from the first turn to"
    f" the last: {said(drift, 'points')}, over {len(tent)} seeds"
  )
  return measured, every(below(tent), below(source), below(drift, 2.0))


def ewa(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: the averaged experts are at most half a point below the dense."""
  right, loss = rows(run, "accuracy (%)"), rows(run, "test loss")
  gap = right["experts, averaged"] - right["dense"]
  cost = loss["experts, averaged"] - loss["dense"]
  measured = (
    f"accuracy, averaged experts minus dense: {said(gap, 'points')};"
    f" test loss: {said(cost, 'nats')}, over {len(gap)} seeds"
  )
  return measured, above(gap, -WORSE)


def salsa(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: more reward and more divergence with the soup as reference."""
  gain, kl = rows(run, "reward"), rows(run, "KL to its reference")
  loss = rows(run, "test loss")
  names = "held to soup", "held to one model"
  more, far, cost = (x[names[0]] - x[names[1]] for x in (gain, kl, loss))
  measured = (
    f"soup minus one model as reference: reward {said(more, '')}, divergence"
    f" {said(far, 'nats')}, test loss {said(cost, 'nats')}, over {len(more)}"
    " seeds"
  )
  return measured, every(above(more), above(far))


def salsa_bandit(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: the tilted soup earns more than the tilted single references."""
  gain, kl = rows(run, "reward"), rows(run, "KL to its reference")
  single = (gain["one"] + gain["other"]) / 2
  far = kl["soup"] - (kl["one"] + kl["other"]) / 2
  more = gain["soup"] - single
  names = [f"{name}, unrelated reward" for name in ("soup", "one", "other")]
  soup, one, other = (gain[name] for name in names)
  blind = soup - (one + other) / 2
  measured = (
    f"soup minus one model as reference: reward {said(more)}, of an unrelated"
    f" reward {said(blind)}, divergence {said(far, 'nats')}, over {len(more)}"
    " seeds"
  )
  return measured, every(above(more), above(more - blind))


CLAIMS = {
  "cotta": Claim(cotta),
  "ewa": Claim(ewa),
  "salsa": Claim(salsa),
  "salsa_bandit": Claim(salsa_bandit),
}
