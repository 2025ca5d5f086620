"""OPCM: models merged one by one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import merge

SHAPES = {"w": (8, 6), "tall": (7, 3), "bias": (6,)}


def make(count=4, seed=0, dtype=jnp.float32):
  rng = np.random.default_rng(seed)

  def draw(*lead):
    return {
      name: jnp.asarray(rng.normal(size=lead + shape), dtype)
      for name, shape in SHAPES.items()
    }

  return draw(count), draw()


def flat(tree):
  leaves = [np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)]
  return np.concatenate(leaves)


def reference(stack, base, alpha=0.5):
  base = {name: np.asarray(x, np.float64) for name, x in base.items()}
  merged, stretch, lengths = None, 1.0, []
  for index in range(len(stack["w"])):
    new = {
      n: np.asarray(x[index], np.float64) - base[n] for n, x in stack.items()
    }
    lengths.append(np.linalg.norm(flat(new)))
    for name in ("w", "tall") if merged else ():
      u, s, vt = np.linalg.svd(merged[name])  # full, as in the paper's code
      k = int(np.argmax(np.cumsum(s) / s.sum() > alpha))
      inside = u.T @ new[name] @ vt.T
      np.fill_diagonal(inside, 0.0)
      inside[:k, :k] = 0.0
      new[name] = u @ inside @ vt
    total = {n: stretch * merged[n] + new[n] for n in new} if merged else new
    stretch = np.linalg.norm(flat(total)) / np.mean(lengths)
    merged = {n: x / stretch for n, x in total.items()}
  return {n: base[n] + merged[n] for n in base}


def fold_over(fold, stack, base):
  states = [fold.init(base)]
  for model in ws.unstack(stack):
    states.append(fold.update(states[-1], model))
  return states


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_it_is_the_reference(alpha):
  stack, base = make()
  merged = merge.opcm(alpha)(stack, base=base)
  for name, expected in reference(stack, base, alpha).items():
    np.testing.assert_allclose(merged[name], expected, atol=2e-5)


def test_one_model_is_itself():
  stack, base = make(1)
  merged = merge.opcm()(stack, base=base)
  np.testing.assert_allclose(flat(merged), flat(stack), atol=1e-6)


def test_what_is_added_is_orthogonal_to_what_is_there():
  stack, base = make()
  states = fold_over(merge.opcm(0.5), stack, base)
  for before, after in itertools.pairwise(states[1:]):
    for name in ("w", "tall"):
      old = np.asarray(before.delta[name], np.float64)
      new = np.asarray(after.stretch * after.delta[name], np.float64)
      added = new - float(before.stretch) * old
      cosine = (added * old).sum() / np.linalg.norm(added) / np.linalg.norm(old)
      assert abs(cosine) < 1e-5


def test_the_norm_is_the_mean_norm_of_task_vectors():
  stack, base = make()
  lengths = []
  models = ws.unstack(stack)
  for model, state in zip(models, fold_over(merge.opcm(), stack, base)[1:]):
    lengths.append(np.linalg.norm(flat(model) - flat(base)))
    merged = flat(merge.opcm().value(state)) - flat(base)
    np.testing.assert_allclose(
      np.linalg.norm(merged), np.mean(lengths), rtol=1e-5
    )
    np.testing.assert_allclose(state.length, np.mean(lengths), rtol=1e-5)


def test_the_state_does_not_grow():
  stack, base = make()
  sizes = [
    sum(x.nbytes for x in jax.tree.leaves(state))
    for state in fold_over(merge.opcm(), stack, base)
  ]
  assert len(set(sizes)) == 1


def test_scan_and_vmap_over_alpha_agree_with_the_loop():
  stack, base = make()
  fold = merge.opcm(0.5)
  scanned = jax.lax.scan(
    lambda state, model: (fold.update(state, model), None),
    fold.init(base),
    stack,
  )[0]
  expected = flat(fold(stack, base=base))
  np.testing.assert_allclose(flat(fold.value(scanned)), expected, atol=1e-5)
  swept = jax.vmap(lambda a: merge.opcm(a)(stack, base=base))(
    jnp.array([0.2, 0.5])
  )
  last = jax.tree.map(lambda x: x[1], swept)
  np.testing.assert_allclose(flat(last), expected, atol=1e-5)


def test_bfloat16_and_integers():
  stack, base = make(3, dtype=jnp.bfloat16)
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), (stack, base))
  expected = merge.opcm()(wide[0], base=wide[1])
  keys = jax.random.split(jax.random.key(0), 4)
  steps = {"step": jnp.array([7, 8, 9]), "key": keys[:3]}
  own = {"step": jnp.asarray(3), "key": keys[3]}
  merged = merge.opcm()(stack | steps, base=base | own)
  assert merged["step"] == 7 and merged["key"] == keys[0]
  for name, x in expected.items():
    np.testing.assert_array_equal(merged[name], x.astype(jnp.bfloat16))


@pytest.mark.parametrize("kind", ["equal", "zero", "one zero"])
def test_models_that_lack_rank_give_numbers(kind):
  stack, base = make(3)
  models = {
    "equal": lambda x, b: jnp.stack([x[0]] * 3),
    "zero": lambda x, b: jnp.stack([b] * 3),
    "one zero": lambda x, b: x.at[0].set(b),
  }[kind]
  merged = merge.opcm()(jax.tree.map(models, stack, base), base=base)
  assert np.isfinite(flat(merged)).all()
  if kind == "zero":
    np.testing.assert_array_equal(flat(merged), flat(base))


def test_bad_input_is_named():
  stack, base = make(2)
  with pytest.raises(ValueError, match=r"alpha is 1\.5"):
    merge.opcm(1.5)
  with pytest.raises(ValueError, match="needs base="):
    merge.opcm()(stack)
  with pytest.raises(
    ValueError, match=r"'w' is .2, 6. float32, expected .8, 6."
  ):
    merge.opcm().update(merge.opcm().init(base), dict(base, w=base["w"][:2]))
  with pytest.raises(ValueError, match="NaN in 'w'"):
    broken = dict(base, w=base["w"].at[0, 0].set(jnp.nan))
    merge.opcm().update(merge.opcm().init(base), broken)
  with pytest.raises(ValueError, match=r"base: 'w' is .2, 6. float32"):
    merge.opcm()(stack, base=dict(base, w=base["w"][:2]))
  with pytest.raises(ValueError, match="base has no leaves"):
    merge.opcm().init(None)
  with pytest.raises(ValueError, match="cannot run leaf by leaf"):
    merge.run(merge.opcm(), ws.unstack(stack), base)
  assert not hasattr(merge.opcm(), "steps")
  assert merge.RECIPES["opcm"] is merge.opcm
  assert merge.opcm().needs == ("base",)


def test_a_sharded_stack_merges_alike():
  stack, base = make(4)
  recipe = jax.jit(lambda stack, base: merge.opcm()(stack, base=base))
  merged = recipe(problems.sharded(stack, ("model", "leaf")), base)
  problems.close(merged, recipe(stack, base), 1e-4, 1e-5)
