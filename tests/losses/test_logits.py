"""Losses per example against NumPy, at extremes, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace import losses

LOGITS = jax.random.normal(jax.random.key(0), (4, 3, 5)) * 3.0
LABELS = jax.random.randint(jax.random.key(1), (4, 3), 0, 5)
ALL = (losses.cross_entropy, losses.accuracy, losses.entropy)


def softmax(logits):
  z = np.exp(np.float64(logits) - np.max(logits, -1, keepdims=True))
  return z / z.sum(-1, keepdims=True)


def test_against_numpy():
  shares, labels = softmax(LOGITS), np.asarray(LABELS)
  picked = np.take_along_axis(shares, labels[..., None], -1)[..., 0]
  expected = (
    -np.log(picked).mean(1),
    (shares.argmax(-1) == labels).mean(1),
    -(shares * np.log(shares)).sum(-1).mean(1),
  )
  for metric, value in zip(ALL, expected):
    found = metric(LOGITS, LABELS)
    assert (found.shape, found.dtype) == ((4,), jnp.float32)
    np.testing.assert_allclose(found, value, rtol=1e-5)
    np.testing.assert_allclose(
      jax.jit(metric)(LOGITS, LABELS), found, rtol=1e-6
    )


@pytest.mark.parametrize("metric", ALL)
def test_without_a_time_axis(metric):
  by_token = jnp.stack([metric(LOGITS[:, t], LABELS[:, t]) for t in range(3)])
  np.testing.assert_allclose(
    metric(LOGITS, LABELS), by_token.mean(0), rtol=1e-6
  )


def test_one_hot_labels_are_labels():
  hot = jax.nn.one_hot(LABELS, 5)
  for metric in ALL[:2]:
    np.testing.assert_allclose(
      metric(LOGITS, hot), metric(LOGITS, LABELS), rtol=1e-5
    )
  shares = jnp.asarray(softmax(LOGITS), jnp.float32)
  np.testing.assert_allclose(  # Gibbs: least at the model's own shares
    losses.cross_entropy(LOGITS, shares), losses.entropy(LOGITS), rtol=1e-5
  )


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_extreme_logits_stay_finite(shift):
  logits = jnp.array([[1e4, 0.0, -1e4]]) + shift
  assert losses.cross_entropy(logits, jnp.array([0])).item() == 0.0
  assert losses.cross_entropy(logits, jnp.array([2])).item() == 2e4
  assert losses.entropy(logits).item() == 0.0
  grad = jax.grad(lambda z: losses.entropy(z).sum())(logits)
  assert jnp.isfinite(grad).all()


def test_bfloat16_logits_are_summed_in_float32():
  logits = jnp.zeros((1, 1000), jnp.bfloat16)
  found = losses.cross_entropy(logits, jnp.array([3]))
  np.testing.assert_allclose(found, np.log(1000.0), rtol=1e-6)
  assert found.dtype == losses.entropy(logits).dtype == jnp.float32


def test_gradient_is_softmax_minus_one_hot():
  grad = jax.grad(lambda z: losses.cross_entropy(z, LABELS[:, 0]).sum())
  expected = softmax(LOGITS[:, 0]) - np.eye(5)[LABELS[:, 0]]
  np.testing.assert_allclose(grad(LOGITS[:, 0]), expected, atol=1e-6)


def test_of_makes_a_loss_over_batches():
  apply = lambda params, x: x @ params  # noqa: E731
  params, x = jnp.eye(5), LOGITS[:, 0]
  batch = {"x": x, "y": LABELS[:, 0]}
  for metric in ALL:
    loss = losses.of(apply, metric)
    np.testing.assert_allclose(
      loss(params, batch), metric(x, LABELS[:, 0]), rtol=1e-5
    )
  unlabelled = losses.of(apply, losses.entropy)(params, {"x": x})
  np.testing.assert_allclose(unlabelled, losses.entropy(x), rtol=1e-5)


def test_refused():
  logits = LOGITS[:, 0]
  with pytest.raises(ValueError, match=r"labels: \(3,\), expected \(4,\) or"):
    losses.cross_entropy(logits, jnp.zeros(3, int))
  with pytest.raises(ValueError, match="labels: float32, expected whole"):
    losses.accuracy(logits, jnp.zeros(4))
  with pytest.raises(ValueError, match=r"logits: \(4,\), expected \[B, ..., c"):
    losses.cross_entropy(logits[:, 0], jnp.zeros(4, int))
  with pytest.raises(ValueError, match=r"batch: has \['y'\], expected 'x'"):
    losses.of(lambda p, x: x, losses.accuracy)(None, {"y": LABELS})


def test_soft_cross_entropy():
  teacher, student = LOGITS, LOGITS[::-1] * 0.5
  soft = losses.soft_cross_entropy
  value = -(softmax(teacher) * np.log(softmax(student))).sum(-1).mean()
  for function in (soft, jax.jit(soft)):
    np.testing.assert_allclose(function(teacher, student), value, rtol=1e-5)
  np.testing.assert_allclose(
    soft(teacher, teacher), losses.entropy(teacher).mean(), rtol=1e-5
  )
  kl = jax.grad(lambda s: soft(teacher, s))
  np.testing.assert_allclose(kl(teacher), 0, atol=1e-6)
  expected = (softmax(student) - softmax(teacher)) / 12
  np.testing.assert_allclose(kl(student), expected, atol=1e-6)
  low = soft(teacher.astype(jnp.bfloat16), student.astype(jnp.bfloat16))
  assert low.dtype == jnp.float32 and abs(low - value) < 0.05
  with jax.enable_x64(True):
    assert soft(np.zeros((1, 2)), np.zeros((1, 2))).dtype == jnp.float64


def test_soft_cross_entropy_of_masked_logits():
  masked = jnp.array([[0.0, 1.0, -jnp.inf]])
  value, gradients = jax.value_and_grad(
    lambda t, s: losses.soft_cross_entropy(t, s), (0, 1)
  )(masked, masked)
  np.testing.assert_allclose(value, losses.entropy(masked[:, :2])[0], 1e-6)
  assert all(np.isfinite(g[0, :2]).all() for g in gradients)


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (3,), ()])
def test_soft_cross_entropy_of_other_shapes(shape):
  with pytest.raises(ValueError, match="soft_cross_entropy"):
    losses.soft_cross_entropy(jnp.zeros((2, 3)), jnp.zeros(shape))
  with pytest.raises(ValueError, match="expected both"):
    losses.soft_cross_entropy(jnp.zeros(3), jnp.zeros(3))
