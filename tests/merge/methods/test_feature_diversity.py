"""FalseFalseTrue, output ensembles, overconfidence, and what BANG trains on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightspace import losses
from weightspace.data import domains, softening, spurious
from weightspace.merge.methods import feature_diversity

KEY = jax.random.key(7)


def draw(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_false_false_true_counts_one_case_of_eight() -> None:
  """All eight outcomes once: each is an eighth, and negation mirrors it."""
  base, fine, mixed = (np.arange(8)[None] >> np.arange(3)[:, None] & 1).astype(
    bool
  )
  share = feature_diversity.false_false_true
  assert share(base, fine, mixed).item() == 1 / 8
  assert share(~base, ~fine, ~mixed).item() == 1 / 8
  assert share(base, fine, base | fine).item() == 0.0


def test_false_false_true_matches_numpy_over_a_grid() -> None:
  """Leading axes broadcast: one base, one fine-tuned model, many mixes."""
  right = draw((6, 50)) > 0
  expected = np.array(
    [
      sum(not b and not f and m for b, f, m in zip(right[0], right[-1], row))
      / 50
      for row in right
    ]
  )
  args = right[:1], right[-1:], right.astype(np.float32)
  got = feature_diversity.false_false_true(*args)
  np.testing.assert_allclose(got, expected, rtol=1e-6)
  np.testing.assert_array_equal(
    jax.jit(feature_diversity.false_false_true)(*args), got
  )


def test_the_mix_is_no_better_than_what_its_cases_allow() -> None:
  """Accuracy of the mix <= FalseFalseTrue + the share some end has right."""
  base, fine, mixed = draw((3, 200), seed=1) > 0
  bound = feature_diversity.false_false_true(base, fine, mixed)
  assert mixed.mean() <= bound + (base | fine).mean() + 1e-6


@pytest.mark.parametrize(
  "shapes", [((3,), (4,), (4,)), ((0,), (0,), (0,)), ((), (), ())]
)
def test_false_false_true_refuses(shapes: list[tuple[int, ...]]) -> None:
  with pytest.raises(ValueError, match="expected one number of them"):
    feature_diversity.false_false_true(*(np.ones(shape) for shape in shapes))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("alpha, scale", [(0.0, 3.0), (0.3, 1.0), (1.0, 2.0)])
def test_output_ensemble_matches_numpy(dtype, alpha, scale) -> None:
  base, fine = jnp.asarray(draw((2, 9, 4)), dtype)
  expected = (1 - alpha) * np.float64(base) + alpha * scale * np.float64(fine)
  got = feature_diversity.output_ensemble(base, fine, alpha, scale)
  assert got.dtype == dtype
  ulp = jnp.finfo(dtype).eps
  np.testing.assert_allclose(np.float64(got), expected, rtol=2 * ulp, atol=ulp)
  jitted = jax.jit(feature_diversity.output_ensemble)(base, fine, alpha, scale)
  np.testing.assert_allclose(
    np.float64(jitted), expected, rtol=2 * ulp, atol=ulp
  )


def test_a_linear_model_is_mixed_alike_in_weights_and_outputs() -> None:
  base, fine = draw((2, 5, 4))
  x = draw((8, 5), seed=1)
  mixed = x @ (0.7 * base + 0.3 * fine)
  got = feature_diversity.output_ensemble(x @ base, x @ fine, 0.3)
  np.testing.assert_allclose(got, mixed, rtol=1e-5, atol=1e-5)


def test_an_overconfident_model_takes_the_ensemble_over() -> None:
  """However good the base: for a large scale the answers are the other's."""
  base, fine = draw((2, 64, 10))
  mixed = feature_diversity.output_ensemble(base, fine, 0.5, 1e4)
  np.testing.assert_array_equal(mixed.argmax(-1), fine.argmax(-1))


def test_output_ensemble_refuses_other_shapes() -> None:
  with pytest.raises(ValueError, match=r"\(3, 2\), expected \(4, 2\)"):
    feature_diversity.output_ensemble(jnp.ones((4, 2)), jnp.ones((3, 2)), 0.5)


def test_overconfidence_is_zero_where_confidence_is_frequency() -> None:
  """Two classes at odds 3:1, right three times of four."""
  logits = jnp.tile(jnp.array([[jnp.log(3.0), 0.0]]), (4, 1))
  labels = jnp.array([0, 0, 0, 1])
  found = feature_diversity.overconfidence(logits, labels)
  np.testing.assert_allclose(found, [-0.25, -0.25, -0.25, 0.75], rtol=1e-6)
  sharper = feature_diversity.overconfidence(4 * logits, labels)
  assert abs(found.mean()) < 1e-6 < sharper.mean()
  np.testing.assert_array_equal(
    losses.accuracy(logits, labels), losses.accuracy(4 * logits, labels)
  )


@pytest.mark.parametrize(
  "smoothing, mixup", [(0.0, 0.0), (0.1, 0.0), (0.0, 0.4), (0.1, 0.4)]
)
def test_softened_labels_are_shares_within_bounds(smoothing, mixup) -> None:
  batch = {"x": jnp.asarray(draw((12, 3))), "y": jnp.arange(12) % 4}
  soft = softening.soften(smoothing, mixup, 4)
  got = soft(KEY, batch)
  np.testing.assert_allclose(got["y"].sum(-1), 1.0, rtol=1e-6)
  assert got["y"].min() >= smoothing / 4 - 1e-7
  assert got["y"].max() <= 1 - smoothing * 3 / 4 + 1e-6
  plain = jax.nn.one_hot(batch["y"], 4) * (1 - smoothing) + smoothing / 4
  same = bool(jnp.allclose(got["y"], plain, atol=1e-6))
  assert same == (mixup == 0.0)
  assert bool((got["x"] == batch["x"]).all()) == (mixup == 0.0)


@pytest.mark.parametrize("smoothing, mixup", [(1.5, 0.0), (0.1, -0.4)])
def test_soften_refuses(smoothing, mixup) -> None:
  with pytest.raises(ValueError, match="expected"):
    softening.soften(smoothing, mixup, 4)


def test_only_the_patches_of_the_range_tell_the_class() -> None:
  """Images of one class: told patches agree, the others have drawn colours."""
  x, y = jnp.zeros((60, 8, 8, 1)), jnp.full(60, 3)
  got = np.asarray(domains.patches(KEY, x, y, 1.0, first=8, last=24))
  where = spurious.ring(8, 8, 2, 32)
  for patch in range(32):
    colours = got[:, where == patch][:, 0]
    told = spurious.PALETTE[(3 + patch) % 10]
    agree = (np.abs(colours - told) < 1e-6).all(-1).mean()
    assert (agree == 1.0) == (8 <= patch < 24), patch
  np.testing.assert_array_equal(got[:, where < 0], 0.0)


@pytest.mark.parametrize("first, last", [(4, 4), (-1, 3), (0, 33)])
def test_patches_refuse_other_ranges(first, last) -> None:
  with pytest.raises(ValueError, match="range in 0 to 32"):
    domains.patches(
      KEY, jnp.zeros((1, 8, 8, 1)), jnp.zeros(1, int), 1.0, first, last
    )


def test_mix_takes_domains_in_turn() -> None:
  """Clean images stay as they are; each domain has every D-th example."""
  digits = {"x": draw((7, 8, 8, 1)) ** 2 % 1, "y": np.arange(7)}
  shifts = {"clean": {}, "contrast": {"severity": 5}, "translation": {}}
  got = domains.mix(KEY, digits, shifts)
  np.testing.assert_array_equal(got["y"], digits["y"])
  np.testing.assert_array_equal(got["x"][::3], digits["x"][::3])
  faded = np.asarray(got["x"][1::3]).std((1, 2, 3))
  assert (faded < 0.06 * digits["x"][1::3].std((1, 2, 3))).all()
  again = domains.mix(KEY, digits, shifts)
  np.testing.assert_array_equal(again["x"], got["x"])


@pytest.mark.parametrize(
  "shifts, reason",
  [
    ({"fog": {}}, "unknown domain 'fog'"),
    ({}, "0 for 4 examples"),
    ({"clean": {}, "patches": {"correlation": 1.0}}, "one shape"),
  ],
)
def test_mix_refuses(shifts, reason) -> None:
  digits = {"x": jnp.zeros((4, 8, 8, 1)), "y": jnp.arange(4)}
  with pytest.raises(ValueError, match=reason):
    domains.mix(KEY, digits, shifts)
