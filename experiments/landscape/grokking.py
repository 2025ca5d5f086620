"""Grokking: probes of a network that first memorises modular addition.

a + b mod p from one-hot pairs, a share of which is trained on with strong
weight decay: training accuracy is perfect long before test accuracy rises.
Checkpoints of one long training are probed: weight norm, effective rank of the
first layer, local learning coefficient, top eigenvalue (warm-started from the
checkpoint before), and the distance of the tangent kernel to the one before.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weightspace as ws
from experiments.bench import classifiers
from experiments.bench.modular import sums
from experiments.run import claims, progress, runs
from experiments.run.claims import Claim, Verdict, below, every, exact
from weightspace import figures, intervals, losses, probe
from weightspace.types import Data, Params

MEASURES = {
  "norm": "weight norm",
  "rank": "effective rank of the first layer",
  "coefficient": "learning coefficient",
  "top": "top eigenvalue",
}


def measure(run: runs.Run) -> None:
  """Train each seed, keep its checkpoints, and probe them."""
  config = run.config
  model = run.model()
  for seed in range(config.seeds):
    key = jax.random.fold_in(run.key, seed)
    train, test = sums(config.modulus, config.share, key)
    stack = run.once(
      f"seed{seed}",
      lambda: _train(run, model, train, key, seed),  # noqa: B023
    )
    before: Any = None
    for at, params in enumerate(ws.unstack(stack)):
      params = jax.tree.map(jnp.asarray, params)
      found, before = _probe(
        model, params, before, train, test, key=key, config=config
      )
      run.log(seed=seed, checkpoint=at, **found)


def _train(run: runs.Run, model: Any, train: Data, key: Any, seed: int) -> Any:
  """Return checkpoints of a full-batch training, [T, ...]."""
  config = run.config.train
  params = model.init(key, train["x"][:1])
  tx = optax.adamw(config.learning_rate, b2=0.98, weight_decay=config.decay)
  loss = classifiers.risk(model)

  @jax.jit
  def advance(params: Params, state: Any) -> Any:
    def step(carry: Any, _: Any) -> Any:
      params, state = carry
      slope = jax.grad(lambda p: loss(p, train).mean())(params)
      updates, state = tx.update(slope, state, params)
      return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, state), length=config.every)[0]

  kept, state = [params], tx.init(params)
  with progress.bar(f"seed {seed}: training", config.checkpoints) as shown:
    for at in range(config.checkpoints):
      params, state = advance(params, state)
      kept.append(params)
      shown(at + 1)
  return ws.stack(kept)


def _probe(
  model: Any,
  params: Params,
  before: Any,
  train: Data,
  test: Data,
  *,
  key: Any,
  config: Any,
) -> tuple[dict[str, float], Any]:
  """Return the numbers of one checkpoint, and its top eigenvector."""
  loss = classifiers.risk(model)
  right = losses.of(model.apply, losses.accuracy)
  operator = probe.hessian(loss, params, train)
  values, vectors = probe.top_eigenpairs(
    operator, 1, config.steps, key, start=before
  )
  found = probe.learning_coefficient(
    loss, params, train, key, **config.langevin
  )
  zero = jax.tree.map(jnp.zeros_like, params)
  kernel = params["Dense_0"]["kernel"]
  return {
    "train accuracy": 100 * float(right(params, train).mean()),
    "test accuracy": 100 * float(right(params, test).mean()),
    "train loss": float(loss(params, train).mean()),
    "norm": float(probe.distance(params, zero)),
    "rank": float(probe.effective_rank(kernel, "participation")),
    "top": float(values[0]),
    "coefficient": found.value,
    "coefficient_stderr": found.stderr,
    "rhat": found.rhat,
  }, vectors


def _table(run: runs.Run, name: str) -> np.ndarray:
  """Return [seeds, checkpoints] of one measure."""
  found = claims.only(run, "checkpoint", "norm")
  seeds = sorted({line["seed"] for line in found})
  return np.array(
    [
      [
        line.get(name, np.nan)
        for line in sorted(found, key=lambda x: x["checkpoint"])
        if line["seed"] == seed
      ]
      for seed in seeds
    ]
  )


def ends(train: np.ndarray, test: np.ndarray) -> tuple[int, int] | None:
  """Return the first memorised and the first generalised checkpoint.

  Memorised: training accuracy over 99 %, test accuracy still below 50 %.
  Generalised: test accuracy over 95 %.

  >>> ends(np.array([9.0, 100.0, 100.0]), np.array([3.0, 9.0, 99.0]))
  (1, 2)
  """
  memorised = np.flatnonzero((train > 99.0) & (test < 50.0))
  done = np.flatnonzero(test > 95.0)
  if not len(memorised) or not len(done) or done[0] < memorised[0]:
    return None
  return int(memorised[0]), int(done[0])


def spans(run: runs.Run) -> list[tuple[int, int] | None]:
  """Return where each seed memorised and generalised, None where it did not."""
  accuracy = [_table(run, f"{part} accuracy") for part in ("train", "test")]
  return [ends(*pair) for pair in zip(*accuracy)]


def _pairs(run: runs.Run, name: str) -> tuple[np.ndarray, np.ndarray]:
  """Return a measure [seeds] where they memorised and where they generalised.

  Of those seeds that did both.
  """
  values = _table(run, name)
  kept = [(n, span) for n, span in enumerate(spans(run)) if span]
  pairs = [[values[n, place] for place in span] for n, span in kept]
  first, last = np.reshape(pairs, (-1, 2)).T
  return first, last


def judge(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: all seeds grok, late, and the learning coefficient falls."""
  found = spans(run)
  later = [span[1] / span[0] for span in found if span]
  verdicts = [exact(len(later) == len(found))]
  verdicts.append(exact(min(later, default=0.0) >= 3.0))
  texts = []
  for name, label in MEASURES.items() if len(later) > 1 else ():
    first, last = _pairs(run, name)
    gap = intervals.paired(last, first)
    texts.append(f"{label} {gap.mean:+.3g} [{gap.low:+.3g}, {gap.high:+.3g}]")
    if name == "coefficient":
      verdicts.append(below(last - first))
  measured = (
    f"{len(later)} of {len(found)} seeds memorised first and generalised later,"
    f" after {min(later, default=0.0):.1f} times the steps or more"
    f"{'; from there to here ' + ', '.join(texts) if texts else ''}"
  )
  return measured, every(*verdicts)


def finish(run: runs.Run) -> None:
  """Judge the claim, and write the table and the figure."""
  both = sum(span is not None for span in spans(run)) > 1
  numbers: runs.Table = {}
  for name, label in MEASURES.items():
    if both:
      first, last = _pairs(run, name)
      numbers[label] = {
        "memorised": intervals.mean_interval(first),
        "generalised": intervals.mean_interval(last),
        "difference": intervals.paired(last, first),
      }
    else:
      final = _table(run, name)[:, -1]
      numbers[label] = {"at the end": intervals.mean_interval(final)}
  claims.finish(run, Claim(judge), numbers, {"grokking": _draw(run)})


def _draw(run: runs.Run) -> tuple[Any, str]:
  config = run.config.train
  steps = np.arange(config.checkpoints + 1) * config.every
  both = {part: _table(run, f"{part} accuracy") for part in ("train", "test")}
  panels = [
    figures.curves(steps, both, ("step", "accuracy (%)"), "Accuracy"),
    *(
      figures.curves(
        steps, {label: _table(run, name)}, ("step", label), label.capitalize()
      )
      for name, label in MEASURES.items()
      if name != "top"
    ),
  ]
  drawn = figures.figure(*panels, width=15.0, height=3.4)
  return drawn, (
    "Modular addition with weight decay: accuracy, and probes of the"
    " checkpoints; mean over seeds and 95 % band."
  )
