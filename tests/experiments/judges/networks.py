"""Cases of WiSE-FT, of landscapes and of re-basin."""

import itertools

import numpy as np

from experiments.wise_ft import results

HALF, ALPHAS = results.HALF, results.ALPHAS


def way(config, curves, **more):
  """Return lines of {(variant, split): accuracies [A] in and out}."""
  lines = []
  for (variant, split), values in curves.items():
    for domain in ("in", *config.out):
      at = {"variant": variant, "domain": domain}
      for alpha, value in zip(ALPHAS, values):
        place = {"split": split, "alpha": f"{alpha:.2f}"}
        lines.append(at | place | {"accuracy": float(value)})
  for variant in {variant for variant, _ in curves}:
    for domain in ("in", *config.out):
      at = {"variant": variant, "domain": domain}
      lines.append(at | {"true_true_false": 0.1} | more)
  return lines


def bump(height, first=70.0, last=80.0):
  """Return accuracies that rise from first to last, `height` above at half."""
  curve = np.linspace(first, last, len(ALPHAS))
  curve[HALF] = last + height
  return curve


def peak(k, config):
  plain = results.PLAIN
  return way(
    config,
    {(plain, "test"): bump(k), (plain, "validation"): bump(5.0)},
    false_false_true=0.1,
  )


def spurious(k, config):
  plain = results.PLAIN
  curve = bump(k, 80.0)
  lines = way(config, {(plain, "test"): curve}, false_false_true=0.5 * k)
  for domain, scale in itertools.product(config.out, results.SCALES):
    value = 80.0 - (k if scale == results.SCALES[-1] else 0)
    at = {"variant": plain, "domain": domain, "scale": f"{scale:g}"}
    lines.append(at | {"accuracy": value})
  return lines


def bang(k, config):
  curves = {
    (name, "test"): bump(0 if name == results.PLAIN else k)
    for name in config.variants
  }
  return way(config, curves, false_false_true=0.1)


def connect(k, config):
  return [
    {"path": path, "split": split, "chord": value}
    for split, share in (("train", 0.1), ("test", 0.2))
    for path, value in (("line", 1.0), ("curve", share - 0.05 * k))
  ]


def lazy(k, config):
  low = {"change": 1 + 0.2 * k, "representation": 0.5 - 0.2 * k}
  low |= {"kernel": 0.5 - 0.2 * k}
  full = {"change": 1.0, "representation": 0.5, "kernel": 0.5}
  return [
    {"rank": config.low} | {n: float(x) for n, x in low.items()},
    {"rank": max(config.ranks)} | full,
  ]


def laws(k, config):
  value = {1: 1.0, 0: 1.1, -1: 1.3}[k]
  return [
    {"law": law, "place": config.judged, "ratio": value}
    for law in ("average", "adaptive", "worst")
  ]


def flatness(k, config):
  """Pairs on a circle: the angle of their axes sets correlation and signs."""
  r = {1: 0.99, 0: np.cos(0.2 * np.pi), -1: 0.2}[k]
  angles = 2 * np.pi * (np.arange(200) + 0.5) / 200
  x, y = np.cos(angles), np.cos(angles - np.arccos(r))
  return [
    {"first": i, "second": -1, "predicted": float(a), "gap": float(b)}
    for i, (a, b) in enumerate(zip(x, y))
  ]


def grokking(k, config):
  lines = []
  for place in range(7):
    numbers = {"norm": 30.0, "rank": 9.0, "top": 1.0}
    numbers |= {"train accuracy": 100.0 if place else 5.0}
    numbers |= {"test accuracy": 99.0 if place > 5 else 5.0}
    numbers |= {"coefficient": 9.0 - 2.0 * k * (place > 5)}
    lines.append({"checkpoint": place, **numbers})
  return lines


def barriers(config, means, split="train", case=None):
  case = case or list(config.cases)[-1]
  return [
    {"case": case, "method": name, "split": split, "mean": float(value)}
    for name, value in means.items()
  ]


def merged(config, means, case=None):
  case = case or list(config.cases)[-1]
  return [
    {"case": case, "merged": name, "accuracy": float(value), "loss": 1.0}
    for name, value in means.items()
  ]


def rebasin(k, config):
  means = {"naive": 1, "weights": 0.1 - 0.05 * k, "random": 0.5 + 0.3 * k}
  lines = barriers(config, means) + barriers(config, means, "test")
  return lines + merged(config, {"weights": 94.5 + k, "ends": 95})


def width(k, config):
  narrow = min(config.cases, key=lambda case: config.sizes[case])
  lines = []
  for case in config.cases:
    value = 0.2 + (0.1 * k if case == narrow else 0.0)
    lines += barriers(config, {"naive": 1, "weights": value}, case=case)
  return lines


def repair(k, config):
  method, lines = config.methods[-1], []
  for case in config.cases:
    means = {method: 90, f"{method} + REPAIR": 90 + k}
    lines += merged(config, means, case)
  return lines


def many(k, config):
  means = {"weights": 90, "MergeMany": 90, "many": 90 + k}
  fixed = {f"{name} + REPAIR": value for name, value in means.items()}
  return merged(config, means | fixed)


def squares(k, config):
  method = config.methods[-1]
  means = {method: 90, f"{method} + least squares": 90 + k}
  return merged(config, means | {f"{method} + REPAIR": 90})


def singular(k, config):
  case = list(config.cases)[-1]
  before = {"distance": 1.0, "left": 0.3, "right": 0.3}
  after = {"distance": 0.75 + 0.1 * k, "left": 0.3 + 0.1 * k}
  after |= {"right": 0.3 + 0.1 * k}
  return [
    {"case": case, "singular": "naive"} | before,
    {"case": case, "singular": "weights"} | after,
    *barriers(config, {"naive": 1, "weights": 0.5 - 0.2 * k}),
  ]


def heads(k, config):
  means = {"naive": 0.3, "activations": 0.2}
  means |= {"activations, without heads": 0.2 + 0.1 * k}
  return barriers(config, means)


def reset(k, config):
  method = config.methods[-1]
  means = {method: 50, f"{method} + reset": 50 + 10 * k}
  return merged(config, means | {"naive + reset": 40, "ends": 90})


def control(k, config):
  random = {1: 1.0, 0: 0.9, -1: 0.7}[k]
  means = {"naive": 1, "activations": 1 - 0.3 * k, "weights": 1}
  return barriers(config, means | {"random": random})


def others(k, config):
  means = {"weights": 0.1, "straight-through": 0.1, "naive, others": 1}
  means |= {"weights, others": 0.2, "straight-through, others": 0.2 + 0.1 * k}
  return barriers(config, means)


CASES = {
  "wise-ft": peak,
  "wise-ft-spurious": spurious,
  "bang": bang,
  "mode-connectivity": connect,
  "rich-lazy": lazy,
  "sharpness-laws": laws,
  "soup-flatness": flatness,
  "grokking-probes": grokking,
  "rebasin": rebasin,
  "rebasin-width": width,
  "repair-depth": repair,
  "repair-width": repair,
  "rebasin-vgg": repair,
  "c2m3": many,
  "pleas": squares,
  "lmc-singular": singular,
  "lmc-straight": others,
  "rebasin-vit": heads,
  "rebasin-resnet": reset,
  "rebasin-lm": control,
}
