"""Whether parameters and permutations fit the axes: checked before any work.

>>> from weightspace.symmetry.axes import Axes
>>> check_params(Axes({"w": "a"}, {"a": 3}, {}), {"w": np.ones(2)}, "permute")
Traceback (most recent call last):
ValueError: permute: 'w' has 2 at axis 0, expected 3 ('a')
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from weightspace import trees
from weightspace.symmetry import terms
from weightspace.symmetry.axes import Axes, Perm, extent, free, parse, shape
from weightspace.types import Params

# Collections, and the modules in which haiku keeps averages.
STATISTICS = ("batch_stats", "stats", "moments", "mean_ema", "var_ema")
MOMENTS = ("mean", "var", "running_mean", "running_var")  # leaves of BatchNorm


def is_statistic(path: str, axes: Axes | None = None) -> bool:
  """Tell whether a leaf holds BatchNorm statistics: moved, but never scored.

  Axes that were read off a program know them; by names alone those of flax,
  haiku and PyTorch are known.

  >>> is_statistic("batch_stats/norm/mean"), is_statistic("norm/scale")
  (True, False)
  """
  if axes is not None and axes.statistics is not None:
    return path in axes.statistics
  parts = path.split("/")
  return parts[-1] in MOMENTS or any(part in STATISTICS for part in parts)


def check_axes(axes: Any, what: str) -> None:
  """Raise a ValueError for what are no axes, as in another order.

  >>> check_axes({"w": 1.0}, "match_weights")
  Traceback (most recent call last):
  ...
  ValueError: match_weights: axes are a dict, expected those of trace_axes
  """
  if not isinstance(axes, Axes):
    raise ValueError(
      f"{what}: axes are a {type(axes).__name__}, expected those of trace_axes"
    )


def check_params(axes: Axes, params: Params, what: str) -> None:
  """Raise a ValueError at the first leaf that does not fit its pattern."""
  check_axes(axes, what)
  patterns, leaves = trees.named(axes.tree), trees.named(params)
  for path in patterns:
    if path not in leaves:
      raise ValueError(f"{what}: {path!r} is missing, expected as in the axes")
  for path, leaf in leaves.items():
    if path not in patterns:
      raise ValueError(f"{what}: {path!r} is unexpected, the axes lack it")
    found, sizes = parse(patterns[path]), np.shape(leaf)
    if len(found) != len(sizes):
      raise ValueError(
        f"{what}: {path!r} has shape {sizes}, expected axes {patterns[path]!r}"
      )
    for axis, (term, n) in enumerate(zip(found, sizes)):
      unknown = [w for w in names(term) if w not in axes.sizes]
      if unknown:
        raise ValueError(
          f"{what}: {path!r} names {unknown[0]!r}, which has no size"
        )
      if extent(term, axes.sizes) != n:
        word = patterns[path] if len(found) == 1 else f"axis {axis} of "
        word = word if len(found) == 1 else word + patterns[path]
        raise ValueError(
          f"{what}: {path!r} has {n} at axis {axis}, expected"
          f" {extent(term, axes.sizes)} ({word!r})"
        )


def fitted(axes: Axes, params: Params, what: str) -> Axes:
  """Return the axes with the sizes that parameters have.

  A slice of a model has its axes at other sizes.  A name that never has an
  axis, or a product with names that have one, to itself keeps its size.

  Raises:
    ValueError: at the first leaf that does not fit its pattern, or whose sizes
      differ from those of another leaf.

  >>> fitted(Axes({"w": "a"}, {"a": 3}, {}), {"w": np.ones(2)}, "take").sizes
  {'a': 2}
  """
  patterns = trees.named(axes.tree)
  sizes: dict[str, int] = {}
  shapes = {path: np.shape(leaf) for path, leaf in trees.named(params).items()}
  pairs = [
    (path, pair)
    for path, lengths in shapes.items()
    for pair in zip(parse(patterns.get(path, "")), lengths)
  ]
  for path, (term, n) in pairs:
    if isinstance(term, str) and sizes.setdefault(term, n) != n:
      raise ValueError(
        f"{what}: {path!r} has {n} of {term!r}, expected {sizes[term]} as in"
        " the leaves before"
      )
  for _, (term, n) in pairs:
    inner = terms.factors(term)
    unknown = [f for f in inner if isinstance(f, str) and f not in sizes]
    if len(unknown) == 1 and all(isinstance(f, int | str) for f in inner):
      rest = [f for f in inner if f != unknown[0]]
      sizes[unknown[0]] = n // extent(terms.product(rest), sizes)
  result = axes._replace(sizes=axes.sizes | sizes)
  check_params(result, params, what)
  return result


def names(term: Any) -> list[str]:
  """Return the names in a parsed term."""
  if isinstance(term, tuple):
    return [name for part in term[0] for name in names(part)]
  return [term] if isinstance(term, str) else []


def check_perm(axes: Axes, perm: Perm) -> None:
  """Raise a ValueError for indices that are no permutation of the axes."""
  check_axes(axes, "permute")
  if not isinstance(perm, Mapping):
    held = " its .perm," if hasattr(perm, "perm") else ""
    raise ValueError(
      f"permute: the permutation is a {type(perm).__name__}, expected{held} a"
      " dict of indices by name"
    )
  known = free(axes)
  for name, indices in perm.items():
    if name not in known:
      raise ValueError(
        f"perm: {name!r} is unknown, expected one of {', '.join(known[:4])}"
        + (", ..." if len(known) > 4 else "")
      )
    if np.shape(indices) != shape(axes, name):
      raise ValueError(
        f"perm: {name!r} has shape {np.shape(indices)}, expected"
        f" {shape(axes, name)}"
      )
  check_indices(perm)


def check_indices(perm: Perm) -> None:
  """Raise a ValueError at the first repeated index; pass over tracers."""
  for name, indices in perm.items():
    if not trees.concrete(indices):
      continue
    array = np.asarray(indices)
    if not np.issubdtype(array.dtype, np.integer):
      raise ValueError(f"perm: {name!r} is {array.dtype}, expected integers")
    rows = np.sort(array, -1).reshape(-1, array.shape[-1])
    wrong = (rows != np.arange(array.shape[-1])[None]).any(-1)
    if wrong.any():
      row = rows[np.argmax(wrong)]
      twice = [int(v) for v in row if (row == v).sum() > 1]
      said = f"{twice[0]} twice" if twice else f"{int(row.min())}..{row.max()}"
      raise ValueError(
        f"perm: {name!r} holds {said}, expected each of 0 to"
        f" {array.shape[-1] - 1} once"
      )


def check_alike(a: Perm, b: Perm) -> None:
  """Raise a ValueError at the first name where permutations differ in shape."""
  for name in a | b:
    if name not in a or name not in b:
      raise ValueError(f"perm: {name!r} is in one of the two only")
    if np.shape(a[name]) != np.shape(b[name]):
      raise ValueError(
        f"perm: {name!r} has shapes {np.shape(a[name])} and"
        f" {np.shape(b[name])}, expected one"
      )
  check_indices(a)
  check_indices(b)


def beside(axes: Axes, tree: Any) -> Any:
  """Return patterns for leaves that lie beside parameters.

  Copies of parameters, in states that hold some of them only, lie at a path
  that ends in theirs: `inner/mu/dense/kernel`.  Statistics are vectors, and
  move as the vectors of their layer: `norm/mean` as `norm/scale`.

  Raises:
    ValueError: at the first leaf that is neither.
  """
  patterns = trees.named(axes.tree)
  layers: dict[tuple[str, int], set[str]] = {}
  for path, text in patterns.items():
    found = parse(text)
    if len(found) == 1:
      size = extent(found[0], axes.sizes)
      layers.setdefault((path.rpartition("/")[0], size), set()).add(text)

  def pattern(path: str, leaf: Any) -> str:
    if not np.shape(leaf):
      return ""
    parts = path.split("/")
    for k in range(1, len(parts)):
      copy = patterns.get("/".join(parts[k:]))
      if copy is not None and _fits(copy, np.shape(leaf), axes.sizes):
        return copy
    module = path.rpartition("/")[0]
    found = layers.get((module, np.shape(leaf)[0]), set())
    if len(np.shape(leaf)) != 1 or len(found) != 1:
      raise ValueError(
        f"permute: {path!r} of shape {np.shape(leaf)} is no parameter, and no"
        f" vector of {module!r} has its size; expected the tree of the axes"
      )
    return next(iter(found))

  return trees.map_named(pattern, tree)


def _fits(text: str, lengths: tuple[int, ...], sizes: dict[str, int]) -> bool:
  return tuple(extent(term, sizes) for term in parse(text)) == lengths


def check_models(axes: Axes, what: str, *models: Params) -> None:
  """Raise a ValueError for models that do not fit, or are not finite."""
  for name, model in zip("abcdefgh", models):
    check_params(axes, model, f"{what}: {name}")
    if model is not models[0]:
      trees.check_same(models[0], model, f"{what}: {name}")
    check_finite(model, f"{what}: {name}")


def check_batch(
  x: Any, what: str, batch_size: int | None = None, *, graphs: bool = False
) -> int:
  """Return N of inputs [N, ...].

  Args:
    x: a tree of arrays.
    what: for errors.
    batch_size: how many are taken at a time.
    graphs: inputs without one axis N (the nodes and edges of a graph, a mask
      that all share, a number) are one batch, of as many as the first has.

  Raises:
    ValueError: where there are none, one is not finite, or inputs that are one
      batch are to be cut.
  """
  leaves = trees.named(x)
  counts = {
    np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in leaves.values()
  }
  if graphs and len(counts) > 1 and max(counts):
    if batch_size is not None:
      raise ValueError(
        f"{what}: batch_size is {batch_size} for inputs of {sorted(counts)}"
        " rows, which have no axis in common: expected None, all at once"
      )
    check_finite(x, f"{what}: inputs")
    return max(counts)
  if len(counts) != 1 or not min(counts):
    raise ValueError(
      f"{what}: inputs of {sorted(counts)} examples, expected one number, at"
      " least 1"
    )
  if batch_size is not None and batch_size < 1:
    raise ValueError(f"{what}: batch_size is {batch_size}, expected at least 1")
  check_finite(x, f"{what}: inputs")
  return counts.pop()


def check_finite(params: Params, what: str) -> None:
  """Raise a ValueError at the first leaf with NaN or infinity."""
  for path, leaf in trees.named(params).items():
    if trees.inexact(leaf) and trees.concrete(leaf):
      array = np.asarray(leaf)
      kind = array.dtype if array.dtype.kind in "fc" else np.float32
      wide = array.astype(kind, copy=False)
      with np.errstate(over="ignore", invalid="ignore"):
        total = wide.sum()  # finite only where all are
      if not np.isfinite(total) and not np.isfinite(wide).all():
        raise ValueError(f"{what}: {path!r} is not finite, expected numbers")
