"""What the contenders of the benchmark of matching do: one function each.

All match the same two Gaussian models, the hardest there are.

>>> axes, a, b = problem("small")
>>> perms, objective = loop(axes, a, b, lambda names, sweep: names)
>>> objective > 0
True
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize

Work = Callable[[], Any]
Order = Callable[[list[str], int], list[str]]

MODELS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
  "mlp": ("mlp", {"hidden": (512, 512, 512)}, (28, 28, 1)),
  "resnet20x4": ("resnet", {"width": 4, "shortcut": 3}, (32, 32, 3)),
  "resnet20x8": ("resnet", {"width": 8, "shortcut": 3}, (32, 32, 3)),
  "small": ("mlp", {"hidden": (128, 128, 128)}, (28, 28, 1)),
}
PAIRS = 16


def problem(name: str, seed: int = 0) -> tuple[Any, Any, Any]:
  """Return the axes and two Gaussian models."""
  return drawn(*MODELS[name], seed)


def drawn(
  kind: str, hyper: dict[str, Any], image: tuple[int, ...], seed: int = 0
) -> tuple[Any, Any, Any]:
  """Return the axes and two Gaussian models of an architecture."""
  import jax

  import weightspace as ws

  model = ws.models.build(kind, **hyper)
  x = jax.ShapeDtypeStruct((1, *image), np.float32)
  shapes = jax.eval_shape(model.module.init, jax.random.key(0), x)["params"]
  axes = ws.match.trace_axes(model.apply, shapes, x)

  def draw(seed: int) -> Any:
    stream = np.random.default_rng(seed)
    return jax.tree.map(
      lambda s: stream.normal(
        scale=np.prod(s.shape[:-1]) ** -0.5, size=s.shape
      ).astype(np.float32),
      shapes,
    )

  return axes, draw(2 * seed), draw(2 * seed + 1)


def weightspace(name: str) -> Work:
  """Match by `match_weights`, in drawn orders."""
  import jax

  import weightspace as ws

  axes, a, b = problem(name)
  return lambda: ws.match.match_weights(axes, a, b, jax.random.key(0))


def published(name: str) -> Work:
  """Match by the published loop, in the same orders."""
  axes, a, b = problem(name)
  return lambda: loop(axes, a, b, order)


def order(names: list[str], sweep: int) -> list[str]:
  """Return the names in the order that `match_weights` draws for key 0."""
  import jax

  words = np.asarray(jax.random.key_data(jax.random.key(0))).ravel().tolist()
  stream = np.random.Generator(np.random.Philox([*words, sweep]))
  return [names[k] for k in stream.permutation(len(names))]


def loop(
  axes: Any, a: Any, b: Any, order: Order
) -> tuple[dict[str, Any], float]:
  """Match as algorithm 1 of Git Re-Basin is published, step by step.

  Every sweep solves for every permutation; each term takes the second model
  along all its other axes; the gain is read off products with an identity.

  Returns:
    The permutations, and their objective.
  """
  import jax.numpy as jnp

  from weightspace import trees

  left, right = (
    {path: jnp.asarray(w) for path, w in trees.named(m).items()} for m in (a, b)
  )
  words = {p: text.split() for p, text in trees.named(axes.tree).items()}
  names = [n for n in axes.sizes if n not in axes.pins]
  perms = {n: jnp.arange(axes.sizes[n]) for n in names}

  for sweep in range(100):
    progress = False
    for name in order(names, sweep):
      found = _gains(left, right, words, perms, name)
      _, place = scipy.optimize.linear_sum_assignment(found, maximize=True)
      one = jnp.eye(len(place))
      before = jnp.vdot(found, one[perms[name]])
      after = jnp.vdot(found, one[place, :])
      progress = progress or bool(after > before + 1e-12)
      perms[name] = jnp.asarray(place)
    if not progress:
      break
  pairs = ((left[p], _permuted(right[p], words[p], perms, -1)) for p in words)
  total = sum(np.vdot(*(np.asarray(x, np.float64) for x in p)) for p in pairs)
  return perms, float(total)


def _gains(left: Any, right: Any, words: Any, perms: Any, name: str) -> Any:
  import jax.numpy as jnp

  n = len(perms[name])
  total = jnp.zeros((n, n))
  for path, row in words.items():
    for axis in [k for k, word in enumerate(row) if word == name]:
      u = jnp.moveaxis(left[path], axis, 0).reshape(n, -1)
      v = _permuted(right[path], row, perms, axis)
      total += u @ jnp.moveaxis(v, axis, 0).reshape(n, -1).T
  return total


def _permuted(w: Any, row: Any, perms: Any, skip: int) -> Any:
  import jax.numpy as jnp

  for axis, word in enumerate(row):
    if word in perms and axis != skip:
      w = jnp.take(w, perms[word], axis=axis)
  return w


def floor(name: str) -> Work:
  """Do the assignments of `match_weights` and the arithmetic of its products.

  The products are those of matrices that lie ready, of the same sizes.
  """
  import jax
  import jax.numpy as jnp

  from weightspace.match.solvers import assignment, grams

  shapes: list[tuple[int, int]] = []
  problems: list[Any] = []
  gram, solve = grams.gram, assignment.solve

  def record_gram(a: Any, b: Any, axis: int, batch: Any) -> Any:
    shapes.append((a.shape[axis], a.size // a.shape[axis]))
    return gram(a, b, axis, batch)

  def record_solve(gains: Any, solver: str = "scipy") -> Any:
    problems.append(np.array(gains))
    return solve(gains, solver)

  run = weightspace(name)
  grams.gram, assignment.solve = record_gram, record_solve
  run()
  grams.gram, assignment.solve = gram, solve
  multiply = jax.jit(lambda x: x @ x.T)
  ready = {s: jnp.ones(s) for s in shapes if s[1] > 1}

  def again() -> None:
    for shape in shapes:
      if shape in ready:
        multiply(ready[shape]).block_until_ready()
    for gains in problems:
      solve(gains)

  return again


def together(name: str) -> Work:
  """Match sixteen pairs in one call."""
  import weightspace as ws

  axes, a, models = _pairs(name)
  return lambda: ws.match.match_pairs(axes, a, models)


def one_by_one(name: str) -> Work:
  """Match sixteen pairs in sixteen calls."""
  import weightspace as ws

  axes, a, models = _pairs(name)
  return lambda: [ws.match.match_weights(axes, a, b) for b in models]


def _pairs(name: str) -> Any:
  axes, a, _ = problem(name)
  return axes, a, [problem(name, seed)[2] for seed in range(PAIRS)]


def seconds(run: Work, repeats: int = 2) -> float:
  """Return the least wall time of warm calls."""
  run()
  found = []
  for _ in range(repeats):
    began = time.perf_counter()
    run()
    found.append(time.perf_counter() - began)
  return min(found)


RUNS = {
  "weightspace": weightspace,
  "published": published,
  "floor": floor,
  "together": together,
  "one_by_one": one_by_one,
}
