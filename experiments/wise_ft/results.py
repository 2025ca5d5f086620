"""What the WiSE-FT experiment measures: logged, and read back by seed.

Every number is one line of metrics.jsonl, and all that a run says is made from
the lines alone.  Accuracies and shares are in percent.

>>> ALPHAS[HALF].item()
0.5
"""

from typing import Any

import jax
import numpy as np

import weightspace as ws
from experiments.run import progress, runs
from experiments.run.claims import gather
from weightspace import losses
from weightspace.data import domains
from weightspace.merge.methods import feature_diversity
from weightspace.types import Data, Stack

ALPHAS = np.linspace(0.0, 1.0, 21)
HALF = len(ALPHAS) // 2  # alpha = 0.5: the paper's, without tuning
SCALES = (1.0, 2.0, 4.0, 8.0)  # of the fine-tuned logits; 8 is the verdict's
TESTS = 2**16  # keys of the test sets, apart from those of training
PLAIN = "WiSE-FT"  # the variant that is fine-tuned on hard labels
Curves = dict[str, np.ndarray]  # {"in", "out", "mean" or a domain: [S, A]}


def measure(
  run: runs.Run,
  model: Any,
  splits: Any,
  variant: str,
  base: Stack,
  *,
  fine: Stack,
) -> None:
  """Log accuracies between the models of each seed, in every domain.

  Args:
    run: its config names the domains; validation data choose alpha.
    model: what base and fine are models of.
    splits: the data set.
    variant: how the fine-tuned models were made.
    base: [S, ...].
    fine: [S, ...], fine-tuned from them.
  """
  config = run.config
  tests = {"in": config.fine.domains, **config.out}
  score = losses.of(model.apply, losses.accuracy)
  logits = jax.jit(model.apply)
  mixes = np.stack([1 - ALPHAS, ALPHAS], 1)
  with progress.bar(f"{variant}: measured", config.seeds) as advance:
    for seed, pair in enumerate(zip(ws.unstack(base), ws.unstack(fine))):
      for place, (domain, settings) in enumerate(tests.items()):
        said = {"seed": seed, "variant": variant, "domain": domain}
        key = jax.random.fold_in(run.key, TESTS + seed)
        for part, split in enumerate(("validation", "test")):
          own = jax.random.fold_in(key, 2 * place + part)
          data = _shown(own, getattr(splits, split), settings, config.test)
          right = ws.merge.evaluate_mixes(
            ws.stack(list(pair)), mixes, score, data, per_example=True,
            mesh=run.mesh,
          )  # fmt: skip
          for at, value in zip(ALPHAS, 100 * np.asarray(right).mean(1)):
            run.log(**said, split=split, alpha=f"{at:.2f}", accuracy=value)
        run.log(**said, **_cases(np.asarray(right)))
        ends = [logits(params, data["x"]) for params in pair]
        mixed = _ensembles(ends[0], ends[1], data["y"])
        for scale, value in zip(SCALES, mixed):
          run.log(**said, scale=f"{scale:g}", accuracy=value)
        for name, end in zip(("base", "fine"), ends):
          surplus = feature_diversity.overconfidence(end, data["y"]).mean()
          run.log(**said, model=name, overconfidence=100 * float(surplus))
      advance(seed + 1)


def _shown(key: Any, split: Data, settings: Any, count: int) -> Data:
  kept = {name: array[:count] for name, array in split.items()}
  return domains.mix(key, kept, settings)


def _cases(right: np.ndarray) -> dict[str, float]:
  """Return what mixing at alpha = 0.5 mends and breaks, of [A, N]."""
  case = [right[0] > 0, right[-1] > 0, right[HALF] > 0]
  lost = [~x for x in case]
  return {
    "false_false_true": 100 * float(feature_diversity.false_false_true(*case)),
    "true_true_false": 100 * float(feature_diversity.false_false_true(*lost)),
  }


def _ensembles(base: Any, fine: Any, labels: Any) -> list[float]:
  """Return the accuracy of the output ensemble for each of SCALES."""
  mixed = [
    feature_diversity.output_ensemble(base, fine, 0.5, scale)
    for scale in SCALES
  ]
  return [100 * float(losses.accuracy(x, labels).mean()) for x in mixed]


def curves(run: runs.Run, variant: str, split: str = "test") -> Curves:
  """Return accuracies over alpha: per domain, `out` their mean, and `mean`.

  `out` weighs the domains of `config.out` alike, `mean` is half in, half out.
  """
  found = {
    domain: gather(run, "accuracy", variant=variant, domain=domain, split=split)
    for domain in ("in", *run.config.out)
  }
  out = np.mean([found[domain] for domain in run.config.out], 0)
  return found | {"out": out, "mean": (found["in"] + out) / 2}


def outcomes(run: runs.Run, variant: str) -> list[np.ndarray]:
  """Return FalseFalseTrue and TrueTrueFalse [S], means over out domains."""
  return [
    np.mean(
      [
        gather(run, name, variant=variant, domain=domain)[:, 0]
        for domain in run.config.out
      ],
      0,
    )
    for name in ("false_false_true", "true_true_false")
  ]


def ensembles(run: runs.Run, variant: str) -> np.ndarray:
  """Return out-of-distribution accuracy of output ensembles, [S, scales]."""
  found = [
    np.stack(
      [
        gather(run, "accuracy", variant=variant, domain=d, scale=f"{scale:g}")[
          :, 0
        ]
        for scale in SCALES
      ],
      1,
    )
    for d in run.config.out
  ]
  return np.mean(found, 0)


def surplus(run: runs.Run, variant: str, model: str) -> np.ndarray:
  """Return confidence minus accuracy [S], mean over the out domains."""
  return np.mean(
    [
      gather(run, "overconfidence", variant=variant, domain=d, model=model)
      for d in run.config.out
    ],
    0,
  )[:, 0]
