"""Cases of merging, of transfers and of variance."""

import itertools

import numpy as np

from experiments.merge import patch_claims
from experiments.merge.probe_judges import CONTINUAL
from experiments.merge.results import BASE, EXPERTS, TUNED, UNTUNED
from tests.experiments.judges import spread

BOTH = (TUNED, UNTUNED)


def bed(config, means, count=None, label=None, **more):
  """Return lines of {method: {choice: accuracy}} on the config's last bed."""
  at = {"bed": label or list(config.beds)[-1]}
  at |= {"count": count or config.counts[-1]}
  return [
    at
    | {"method": method, "choice": choice, "accuracy": float(value)}
    | {name: float(x[method][choice]) for name, x in more.items()}
    for method, choices in means.items()
    for choice, value in choices.items()
  ]


def both(value):
  return dict.fromkeys(BOTH, value)


def ties(k, config):
  means = {"average": both(60), "task arithmetic": both(60 + k)}
  means |= {"TIES": both(60 + 2 * k), EXPERTS: both(60 + 3 * k)}
  return bed(config, means)


def breadcrumbs(k, config):
  lines = [{"wrong": 0.0, "norm kept": 60.0}]
  for count in config.counts:
    means = {"task arithmetic": both(60)}
    means |= {"Breadcrumbs": {TUNED: 60 + k, UNTUNED: 60 - k}}
    lines += bed(config, means, count)
    for setting, chosen in enumerate((70.0, 80.0)):
      at = {"tried": "Breadcrumbs", "setting": setting, "count": count}
      lines.append(at | {"validation": chosen, "test": 60.0 + k * setting})
  return lines


def pcb(k, config):
  means = {"task arithmetic": both(50), "TIES": both(60)}
  means |= {"PCB": {TUNED: 59 + k, UNTUNED: 60 + k}}
  return bed(config, means)


def bench(k, config):
  names = list(config.methods)
  means = {name: {TUNED: 60 + k, UNTUNED: 60} for name in names}
  chosen = {name: {TUNED: 80, UNTUNED: 70} for name in names}
  kept = {name: {TUNED: 50 + k, UNTUNED: 50} for name in names}
  more = {"chosen by": chosen, f"on {BASE}": kept, "normalised": means}
  return bed(config, means, **more)


def scale(k, config):
  lines = []
  shares = np.linspace(0, 1, len(config.methods))
  for label, count in itertools.product(config.beds, config.counts):
    wide = "narrow" not in label
    shift = 0 if wide and "weak" not in label else 5 * k
    width = 3 if wide else 3 + 2 * k
    means = {
      name: both(80 - shift - width * share)
      for name, share in zip(config.methods, shares)
    }
    lines += bed(config, means, count, label, normalised=means)
  return lines


def dare(k, config):
  shares = {("deltas, rescaled", "0.9"): 98 + k, ("weights", "0.1"): 95}
  shares |= {("weights, rescaled", "0.9"): 80 - 5 * k, ("deltas", "0.9"): 60}
  return [
    {"dropped": kind, "rate": rate, "normalised": float(value)}
    for (kind, rate), value in shares.items()
  ]


def opcm(k, config):
  means = {name: both(60) for name in CONTINUAL}
  means |= {"task arithmetic": both(62), "TIES": both(62)}
  means |= {"OPCM": both(60 + k)}
  state = {"bytes": 1e6, "overlap": 0.0, "length": 1.0}
  orders = [
    {"tried": "OPCM, other orders", "setting": place, "test": 60 + value}
    for place, value in enumerate((1 - 0.5 * k) * spread(5))
  ]
  return [*bed(config, means), state, *orders]


def optmerge(k, config):
  means = {"task arithmetic": both(60), "OptMerge": both(60 + k)}
  falls = [{"steps": n, "interaction": 1.0 / (1 + n)} for n in range(3)]
  return [*bed(config, means), *falls]


def rmm(k, config):
  count = len(config.tasks)
  half, last = (f"RMM, p = {n}" for n in ((count + 1) // 2, count))
  right = {"adapters": 90, half: 88, last: 90, "mean of products": 60}
  wrong = 1e-7 if k > 0 else 0.1
  return [
    *({"adapted": n, "accuracy": float(x)} for n, x in right.items()),
    {"reversible": half, "stored": 76.0, "mismatch": wrong, "error": 0.1},
    {"reversible": last, "stored": 100.0, "mismatch": wrong, "error": 1e-12},
  ]


def signatures(k, config):
  kinds, chosen, lines = ("a", "b"), 3, []
  places = np.arange(len(patch_claims.PLACES))
  layers = (patch_claims.ALL, patch_claims.SHALLOW)
  for kind, layer, split in itertools.product(
    kinds, layers, ("validation", "test")
  ):
    hard = 50.0 + places
    easy = np.where(places <= chosen, 90.0, 80.0)
    if split == "test":
      gain = 5 + 2 * k
      gain = gain if layer == patch_claims.ALL else 0.8 * gain + 0.5 * k
      hard = np.where(places == chosen, 50.0 + gain, 50.0)
      easy = np.where(places == chosen, 89 + 0.5 * k, 90.0)
    for place in places:
      at = {"corruption": kind, "layers": layer, "split": split}
      numbers = {"corrupted": float(hard[place]), "clean": float(easy[place])}
      lines.append(at | {"scale": f"{place}"} | numbers)
  for a, b, layer in itertools.product(kinds, kinds, layers):
    cosine = 0.5 + (0.2 * k if a == b else 0.0)
    at = {"corruption": a, "other": b, "layers": layer}
    lines.append(at | {"cosine": cosine})
  return lines


def aligning(k, config):
  before = {f"{name} (%)": 50.0 for name in ("old", "new", "all")}
  after = {name: value + k for name, value in before.items()}
  return [
    {"aligned": "before", "norms": 1.2, **before},
    {"aligned": "aligned", "norms": 1.0, "moved": 0.0, **after},
  ]


def transfer(k, config):
  lines = []
  for place, name in enumerate(config.versions):
    numbers = {"distance": float(place), "barrier": 10.0 * place}
    numbers["gain"] = float(k * (20 - 3 * place))
    lines.append({"version": name, **numbers})
  return lines


def variance(k, config):
  lines = [
    {"averaged": n, "ratio": 1 / n, "corrected": 1.0} for n in config.counts
  ]
  for arm, value in (
    ("plain", 60),
    ("corrected", 60 + k),
    ("common start", 70),
  ):
    for turn in range(config.rounds):
      lines.append({"arm": arm, "turn": turn, "accuracy": float(value)})
  return lines


CASES = {
  "merge-ties": ties,
  "merge-dare": dare,
  "merge-breadcrumbs": breadcrumbs,
  "merge-pcb": pcb,
  "merge-opcm": opcm,
  "merge-optmerge": optmerge,
  "merge-rmm": rmm,
  "merge-scale": scale,
  "merge-bench": bench,
  "merge-bench-text": bench,
  "merge-signatures": signatures,
  "merge-aligning": aligning,
  "merge-transfer": transfer,
  "merge-variance": variance,
}
