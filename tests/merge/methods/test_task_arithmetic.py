"""Task arithmetic, transfer, MagMax and TIES against NumPy and their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace.merge.core import steps
from weightspace.merge.core.steps import At
from weightspace.merge.methods import task_arithmetic

RANDOM = np.random.default_rng(0)
# Multiples of 1/4 have ties of magnitudes and sums that are exactly zero.
BASE = {
  "a": np.float32(RANDOM.normal(size=(3, 4))),
  "b": np.float32(RANDOM.normal(size=5)),
  "c": np.float32(2.0),
}
DELTAS = {
  path: np.float32(RANDOM.integers(-4, 5, (3, *x.shape)) / 4)
  for path, x in BASE.items()
}
STACK = {path: BASE[path] + DELTAS[path] for path in BASE}
EXACT = jax.tree.map(np.zeros_like, BASE)  # a base that rounds nothing off


def close(got, want, rtol=1e-6):
  for path, x in want.items():
    np.testing.assert_allclose(got[path], x, rtol, 1e-6, err_msg=path)


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, -1.0]])
def test_task_arithmetic(weights):
  got = ws.merge.task_arithmetic(0.3, weights)(STACK, base=BASE)
  w = np.ones(3) if weights is None else np.array(weights)
  close(
    got,
    {p: BASE[p] + 0.3 * np.tensordot(w, DELTAS[p], 1) for p in BASE},
    1e-5,
  )


def test_one_over_the_number_of_models_is_their_mean():
  got = ws.merge.task_arithmetic(1 / 3)(STACK, base=BASE)
  close(got, {p: x.mean(0) for p, x in STACK.items()}, 1e-5)


def test_negation_goes_the_other_way():
  got = ws.merge.task_arithmetic(-1.0)(STACK, base=BASE)
  close(got, {p: BASE[p] - DELTAS[p].sum(0) for p in BASE}, 1e-5)


def test_transfer_moves_to_another_base():
  target = {p: x + 7 for p, x in BASE.items()}
  got = ws.merge.transfer(0.5)(STACK, base=BASE, target=target)
  close(got, {p: target[p] + 0.5 * DELTAS[p].sum(0) for p in BASE}, 1e-5)
  with pytest.raises(ValueError, match="needs target="):
    ws.merge.transfer(0.5)(STACK, base=BASE)
  for other in ({"a": BASE["a"]}, target | {"a": target["a"][:1]}):
    with pytest.raises(ValueError, match=r"target: '[ab]' is"):
      ws.merge.transfer(0.5)(STACK, base=BASE, target=other)


def test_magmax():
  got = ws.merge.magmax(0.5)(DELTAS, base=EXACT)
  want = {}
  for path, x in DELTAS.items():
    first = np.abs(x).argmax(0)[None]
    want[path] = 0.5 * np.take_along_axis(x, first, 0)[0]
  close(got, want)


def trimmed(rows, density, exact):
  k = max(1, int(density * rows.shape[-1] + 1e-6))
  order = np.argsort(-np.abs(rows), -1, kind="stable")
  limit = np.take_along_axis(np.abs(rows), order[..., k - 1 : k], -1)
  first = np.zeros(rows.shape, bool)
  np.put_along_axis(first, order[..., :k], True, -1)
  return np.where(first if exact else np.abs(rows) >= limit, rows, 0)


def elected(x, combine, tie, elect, weights):
  """TIES after the trim, of [M, n]."""
  y = x * np.array(weights, np.float32)[:, None]
  sign = np.sign((y if elect == "mass" else np.sign(y)).sum(0))
  rule = {"plus": 1, "zero": 0, "majority": 1 if sign.sum() > 0 else -1}[tie]
  sign = np.where(sign == 0, rule, sign)
  mine = (np.sign(y) == sign) & (y != 0)
  if combine == "max":
    return sign * np.abs(y * mine).max(0)
  total = (y * mine).sum(0)
  if combine == "sum":
    return total
  share = (np.array(weights)[:, None] * mine).sum(0)
  return total / np.where(share == 0, 1, share)


def reference(
  density, scope, combine, tie, elect="mass", exact=False, weights=(1, 1, 1)
):
  leaves = {p: x.reshape(3, -1) for p, x in DELTAS.items()}
  if scope == "row":
    cut = {
      p: trimmed(
        x.reshape(-1, x.shape[-1]) if x.ndim > 1 else x[:, None], density, exact
      ).reshape(3, -1)
      for p, x in DELTAS.items()
    }
  elif scope == "tensor":
    cut = {p: trimmed(x, density, exact) for p, x in leaves.items()}
  if scope == "global":
    flat = trimmed(np.concatenate(list(leaves.values()), 1), density, exact)
    merged = elected(flat, combine, tie, elect, weights)
    parts = np.split(merged, [12, 17])
  else:
    parts = [elected(x, combine, tie, elect, weights) for x in cut.values()]
  return {p: y.reshape(BASE[p].shape) for p, y in zip(BASE, parts)}


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"combine": "sum", "tie": "plus"},
    {"combine": "max", "tie": "zero"},
    {"elect": "count", "exact": True},
    {"weights": (1.0, 0.5, -2.0), "tie": "plus"},
    {"exact": True, "combine": "sum"},
  ],
)
@pytest.mark.parametrize("scope", ["global", "tensor", "row"])
def test_ties(scope, options):
  recipe = ws.merge.ties(0.4, 0.7, scope=scope, **options)
  wanted = {"combine": "mean", "tie": "majority"} | options
  want = reference(0.4, scope, **wanted)
  got = recipe(DELTAS, base=EXACT)
  close(got, {p: 0.7 * x for p, x in want.items()})


def test_ties_like_mergekit():
  got = ws.merge.ties(0.4, parity="mergekit")(DELTAS, base=EXACT)
  close(got, reference(0.4, "tensor", "mean", "plus", exact=True))


@pytest.mark.parametrize("tie, want", [("plus", 1.0), ("zero", 0.0)])
def test_a_sum_of_zero(tie, want):
  pair = {"w": jnp.array([1.0, -1.0])}
  recipe = ws.merge.ties(1.0, tie=tie)
  assert recipe(pair, base={"w": jnp.zeros(())})["w"] == want


@pytest.mark.parametrize(
  "others, want", [([2.0, 3.0], 1.0), ([-2.0], -1.0), ([2.0, -2.0], -1.0)]
)
def test_a_sum_of_zero_goes_with_the_majority(others, want):
  pair = {"v": jnp.array([others, others]), "w": jnp.array([1.0, -1.0])}
  base = jax.tree.map(lambda x: jnp.zeros(x.shape[1:]), pair)
  assert ws.merge.ties(1.0)(pair, base=base)["w"] == want


def test_ties_of_one_model_is_its_trimmed_task_vector():
  one = {p: x[:1] for p, x in DELTAS.items()}
  got = ws.merge.ties(0.4)(one, base=EXACT)
  flat = np.concatenate([x[0].reshape(-1) for x in DELTAS.values()])
  want = np.split(trimmed(flat, 0.4, False), [12, 17])
  close(got, {p: y.reshape(BASE[p].shape) for p, y in zip(BASE, want)})


def test_ties_takes_models_in_any_order():
  turned = {p: x[::-1] for p, x in DELTAS.items()}
  close(
    ws.merge.ties(0.4)(DELTAS, base=EXACT),
    ws.merge.ties(0.4)(turned, base=EXACT),
  )


@pytest.mark.parametrize("combine", ["mean", "sum", "max"])
def test_the_election_folds_over_models_and_merges(combine):
  x = jnp.asarray(DELTAS["a"])
  step = ws.merge.disjoint(combine, tie="plus")
  fold = step.fold(At())
  halves = []
  for models in ((0, 1), (2,)):
    state = fold.init(x[0])
    for m in models:
      state = fold.update(state, (m, x[m]))
    halves.append(state)
  got = fold.value(fold.merge(*halves))
  np.testing.assert_allclose(got, step.edit(x, At()), rtol=1e-6)


def test_zero_task_vectors_give_the_base():
  still = {p: np.repeat(x[None], 3, 0) for p, x in BASE.items()}
  for recipe in (ws.merge.ties(0.2), ws.merge.magmax(), ws.merge.pcb(0.1)):
    close(recipe(still, base=BASE), BASE)


def test_a_sweep_over_the_scale_is_the_loop():
  def merged(scale):
    return ws.merge.ties(0.4, scale)(DELTAS, base=EXACT)

  scales = jnp.array([0.0, 0.5, 1.5])
  swept = jax.vmap(merged)(scales)
  for i, scale in enumerate(scales.tolist()):
    close({p: x[i] for p, x in swept.items()}, merged(scale))


def test_steps_compose():
  chained = ws.merge.on_deltas(
    ws.merge.chain(
      ws.merge.trim(0.4, scope="tensor"),
      steps.mean,
      task_arithmetic.scaled(2.0),
    )
  )
  want = {}
  for path, x in DELTAS.items():
    cut = trimmed(x.reshape(3, -1), 0.4, False).mean(0)
    want[path] = 2 * cut.reshape(BASE[path].shape)
  close(chained(DELTAS, base=EXACT), want)


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: ws.merge.ties(1.2), "density is 1.2"),
    (lambda: ws.merge.ties(0.2, combine="median"), "combine is 'median'"),
    (lambda: ws.merge.ties(0.2, tie="minus"), "tie is 'minus'"),
    (lambda: ws.merge.ties(0.2, elect="norm"), "elect is 'norm'"),
    (lambda: ws.merge.ties(0.2, parity="other"), "parity is 'other'"),
    (lambda: ws.merge.ties(0.2, float("nan")), "scale is nan"),
    (lambda: ws.merge.task_arithmetic(float("inf")), "scale is inf"),
    (lambda: ws.merge.task_arithmetic(1.0, [[1.0]]), "weights have shape"),
    (
      lambda: ws.merge.task_arithmetic(1.0, [1.0])(STACK, base=BASE),
      "'weights' is made for 1 models, got 3",
    ),
    (lambda: ws.merge.ties(0.2)(STACK), "needs base="),
  ],
)
def test_bad_input_is_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
