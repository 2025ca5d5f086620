"""The report of a merge: numbers against NumPy, and what it flags."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import figures, merge

SHAPES = {"w": (4, 6), "b": (6,)}


def make(count=3, dtype=np.float32):
  rng = np.random.default_rng(0)

  def draw(*lead):
    tree = {
      n: jnp.asarray(rng.normal(size=(*lead, *s)), dtype)
      for n, s in SHAPES.items()
    }
    return tree | {"steps": jnp.zeros(lead, jnp.int32)}

  return draw(count), draw()


def deltas(stack, base):
  leaves = [
    (np.asarray(stack[n]) - np.asarray(base[n])).reshape(len(stack[n]), -1)
    for n in SHAPES
  ]
  return np.concatenate(leaves, 1).astype(np.float64)


def test_ties_against_numpy():
  stack, base = make()
  found = merge.report(merge.ties(0.3, 0.7), stack, base=base)
  tau = deltas(stack, base)
  limit = -np.sort(-np.abs(tau), axis=1)[:, 8]  # floor(0.3 30) = 9
  kept = np.where(np.abs(tau) >= limit[:, None], tau, 0)
  many = (kept != 0).sum(0) > 1
  mixed = many & (kept > 0).any(0) & (kept < 0).any(0)
  gram = tau @ tau.T
  sizes = np.sqrt(np.diag(gram))
  merged = merge.ties(0.3, 0.7)(stack, base=base)
  after = deltas(jax.tree.map(lambda x: x[None], merged), base)[0]
  total = found.total
  wanted = {
    "kept": 0.3,
    "energy": np.mean((kept**2).sum(1) / (tau**2).sum(1)),
    "conflict": mixed.sum() / many.sum(),
    "sign_ties": 0.0,
    "ties": 0.0,
    "norm_before": sizes.mean(),
    "norm_after": np.linalg.norm(after),
    "scale": after @ tau.sum(0) / (tau.sum(0) @ tau.sum(0)),
  }
  for name, value in wanted.items():
    np.testing.assert_allclose(total[name], value, rtol=1e-5, err_msg=name)
  np.testing.assert_allclose(
    total["cosines"], gram / np.outer(sizes, sizes), rtol=1e-5
  )
  assert found.leaves.keys() == SHAPES.keys() and not found.flags


@pytest.mark.parametrize(
  "recipe, scale",
  [(merge.task_arithmetic(0.4), 0.4), (merge.uniform(), 1 / 3)],
)
def test_effective_scale_and_all_is_kept(recipe, scale):
  stack, base = make()
  found, tau = merge.report(recipe, stack, base=base), deltas(stack, base)
  mixed = (tau > 0).any(0) & (tau < 0).any(0)
  np.testing.assert_allclose(found.total["conflict"], mixed.mean())
  for row in (found.total, *found.leaves.values()):
    np.testing.assert_allclose(row["scale"], scale, rtol=1e-4)
    assert row["kept"] == 1 and abs(row["energy"] - 1) < 1e-9
    assert np.isnan(row.get("ties", np.nan))


def test_dropped_entries_are_counted_by_model():
  stack, base = make()
  key = jax.random.key(0)
  found = merge.report(merge.dare(0.5), stack, base=base, key=key)
  one = merge.chain(merge.drop(0.5))(
    jax.tree.map(lambda x, y: x - y[None], stack, base), key=key
  )
  shares = [np.mean(np.asarray(one[n]) != 0) for n in SHAPES]
  for name, share in zip(SHAPES, shares):
    np.testing.assert_allclose(found.leaves[name]["kept"], share)
  assert np.isnan(found.total["ties"])  # not by magnitude


def test_a_recipe_that_returns_a_stack_or_is_limited():
  stack, base = make()
  found = merge.report(merge.tall(), stack, base=base)
  assert np.isnan(found.total["norm_after"])
  limited = merge.only("w", merge.ties(0.25))
  found = merge.report(limited, stack, base=base)
  assert found.leaves["w"]["kept"] == 0.25
  assert found.leaves["b"]["norm_after"] == 0


def flags(recipe, stack, base=None):
  return " ".join(merge.report(recipe, stack, base=base).flags)


def test_what_users_trip_over_is_flagged():
  stack, base = make()
  assert "'trim' changes nothing" in flags(merge.ties(1.0), stack, base)
  assert "does not use it" in flags(merge.karcher(), stack, base)
  with_base = jax.tree.map(
    lambda x, y: jnp.concatenate([x, y[None]]), stack, base
  )
  assert "model 3 equals the base" in flags(merge.uniform(), with_base, base)
  twice = jax.tree.map(lambda x: x[jnp.array([0, 1, 0])], stack)
  assert "models 0 and 2 are equal" in flags(merge.ties(0.3), twice, base)
  assert flags(merge.uniform(), stack) == ""


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_ties_at_the_threshold_and_of_signs_are_flagged(scope):
  rng = np.random.default_rng(1)
  entries = rng.integers(1, 4, size=(2, 30)) * rng.choice([-1, 1], (2, 30))
  parts = entries, 5 * entries[:, :20]
  stack = {n: jnp.asarray(x, jnp.bfloat16) for n, x in zip("vw", parts)}
  base = jax.tree.map(lambda x: jnp.zeros_like(x[0]), stack)
  found = merge.report(merge.ties(0.5, scope=scope), stack, base=base)
  extra = 0
  for x in [np.concatenate(parts, 1)] if scope == "global" else parts:
    size = -np.sort(-np.abs(x), 1)
    limit = size[:, x.shape[1] // 2 - 1, None]
    extra += (size == limit).sum(1).mean() - 1
  np.testing.assert_allclose(found.total["ties"], extra / 50)
  assert found.total["sign_ties"] > 0
  text = " ".join(found.flags)
  assert "bfloat16 has few magnitudes" in text and "add up to zero" in text


def test_a_report_is_text_json_and_one_figure():
  stack, base = make()
  found = merge.report(merge.ties(1.0), stack, base=base)
  lines = found.text().splitlines()
  assert lines[0].split()[:3] == ["leaf", "kept", "energy"]
  assert lines[-2].startswith("total") and lines[-1].startswith("! 'trim'")
  data = json.loads(found.json())
  assert data["total"]["ties"] is None
  assert np.shape(data["leaves"]["b"]["cosines"]) == (3, 3)
  assert figures.png(found.figure())[1:4] == b"PNG"


def test_zero_deltas_and_missing_inputs():
  _, base = make()
  found = merge.report(merge.ties(0.5), ws.stack([base] * 2), base=base)
  assert np.isnan(found.total["cosine"]) and found.total["norm_after"] == 0
  stack, base = make()
  stack["b"] = stack["b"].at[1].set(base["b"])  # one model left this leaf alone
  found = merge.report(merge.ties(0.5, scope="tensor"), stack, base=base)
  assert found.leaves["b"]["kept"] == 0.5 and found.total["energy"] > 0.5
  with pytest.raises(ValueError, match="needs base="):
    merge.report(merge.ties(0.5), ws.stack([base] * 2))
  with pytest.raises(ValueError, match="no leaf of real numbers"):
    merge.report(merge.uniform(), {"steps": jnp.zeros((2, 3), jnp.int32)})


@pytest.mark.parametrize(
  "recipe",
  [
    merge.ties(0.5, weights=[1.0, 2.0, 1.0]),
    merge.task_arithmetic(0.3, weights=[1.0, 2.0, 1.0]),
    merge.only("w", merge.ties(0.5), rest="mean"),
  ],
)
def test_steps_that_change_nothing_by_design_are_not_flagged(recipe):
  stack, base = make()
  flags = merge.report(recipe, stack, base=base).flags
  assert not [flag for flag in flags if "changes nothing" in flag]


def test_what_a_step_is_does_not_hang_on_its_name():
  from weightspace.merge.core import steps

  def named(step, name):
    return step._replace(name=name)

  stack, base = make()
  plain = merge.ties(0.3)
  renamed = merge.Recipe(
    tuple(named(s, f"step {i}") for i, s in enumerate(plain.steps))
  )
  wanted = merge.report(plain, stack, base=base)
  found = merge.report(renamed, stack, base=base)
  assert found.total == wanted.total and found.flags == wanted.flags
  # A step that only bears the name of one that reports pass over is told of.
  idle = merge.Step("minus_base", lambda x, at: x)
  recipe = merge.chain(idle, steps.mean)
  assert merge.report(recipe, stack).flags == [
    "'minus_base' changes nothing: is its density or rate left at its default?"
  ]


def test_a_recipe_that_takes_models_one_by_one_has_no_report():
  stack, base = make()
  with pytest.raises(ValueError, match="report: Opcm takes whole models one"):
    merge.report(merge.opcm(), stack, base=base)
