"""SCE, PCB, consensus, TALL masks and EMR against NumPy and their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws

RANDOM = np.random.default_rng(0)
DELTAS = {
  "a": np.float32(RANDOM.normal(size=(3, 4, 5))),
  "b": np.float32(RANDOM.normal(size=(3, 9))) / 10,
}
BASE = {p: np.zeros(x.shape[1:], np.float32) for p, x in DELTAS.items()}
FLAT = np.concatenate([x.reshape(3, -1) for x in DELTAS.values()], 1)


def unflat(x):
  parts = np.split(x, [20], -1)
  lead = x.shape[:-1]
  return {
    p: y.reshape(*lead, *b.shape) for (p, b), y in zip(BASE.items(), parts)
  }


def close(got, want, rtol=1e-5):
  for path, x in want.items():
    np.testing.assert_allclose(got[path], x, rtol, 1e-6, err_msg=path)


def reference_sce(x, top):
  x, v = x.reshape(3, -1), x.reshape(3, -1).var(0)
  k = max(1, int(top * (v > 0).sum() + 1e-6))
  x = np.where(v >= np.sort(v)[-k], x, 0)
  weight = (x**2).mean(1)
  weight = weight / weight.sum()
  agree = np.sign(x) == np.where(x.sum(0) >= 0, 1, -1)
  below = (weight[:, None] * agree).sum(0)
  return (weight[:, None] * agree * x).sum(0) / np.where(below > 0, below, 1)


@pytest.mark.parametrize("top", [0.01, 0.4, 1.0])
@pytest.mark.parametrize("size", [1.0, 1e-12])
def test_sce(top, size):
  small = {p: x * np.float32(size) for p, x in DELTAS.items()}
  got = ws.merge.sce(top)(small, base=BASE)
  for path, x in DELTAS.items():
    want = reference_sce(x, top).reshape(x.shape[1:])
    np.testing.assert_allclose(got[path] / size, want, 1e-4, 1e-5)


def test_sce_of_equal_models_is_the_model():
  same = {p: np.repeat(x[:1], 3, 0) for p, x in DELTAS.items()}
  close(ws.merge.sce(0.2)(same, base=BASE), {p: x[0] for p, x in same.items()})


def reference_pcb(x, keep, scale):
  low, high = np.quantile(np.abs(x), [1e-4, 1 - 1e-4], axis=1, keepdims=True)
  clipped = np.clip(np.abs(x), low, high)
  unit = (clipped - low) / (high - low)
  beta = np.exp(len(x) * unit**2) * np.tanh(x * x.sum(0))
  least = np.quantile(beta, 1 - keep, axis=1, keepdims=True)
  weight = np.maximum(beta - least, 0) / (beta.max(1, keepdims=True) - least)
  total = (weight * np.sign(x) * clipped).sum(0)
  return scale * total / np.maximum(weight.sum(0), 1e-12)


@pytest.mark.parametrize("keep", [0.1, 0.5])
def test_pcb(keep):
  want = unflat(reference_pcb(FLAT.astype(np.float64), keep, 1.2))
  recipe = ws.merge.pcb(keep, 1.2)
  close(recipe(DELTAS, base=BASE), want, 1e-4)
  compiled = jax.jit(lambda x: recipe(x, base=BASE))
  close(compiled(DELTAS), want, 1e-4)


def tall_masks(x, threshold):
  return np.abs(x) > threshold * np.abs(x.sum(0) - x)


@pytest.mark.parametrize("threshold", [0.3, np.float32([0.2, 0.4, 0.6])])
def test_tall_and_consensus(threshold):
  each = np.reshape(threshold, (-1, 1))
  masks = tall_masks(FLAT, each)
  got = ws.merge.tall(threshold)(DELTAS, base=BASE)
  close(got, unflat(masks * FLAT.sum(0)))
  for agree in (0, 2, 4):
    got = ws.merge.consensus(0.5, threshold, agree)(DELTAS, base=BASE)
    close(got, unflat(0.5 * (masks.sum(0) >= agree) * FLAT.sum(0)))


def test_consensus_of_none_is_task_arithmetic():
  close(
    ws.merge.consensus(0.5, agree=0)(DELTAS, base=BASE),
    ws.merge.task_arithmetic(0.5)(DELTAS, base=BASE),
  )


def reference_emr(x):
  sign = np.where(x.sum(0) > 0, 1, -1)
  shared = sign * np.maximum((x * sign).max(0), 0)
  mask = x * shared > 0
  scale = np.abs(x).sum(1) / np.abs(mask * shared).sum(1)
  return scale[:, None] * mask * shared


def test_emr():
  close(ws.merge.emr()(DELTAS, base=BASE), unflat(reference_emr(FLAT)))


def test_emr_restores_a_single_model():
  one = {p: x[:1] for p, x in DELTAS.items()}
  close(ws.merge.emr()(one, base=BASE), one)


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_masked_holds_one_bit_per_entry_and_restores(threshold):
  start = {p: x + 2 for p, x in BASE.items()} | {"steps": jnp.int32(5)}
  stack = {p: x + 2 for p, x in DELTAS.items()} | {"steps": jnp.int32([5] * 3)}
  stored = ws.merge.masked(stack, start, threshold)
  recipe = ws.merge.emr() if threshold is None else ws.merge.tall(threshold)
  want = recipe(stack, base=start)
  bits = sum(stored.masks[p].nbytes for p in BASE)
  assert bits == 3 * (3 + 2)  # 20 and 9 entries in whole bytes
  for m in range(3):
    close(stored.restore(start, m), {p: x[m] for p, x in want.items()})


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: ws.merge.sce(1.5), "top is 1.5"),
    (lambda: ws.merge.sce(None), "top is None"),
    (lambda: ws.merge.pcb(-0.1), "keep is -0.1"),
    (lambda: ws.merge.consensus(1.0, -0.1), "threshold is -0.1"),
    (lambda: ws.merge.emr()(DELTAS), "needs base="),
  ],
)
def test_bad_input_is_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
