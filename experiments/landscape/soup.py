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
from experiments.bench import classifiers
from experiments.landscape import figures as landscape_figures
from experiments.run import runs
from weightspace import figures, intervals, losses, probe
from weightspace.types import Data, Params

ALPHA = 0.5
# L'' by central differences this far apart: the kinks of ReLU on the way bend
# the loss, but no local derivative sees them.
STEP = 0.25
STATEMENT = (
  "The loss of a two-model soup less that of their logit ensemble follows the"
  " approximation by flatness and confidence: over pairs the correlation is"
  " above 0.8, and the sign agrees for more than 80 % of them."
)


def measure(run: runs.Run) -> None:
  """Fine-tune members at many rates; log both sides for each pair."""
  config = run.config
  model, train, test = classifiers.data(run)
  loss = classifiers.risk(model)

  def begin() -> Any:
    return classifiers.starts(model, train, run.key, config.seeds)

  first = classifiers.fit(
    run, "starts", loss, begin, train, config.start, run.key
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
      config.members,
      jax.random.fold_in(run.key, seed + 1),
      {"learning_rate": jnp.asarray(rates, jnp.float32)},
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
  found = classifiers.lines(run, "predicted", seed=seed)
  return (
    np.array([line["predicted"] for line in found]),
    np.array([line["gap"] for line in found]),
  )


def finish(run: runs.Run) -> None:
  """Judge the claim, and write the table and the figure."""
  seeds = range(run.config.seeds)
  pairs = [_columns(run, seed) for seed in seeds]
  correlations = [float(np.corrcoef(x, y)[0, 1]) for x, y in pairs]
  signs = [float(100 * np.mean(np.sign(x) == np.sign(y))) for x, y in pairs]
  slopes = [float(x @ y / (x @ x)) for x, y in pairs]
  r, sign, slope = map(intervals.mean_interval, (correlations, signs, slopes))
  measured = (
    f"correlation over pairs {r.mean:.3f} [{r.low:.3f}, {r.high:.3f}], equal"
    f" sign {sign.mean:.0f} % [{sign.low:.0f}, {sign.high:.0f}], slope"
    f" {slope.mean:.2f} [{slope.low:.2f}, {slope.high:.2f}], over"
    f" {len(pairs)} seeds of {len(pairs[0][0])} pairs"
  )
  table: runs.Table = {
    "pairs of a seed": {
      "correlation": r,
      "equal sign (%)": sign,
      "slope": slope,
      "gap": intervals.mean_interval([y.mean() for _, y in pairs]),
      "predicted": intervals.mean_interval([x.mean() for x, _ in pairs]),
    }
  }
  drawn = figures.figure(
    landscape_figures.scatter(
      {f"seed {seed}": pairs[seed] for seed in seeds},
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
  holds = r.low > 0.8 and sign.low > 80.0
  run.finish(STATEMENT, measured, table, holds, {"soup": (drawn, caption)})
