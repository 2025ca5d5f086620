"""Tasks cut out of a data set: classes, noisy labels, clients, few shots.

Functions of labels return indices, so that one `take` serves images, text and
users' own arrays; randomness comes from the key alone.

>>> few_shot(jax.random.key(0), np.array([0, 1, 0, 1, 0]), 1).shape
(2,)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.data import sets
from weightspace.types import Key

EDGE = 1e-6  # keeps 0.3 * 10 from being counted as 2


def keep_classes(
  data: sets.Arrays, classes: Sequence[int], relabel: bool = False
) -> sets.Arrays:
  """Keep the examples of some classes, in file order.

  Args:
    data: "x" and "y" [N] (and any other arrays [N, ...]).
    classes: the labels to keep.
    relabel: whether class classes[i] becomes i.

  Returns:
    The same arrays, shorter.

  Raises:
    ValueError: for a class that does not occur or is named twice.

  >>> data = {"y": np.array([0, 7, 3, 7])}
  >>> keep_classes(data, [7, 3], relabel=True)["y"].tolist()
  [0, 1, 0]
  """
  y = np.asarray(data["y"])
  for index, label in enumerate(classes):
    if label in classes[:index] or not np.any(y == label):
      raise ValueError(
        f"classes: {label} is named twice or does not occur, expected distinct"
        f" classes among {np.unique(y).tolist()}"
      )
  kept = sets.take(data, np.flatnonzero(np.isin(y, classes)))
  if relabel:
    table = np.zeros(max(classes) + 1, y.dtype)
    table[list(classes)] = np.arange(len(classes))
    kept["y"] = table[kept["y"]]
  return kept


def flip_labels(
  key: Key, y: jax.Array, share: float, classes: int
) -> jax.Array:
  """Replace a share of the labels by another class, drawn evenly.

  Symmetric label noise with the share held exactly: floor(share N) labels
  change, none of them to itself (the variant in which a drawn label may be the
  right one flips a share (1 - 1 / classes) of ours).

  Args:
    key: draws which labels change, and to what.
    y: [N] integers.
    share: of the labels, in [0, 1].
    classes: how many there are.

  Returns:
    [N] in the dtype of y.

  Raises:
    ValueError: for a share outside [0, 1] or fewer than two classes.

  >>> y = jnp.zeros(10, int)
  >>> (flip_labels(jax.random.key(0), y, 0.3, classes=10) != y).sum().item()
  3
  """
  if not 0 <= share <= 1 or classes < 2:
    raise ValueError(
      f"share {share} of {classes} classes, expected a share from 0 to 1 of at"
      " least 2 classes"
    )
  y = jnp.asarray(y)
  which, what = jax.random.split(key)
  count = int(share * len(y) + EDGE)
  chosen = jax.random.permutation(which, len(y))[:count]
  offset = jax.random.randint(what, (count,), 1, classes, y.dtype)
  return y.at[chosen].set((y[chosen] + offset) % classes)


def dirichlet(
  key: Key, y: np.ndarray, clients: int, alpha: float
) -> list[np.ndarray]:
  """Deal examples out to clients with unequal shares of each class.

  For each class, shares over the clients are drawn from Dirichlet(alpha, ...,
  alpha) and its shuffled examples are cut at the cumulated shares.  alpha to
  infinity is an even split, to 0 one client per class; a client may go empty.

  Args:
    key: draws shares and order.
    y: labels [N].
    clients: how many.
    alpha: concentration, above 0.

  Returns:
    For each client its indices, ascending; every example is dealt once.

  Raises:
    ValueError: when there is no client or alpha is not above 0.

  >>> parts = dirichlet(jax.random.key(0), np.arange(20) % 2, 3, alpha=1.0)
  >>> sorted(np.concatenate(parts).tolist()) == list(range(20))
  True

  Yurochkin et al. 2019, https://arxiv.org/abs/1905.12022, and Hsu et al. 2019,
  https://arxiv.org/abs/1909.06335 (who draw shares of classes per client).
  """
  if clients < 1 or not alpha > 0:
    raise ValueError(
      f"{clients} clients with alpha {alpha}, expected at least 1, above 0"
    )
  y = np.asarray(y)
  parts: list[list[np.ndarray]] = [[] for _ in range(clients)]
  for label in np.unique(y):
    share_key, order_key = jax.random.split(jax.random.fold_in(key, label))
    members = np.flatnonzero(y == label)
    members = members[jax.random.permutation(order_key, len(members))]
    shares = jax.random.dirichlet(share_key, jnp.full(clients, float(alpha)))
    ends = np.cumsum(np.asarray(shares, np.float64))[:-1]
    cuts = np.rint(len(members) * ends).astype(int)
    for part, piece in zip(parts, np.split(members, cuts)):
      part.append(piece)
  return [np.sort(np.concatenate(part)) for part in parts]


def few_shot(key: Key, y: np.ndarray, per_class: int) -> np.ndarray:
  """Draw `per_class` examples of each class, without replacement.

  Returns:
    Indices [classes * per_class], class by class.

  Raises:
    ValueError: naming the first class that has fewer.

  >>> y = np.array([0, 1, 0, 1])
  >>> y[few_shot(jax.random.key(0), y, 2)].tolist()
  [0, 0, 1, 1]
  """
  y = np.asarray(y)
  chosen = []
  for label in np.unique(y):
    members = np.flatnonzero(y == label)
    if not 1 <= per_class <= len(members):
      raise ValueError(
        f"per_class {per_class}: class {label} has {len(members)} examples,"
        " expected from 1 to that many"
      )
    order = jax.random.permutation(jax.random.fold_in(key, label), len(members))
    chosen.append(members[order[:per_class]])
  return np.concatenate(chosen)


def bootstrap(key: Key, count: int, draws: int = 1) -> jax.Array:
  """Draw resamples of `count` examples with replacement.

  Returns:
    Indices [draws, count].

  >>> bootstrap(jax.random.key(0), 5, draws=2).shape
  (2, 5)

  Efron 1979, "Bootstrap methods: another look at the jackknife".
  """
  return jax.random.randint(key, (draws, count), 0, count)
