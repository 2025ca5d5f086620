"""DARE, Breadcrumbs and DELLA against NumPy and their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace.merge.core import contexts
from weightspace.merge.core.steps import At
from weightspace.merge.methods import breadcrumbs_della, dare
from weightspace.numerics import random_bits as bits

RANDOM = np.random.default_rng(0)
KEY = jax.random.key(3)
DELTAS = {
  "a": np.float32(RANDOM.normal(size=(2, 4, 10))),
  "b": np.float32(RANDOM.normal(size=(2, 7))),
  "c": np.float32([1.5, -2.5]),
}
BASE = {p: np.zeros(x.shape[1:], np.float32) for p, x in DELTAS.items()}
BIG = {"w": np.ones((2, 20000), np.float32)}
START = {"w": np.zeros(20000, np.float32)}


def close(got, want):
  for path, x in want.items():
    np.testing.assert_allclose(got[path], x, 1e-5, 1e-6, err_msg=path)


def test_rate_zero_is_task_arithmetic_and_rate_one_is_the_base():
  got = ws.merge.dare(0.0, 0.5)(DELTAS, base=BASE, key=KEY)
  close(got, {p: 0.5 * x.sum(0) for p, x in DELTAS.items()})
  close(ws.merge.dare(1.0)(DELTAS, base=BASE, key=KEY), BASE)


@pytest.mark.parametrize("rescale", dare.RESCALES)
def test_dare(rescale):
  got = ws.merge.dare(0.6, rescale=rescale)(DELTAS, base=BASE, key=KEY)
  want = {}
  for path, x in DELTAS.items():
    leaf = contexts.leaf_contexts([path], None, KEY, {})[path].seed
    y = np.where(np.asarray(bits.uniform(KEY, leaf, x.shape)) < 0.4, x, 0)
    flat, cut = x.reshape(2, -1), y.reshape(2, -1)
    order = {"l1": 1, "l2": 2, "linf": np.inf}.get(rescale, 1)
    norms = [np.linalg.norm(z, order, axis=1) for z in (flat, cut)]
    ratio = norms[0] / np.where(norms[1] > 0, norms[1], 1)
    factor = {"inverse": np.full(2, 2.5), "none": np.ones(2)}
    factor = factor.get(rescale, ratio).reshape(-1, *[1] * (x.ndim - 1))
    want[path] = (y * factor).sum(0)
  close(got, want)


def test_dare_keeps_the_share_and_is_unbiased():
  merged = ws.merge.dare(0.9, 0.5)(BIG, base=START, key=KEY)["w"]
  error = np.sqrt(0.9 / 0.1 / 2 / 20000)
  assert abs(float(merged.mean()) - 1) < 5 * error
  delta, base = {"b": DELTAS["b"]}, {"b": BASE["b"]}
  many = jax.jit(
    jax.vmap(lambda key: ws.merge.dare(0.5)(delta, base=base, key=key)["b"])
  )(jax.random.split(KEY, 2000))
  spread = np.sqrt((DELTAS["b"] ** 2).sum(0) / 2000)
  assert (np.abs(many.mean(0) - DELTAS["b"].sum(0)) < 5 * spread).all()


def test_masks_differ_by_key_model_and_leaf_only():
  pair = {"u": BIG["w"][:, :64], "w": BIG["w"][:, :64]}
  base = jax.tree.map(lambda x: x[0] * 0, pair)
  step = ws.merge.chain(ws.merge.drop(0.5))
  first = step(pair, base=base, key=KEY)
  again = step({"w": pair["w"]}, base={"w": base["w"]}, key=KEY)
  np.testing.assert_array_equal(first["w"], again["w"])
  assert (first["w"][0] != first["w"][1]).any()
  assert (first["u"] != first["w"]).any()
  other = step(pair, base=base, key=jax.random.key(4))
  assert (first["w"] != other["w"]).any()


def test_dare_ties_is_drop_then_ties():
  dropped = ws.merge.chain(ws.merge.drop(0.5))(DELTAS, base=BASE, key=KEY)
  want = ws.merge.ties(0.5, 0.7)(dropped, base=BASE)
  close(ws.merge.dare_ties(0.5, 0.5, 0.7)(DELTAS, base=BASE, key=KEY), want)


def test_dare_ties_like_mergekit():
  step = ws.merge.chain(ws.merge.drop(0.5, rescale="l1"))
  dropped = step(DELTAS, base=BASE, key=KEY)
  want = ws.merge.ties(1.0, combine="sum", tie="plus")(dropped, base=BASE)
  recipe = ws.merge.dare_ties(0.5, parity="mergekit")
  close(recipe(DELTAS, base=BASE, key=KEY), want)


def rows_of(x):
  return x.reshape(-1, x.shape[-1] if x.ndim > 1 else 1)


def crumbs(rows, keep, top):
  n = rows.shape[1]
  t, k = int(top * n + 1e-6), max(1, int(keep * n + 1e-6))
  t = min(t, n - 1)
  rank = np.argsort(np.argsort(-np.abs(rows), 1, kind="stable"), 1)
  return np.where((rank >= t) & (rank < t + k), rows, 0)


@pytest.mark.parametrize("keep, top", [(0.3, 0.2), (0.05, 0.0), (0.9, 0.3)])
def test_breadcrumbs(keep, top):
  got = ws.merge.breadcrumbs(keep, top, 0.5)(DELTAS, base=BASE)
  want = {
    p: 0.5 * crumbs(rows_of(x), keep, top).reshape(x.shape).sum(0)
    for p, x in DELTAS.items()
  }
  close(got, want)


def test_breadcrumbs_like_mergekit():
  got = ws.merge.breadcrumbs(0.9, 0.3, parity="mergekit")(DELTAS, base=BASE)
  want = {}
  for path, x in DELTAS.items():
    flat = x.reshape(2, -1)
    k = max(1, int(0.9 * flat.shape[1] + 1e-6))
    top = min(int(0.3 * flat.shape[1] + 1e-6), flat.shape[1] - k)
    share = (top + 0.5) / flat.shape[1]
    want[path] = crumbs(flat, 0.9, share).reshape(x.shape).sum(0)
  close(got, want)


def test_breadcrumbs_leaves_scalars_and_constant_rows():
  flat = {"c": np.float32([1.5, -2.0]), "w": np.ones((2, 3, 8), np.float32)}
  base = {"c": np.float32(0), "w": np.zeros((3, 8), np.float32)}
  got = ws.merge.breadcrumbs(0.25, 0.25, 1.0)(flat, base=base)
  close(got, {"c": -0.5, "w": 2 * np.ones((3, 8))})


def test_relative_rank():
  x = np.float32([[3, -1, 2, 0], [1, 1, -1, 1], [2, 1, -1, 0]])
  want = [[1, 1 / 3, 2 / 3, 0], [0.5] * 4, [1, 0.5, 0.5, 0]]
  np.testing.assert_allclose(
    breadcrumbs_della.relative_rank(jnp.asarray(x)), want
  )
  np.testing.assert_array_equal(
    breadcrumbs_della.relative_rank(jnp.ones((3, 1))), 0.5
  )


def test_della_keeps_large_entries_more_often():
  x = np.float32(np.tile([4, 1, 3, 2, 0.5], (1, 4000, 1)))
  step = breadcrumbs_della.mag_prune(0.5, 0.4, rescale="none")
  kept = np.asarray(step.edit(jnp.asarray(x), At(key=KEY)))[0] != 0
  want = [0.7, 0.4, 0.6, 0.5, 0.3]
  assert (np.abs(kept.mean(0) - want) < 5 * 0.5 / np.sqrt(4000)).all()


def test_della_is_unbiased_and_window_zero_is_dare():
  x = {"w": np.float32(np.tile([4, 1, 3, 2, 0.5], (1, 4000, 1)))}
  base = {"w": np.zeros((4000, 5), np.float32)}
  merged = ws.merge.della(0.5, 0.4)(x, base=base, key=KEY)["w"].mean(0)
  np.testing.assert_allclose(merged, [4, 1, 3, 2, 0.5], rtol=0.15)
  plain = ws.merge.della(0.5, 0.0, elect=False)(DELTAS, base=BASE, key=KEY)
  close(plain, ws.merge.dare(0.5)(DELTAS, base=BASE, key=KEY))


def shares_of(rows, density, window):
  """Keep probabilities by rank of magnitude, from the least to the largest."""
  if rows.shape[1] == 1:
    return np.full(rows.shape, density)
  rank = np.argsort(np.argsort(np.abs(rows), 1), 1) / (rows.shape[1] - 1)
  return density - window / 2 + window * rank


def test_della():
  got = ws.merge.della(0.6, 0.4, 0.7)(DELTAS, base=BASE, key=KEY)
  cut = {}
  for path, x in DELTAS.items():
    leaf = contexts.leaf_contexts([path], None, KEY, {})[path].seed
    drawn = np.asarray(bits.uniform(KEY, leaf, x.shape))
    share = shares_of(rows_of(x), 0.6, 0.4).reshape(x.shape)
    cut[path] = np.where(drawn < share, x / share, 0)
  flat = np.concatenate([x.reshape(2, -1) for x in cut.values()], 1)
  sign = np.sign(flat.sum(0))
  assert (sign != 0).sum() > 30  # zero only where nothing is left
  mine = (np.sign(flat) == sign) & (flat != 0)
  mean = (flat * mine).sum(0) / np.maximum(mine.sum(0), 1)
  parts = np.split(0.7 * mean, [40, 47])
  close(got, {p: y.reshape(BASE[p].shape) for p, y in zip(DELTAS, parts)})


def test_della_elects_as_ties():
  step = ws.merge.chain(breadcrumbs_della.mag_prune(0.5, 0.4, rescale="l1"))
  cut = step(DELTAS, base=BASE, key=KEY)
  want = ws.merge.ties(1.0, tie="plus")(cut, base=BASE)
  recipe = ws.merge.della(0.5, 0.4, parity="mergekit")
  close(recipe(DELTAS, base=BASE, key=KEY), want)


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: ws.merge.dare(1.1), "dare: rate is 1.1"),
    (lambda: ws.merge.dare(0.5, rescale="max"), "rescale is 'max'"),
    (lambda: ws.merge.dare("0.5"), "dare: rate is '0.5', expected a number"),
    (lambda: ws.merge.dare([0.1, 0.2]), "dare: rate is .*expected a number"),
    (
      lambda: ws.merge.dare(0.5)(DELTAS, base=BASE, key=3),
      "recipe: key is 3, expected a key",
    ),
    (lambda: ws.merge.dare_ties(-0.1), "dare_ties: rate is -0.1"),
    (lambda: ws.merge.dare_ties(0.5, 2.0), "density is 2.0"),
    (lambda: ws.merge.breadcrumbs(1.5, 0.1, 1.0), "keep is 1.5"),
    (lambda: ws.merge.breadcrumbs(0.5, -0.1, 1.0), "top is -0.1"),
    (lambda: ws.merge.della(0.9, 0.4, 1.0), "window: density 0.9"),
    (lambda: ws.merge.dare(0.5)(DELTAS, base=BASE), "needs key="),
  ],
)
def test_bad_input_is_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
