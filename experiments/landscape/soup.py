"""Soups and ensembles: is the gap of their losses what flatness predicts?

For two models of logits f_0, f_1 and their mix at alpha, with L'' the second
derivative of the loss along the line and Delta = f_1 - f_0:

  L_soup - L_ensemble ~= alpha (1 - alpha) / 2 (E Var_{y ~ p} Delta_y - L'')

Where models disagree confidently the ensemble has the lower loss, where the
line is curved upwards the soup has.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.bench import classifiers, text
from experiments.landscape import panels
from experiments.run import claims, estimates, runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  correlated,
  every,
  over,
  said,
)
from weightspace import figures, losses, probe
from weightspace.types import Data, Params

ALPHA = 0.5
# L'' by central differences this far apart: the kinks of ReLU on the way bend
# the loss, but no local derivative sees them.
STEP = 0.25


def measure(run: runs.Run) -> None:
  """Fine-tune members at many rates; log both sides for each pair."""
  config = run.config
  model, train, test = classifiers.data(run)
  loss = classifiers.risk(model)

  def begin() -> Any:
    return text.starts(model, train["x"], run.key, config.seeds)

  first = classifiers.fit(
    run, "starts", loss, begin, train, settings=config.start, key=run.key
  )
  count = config.members.count
  rates = np.geomspace(config.members.rates[0], config.members.rates[1], count)
  for seed in range(config.seeds):
    start = jax.tree.map(lambda x, s=seed: jnp.asarray(x[s]), first)
    members = classifiers.fit(
      run,
      f"members{seed}",
      loss,
      lambda start=start: ws.stack([start] * count),  # type: ignore[misc]
      train,
      settings=config.members,
      key=jax.random.fold_in(run.key, seed + 1),
      hyper={"learning_rate": jnp.asarray(rates, jnp.float32)},
    )
    models = [jax.tree.map(jnp.asarray, m) for m in ws.unstack(members)]
    for i, j in itertools.combinations(range(count), 2):
      found = compare(model.apply, loss, test, models[i], models[j])
      run.log(seed=seed, first=i, second=j, **found)


def compare(
  apply: Any, loss: Any, data: Data, a: Params, b: Params
) -> dict[str, float]:
  """Return the gap of soup and ensemble, measured and approximated."""
  line = probe.line(a, b)
  soup = line(ALPHA)
  places = ALPHA + STEP * np.array([-1.0, 0.0, 1.0])
  low, at, high = np.asarray(probe.along(line, places, loss, data), float)
  second = (low + high - 2 * at) / STEP**2
  one, two, middle = (_logits(apply, p, data["x"]) for p in (a, b, soup))
  ensemble = losses.cross_entropy((1 - ALPHA) * one + ALPHA * two, data["y"])
  p, delta = jax.nn.softmax(middle), two - one
  variance = (p * delta**2).sum(-1) - (p * delta).sum(-1) ** 2
  gap = loss(soup, data).mean() - ensemble.mean()
  scale = ALPHA * (1 - ALPHA) / 2
  return {
    "gap": float(gap),
    "predicted": float(scale * (variance.mean() - second)),
    "flatness": float(-scale * second),
    "confidence": float(scale * variance.mean()),
  }


_logits = jax.jit(lambda apply, p, x: apply(p, x), static_argnums=0)


def _columns(run: runs.Run, seed: int) -> tuple[np.ndarray, np.ndarray]:
  lines = claims.only(run, "predicted", seed=seed)
  return (
    np.array([line["predicted"] for line in lines]),
    np.array([line["gap"] for line in lines]),
  )


def agreement(run: runs.Run) -> dict[str, np.ndarray]:
  """Return how prediction and gap agree over the pairs of each seed, [S]."""
  pairs = [_columns(run, seed) for seed in range(run.config.seeds)]
  columns = {
    "correlation": [np.corrcoef(x, y)[0, 1] for x, y in pairs],
    "equal sign (%)": [
      100 * np.mean(np.sign(x) == np.sign(y)) for x, y in pairs
    ],
    "slope": [x @ y / (x @ x) for x, y in pairs],
    "gap": [y.mean() for _, y in pairs],
    "predicted": [x.mean() for x, _ in pairs],
  }
  return {name: np.array(values, float) for name, values in columns.items()}


def judge(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: prediction and gap correlate, and agree in sign."""
  found = agreement(run)
  r = said(estimates.correlation(found["correlation"]), "", 3, signed=False)
  shares = found["equal sign (%)"]
  sign = said(estimates.bounded(shares, 0, 100), "%", 0, signed=False)
  slope = said(found["slope"], "", 2, signed=False)
  measured = (
    f"correlation over pairs {r}, equal sign {sign}, slope {slope}, {over(run)}"
    f" of {len(_columns(run, 0)[0])} pairs"
  )
  strong = correlated(found["correlation"], 0.8)
  return measured, every(strong, above(shares, 80.0))


def finish(run: runs.Run) -> None:
  """Judge the claim, and write the table and the figure."""
  columns = {n: {"pairs of a seed": x} for n, x in agreement(run).items()}
  drawn = figures.figure(
    panels.scatter(
      {f"seed {seed}": _columns(run, seed) for seed in range(run.config.seeds)},
      ("predicted by flatness and confidence", "soup loss - ensemble loss"),
      "Every pair of members",
    ),
    width=6.5,
    height=4.4,
  )
  caption = (
    "The test loss of the soup of two members less that of their logit ensemble"
    " against its approximation; members of a seed share their start and differ"
    " by learning rate. Dotted: equality."
  )
  charts = {"soup": (drawn, caption)}
  claims.finish(run, Claim(judge), claims.table(columns), charts)
