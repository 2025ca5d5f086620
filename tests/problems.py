"""Small problems that several tests share: trees, a network, a data set."""

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws

SHAPES = {"dense": {"kernel": (3, 4), "bias": (4,)}, "out": (4, 2), "gain": ()}


def tree(seed, shapes=None, dtype=np.float32):
  """Return a tree of normal numbers, as NumPy arrays."""
  random = np.random.default_rng(seed)
  return jax.tree.map(
    lambda shape: np.asarray(random.normal(size=shape)).astype(dtype),
    shapes or SHAPES,
    is_leaf=lambda shape: isinstance(shape, tuple),
  )


def models(count, dtype=np.float32):
  return [tree(seed, dtype=dtype) for seed in range(count)]


def stack(count, dtype=np.float32):
  return ws.stack(models(count, dtype))


def apply(params, x):
  """Two layers; `gain` is used non-linearly, and shared by both."""
  hidden = x @ params["dense"]["kernel"] + params["dense"]["bias"][None]
  return jnp.exp(params["gain"]) * (jnp.tanh(hidden) @ params["out"])


def data(count=24, seed=0):
  random = np.random.default_rng(seed)
  x = random.normal(size=(count, 3)).astype(np.float32)
  y = (x.sum(1) > 0).astype(np.int32)
  return {"x": jnp.asarray(x), "y": jnp.asarray(y)}


def accuracy(params, batch):
  """Return right or wrong for each example: [N] of booleans."""
  return apply(params, batch["x"]).argmax(-1) == batch["y"]


def likelihood(params, batch):
  """Return the log-likelihood of each example, [N]."""
  logits = jax.nn.log_softmax(apply(params, batch["x"]))
  return jnp.take_along_axis(logits, batch["y"][:, None], axis=1)[:, 0]


def mean_likelihood(params, batch):
  return likelihood(params, batch).mean()


def close(a, b, rtol=1e-5, atol=1e-6):
  """Compare two trees of one structure, leaf by leaf."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for path, leaf in ws.trees.named(a).items():
    other = ws.trees.named(b)[path]
    wide = [np.asarray(x, np.complex128) for x in (leaf, other)]
    np.testing.assert_allclose(*wide, rtol, atol, err_msg=path)


def sums_agree(a, b, terms):
  """Compare two trees of sums that were taken in another order, leaf by leaf.

  Two orders of `terms` float32 products differ by `terms` roundings of the sum
  of their magnitudes.  Where a sum cancels, that is far more than a share of
  its value, so the bound is taken of the largest entry of the leaf; squares of
  such sums double it.
  """
  eps = float(np.finfo(np.float32).eps)
  for path, leaf in ws.trees.named(a).items():
    other = np.asarray(ws.trees.named(b)[path], np.float64)
    bound = 2 * terms * eps
    np.testing.assert_allclose(
      np.asarray(leaf, np.float64),
      other,
      bound,
      bound * np.abs(other).max(initial=0.0),
      err_msg=path,
    )


def sharded(stack, spec=("model", None, "leaf")):
  """Lay a Stack out over two devices for models and four for entries."""
  auto = (jax.sharding.AxisType.Auto,) * 2
  mesh = jax.make_mesh((2, 4), ("model", "leaf"), axis_types=auto)

  def place(x):
    fits = [
      name if name and x.shape[i] % mesh.shape[name] == 0 else None
      for i, name in enumerate(spec[: x.ndim])
    ]
    return jax.device_put(x, jax.NamedSharding(mesh, jax.P(*fits)))

  return jax.tree.map(place, stack)
