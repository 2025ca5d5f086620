"""Loss, error and classes along a path in one pass, BatchNorm included.

A profile sums over padded batches with weights, so any stream of batches gives
the numbers of the whole data set.  For models with BatchNorm it says what their
statistics were: those of one end (`frozen`), the ends' mixed like weights
(`interpolated`), or measured anew at each point (`recalibrated`), which is what
papers between distant models mean.

>>> from weightspace import models

>>> from weightspace.paths import path as paths
>>> model = models.build("mlp", hidden=(), classes=2)
>>> ends = [model.init(jax.random.key(k), jnp.ones((1, 3))) for k in (0, 1)]
>>> data = {"x": np.eye(3, dtype=np.float32), "y": np.array([0, 1, 1])}
>>> found = profile(model.apply, paths.line(*ends), [data], classes=2, points=3)
>>> found.losses.shape, found.class_losses.shape, found.counts.tolist()
((3,), (3, 2), [1.0, 2.0])
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import losses, models, trees
from weightspace.jaxpr import closures
from weightspace.paths import barriers
from weightspace.paths.barriers import Barrier
from weightspace.paths.bezier import Bezier, Polyline
from weightspace.types import Apply, Params, Path


class Policy(NamedTuple):
  """What BatchNorm is normalised by at each point of a path."""

  name: str
  stats: Callable[[Params, float], Any]  # (params, t) -> statistics


class Profile(NamedTuple):
  """What was measured at T places of a path, and its barriers."""

  ts: np.ndarray  # [T]
  losses: np.ndarray  # [T], mean cross-entropy
  errors: np.ndarray  # [T], shares of wrong answers
  class_losses: np.ndarray  # [T, C], means over examples of a class
  class_errors: np.ndarray  # [T, C]
  counts: np.ndarray  # [C], examples of each class
  loss: Barrier
  error: Barrier  # its mean is the instability of Frankle et al.

  def barriers(self) -> dict[str, float]:
    """Return the barrier in every named convention."""
    return {
      "loss, chord (Entezari 2022)": self.loss.chord,
      "loss, mean (Git Re-Basin)": self.loss.mean,
      "loss, midpoint": self.loss.half,
      "error, chord": self.error.chord,
      "error, instability (Frankle 2020)": self.error.mean,
      "error, mode connectivity (Yang 2021)": self.error.connectivity,
      "loss, monotonicity (Lucas 2021)": self.loss.violation,
    }


def none() -> Policy:
  """Return the policy of models without BatchNorm: no statistics.

  >>> none().name
  'none'
  """
  return Policy("none", lambda params, t: None)


def frozen(stats: Any) -> Policy:
  """Return the policy that keeps one model's statistics everywhere.

  Right near that model, meaningless far away.

  >>> frozen({}).name
  'frozen'
  """
  return Policy("frozen", lambda params, t: stats)


def interpolated(a: Any, b: Any) -> Policy:
  """Return the policy that mixes the ends' statistics as weights.

  >>> policy = interpolated({"mean": 0.0}, {"mean": 4.0})
  >>> policy.stats(None, 0.25)
  {'mean': 1.0}
  """

  def mix(params: Params, t: float) -> Any:
    return jax.tree.map(lambda x, y: (1 - t) * x + t * y, a, b)

  return Policy("interpolated", mix)


def recalibrated(
  model: Any, batches: Sequence[jax.Array], passes: int | None = None
) -> Policy:
  """Return the policy that measures the statistics anew at each point.

  Args:
    model: from `models.build` or `models.from_linen`.
    batches: training inputs, each [B, ...].
    passes: of `models.population`; by default exact for every layer.

  Izmailov et al. 2018, https://arxiv.org/abs/1803.05407 (one pass); Garipov et
  al. 2018, https://arxiv.org/abs/1802.10026, for paths.
  """

  def measure(params: Params, t: float) -> Any:
    return models.population(model, params, batches, passes)

  return Policy("recalibrated", measure)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sums(
  apply: Apply, classes: int, params: Params, stats: Any, batch: Any
) -> jax.Array:
  """Return sums over a batch by class: loss, errors, examples, [3, C]."""
  x, y = batch["x"], jnp.asarray(batch["y"])
  logits = apply(params, x) if stats is None else apply(params, x, stats)
  weights = jnp.asarray(batch.get("weight", jnp.ones(len(y))), float)
  wrong = 1.0 - losses.accuracy(logits, y)
  each = jnp.stack([losses.cross_entropy(logits, y), wrong, jnp.ones(len(y))])
  kept = jnp.where(weights[None] > 0, each * weights[None], 0.0)
  return kept @ jax.nn.one_hot(y, classes)


def profile(
  apply: Apply,
  path: Path,
  batches: Sequence[Mapping[str, Any]] | Callable[[], Iterable[Any]],
  *,
  classes: int,
  points: int = 25,
  statistics: Policy | None = None,
) -> Profile:
  """Measure loss, error and each class along a path, one forward pass each.

  Args:
    apply: `apply(params, x)` -> logits [B, C]; `apply(params, x, stats)` where
      the policy has statistics.
    path: any path; points of mixes are in float32 or wider.
    batches: a list of {"x", "y"} and perhaps "weight" [B] (`data.batches` pads
      so), or a function that begins the stream anew.
    classes: C.
    points: T >= 2 places, both ends included.
    statistics: a Policy for BatchNorm; its name is kept in the barriers.

  Returns:
    Profile: means over all examples, whatever the batches.

  Raises:
    ValueError: for fewer than two points, or no example.

  >>> def apply(p, x): return x * p
  >>> data = {"x": np.eye(2), "y": np.arange(2)}
  >>> found = profile(apply, lambda t: 1.0 - 2.0 * t, [data], classes=2)
  >>> found.errors[[0, -1]].tolist(), found.error.mean
  ([0.0, 1.0], 0.5)

  The conventions: `barriers.Barrier`.
  """
  if points < 2:
    raise ValueError(f"profile: points is {points}, expected at least 2")
  policy, apply = statistics or none(), closures.fixed(apply)
  begin: Any = batches if callable(batches) else lambda: batches
  if isinstance(path, Bezier | Polyline):
    path = trees.widened(path)
  ts, sums = np.linspace(0.0, 1.0, points), []
  for t in ts:
    params = path(float(t))
    stats = policy.stats(params, float(t))
    total = np.zeros((3, classes))
    for batch in begin():
      total += np.asarray(_sums(apply, classes, params, stats, batch), float)
    sums.append(total)
  found = np.stack(sums)
  counts = found[0, 2]
  if not counts.sum() > 0:
    raise ValueError("profile: no examples, expected at least one")
  means = found[:, :2].sum(-1) / counts.sum()
  by_class = found[:, :2] / np.where(counts > 0, counts, np.nan)
  both = [
    barriers.summarise(ts, row, statistics=policy.name) for row in means.T
  ]
  lows, errors = means.T
  each = by_class[:, 0], by_class[:, 1]
  return Profile(ts, lows, errors, each[0], each[1], counts, both[0], both[1])
