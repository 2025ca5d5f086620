"""Curvature operators against dense matrices, whole, in parts and in blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests import problems
from weightspace import losses, probe

PARAMS = problems.tree(0)
DATA = problems.data(11)
FLAT, UNRAVEL = ravel_pytree(PARAMS)
VECTOR = problems.tree(5)


def loss(params, data):
  return -problems.likelihood(params, data)


def mean_loss(params, data):
  return loss(params, data).mean()


def dense(params, data):
  """The Hessian as jax makes it, in the order of ravel_pytree."""
  flat, unravel = ravel_pytree(params)
  return jax.hessian(lambda w: loss(unravel(w), data).mean())(flat)


def gauss_newton(params, data):
  """J' H_z J from a dense Jacobian and the closed form of softmax."""
  flat, unravel = ravel_pytree(params)
  out = problems.apply(params, data["x"])
  rows = jax.jacobian(lambda w: problems.apply(unravel(w), data["x"]))(flat)
  p = np.asarray(jax.nn.softmax(out))
  total = np.zeros((len(flat),) * 2)
  for n, row in enumerate(np.asarray(rows)):
    total += row.T @ (np.diag(p[n]) - np.outer(p[n], p[n])) @ row
  return total / len(p)


def gradients(params, data):
  flat, unravel = ravel_pytree(params)
  rows = np.asarray(jax.jacobian(lambda w: loss(unravel(w), data))(flat))
  return rows.T @ rows / len(rows)


def matrix_of(operator):
  """Every column of an operator on trees like PARAMS."""
  columns = [ravel_pytree(operator(UNRAVEL(e)))[0] for e in np.eye(len(FLAT))]
  return np.stack(columns, 1)


def make(name, data=DATA, **where):
  if name == "fisher":
    return probe.fisher(problems.apply, PARAMS, data, **where)
  if name == "ggn apply":
    ce, apply = losses.cross_entropy, problems.apply
    return probe.ggn(ce, PARAMS, data, apply=apply, **where)
  kinds = {"hessian": probe.hessian, "empirical": probe.empirical_fisher}
  return (kinds | {"ggn": probe.ggn})[name](loss, PARAMS, data, **where)


DENSE = {
  "hessian": dense,
  "ggn": gauss_newton,
  "ggn apply": gauss_newton,
  "fisher": gauss_newton,
  "empirical": gradients,
}


@pytest.mark.parametrize("name", DENSE)
def test_products_are_those_of_the_dense_matrix(name):
  found = matrix_of(make(name))
  np.testing.assert_allclose(found, DENSE[name](PARAMS, DATA), 2e-4, 2e-5)


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("size", [4, 11])
def test_blocks_are_averaged_exactly(name, size):
  """11 examples in blocks of 4: the last is filled up, and weighs less."""
  whole, parts = make(name), make(name, batch_size=size)
  problems.close(parts(VECTOR), whole(VECTOR), 1e-4, 1e-5)


def test_a_loss_of_one_number_has_equal_blocks():
  whole = probe.hessian(mean_loss, PARAMS, problems.data(12))
  parts = probe.hessian(mean_loss, PARAMS, problems.data(12), batch_size=4)
  problems.close(parts(VECTOR), whole(VECTOR), 1e-4, 1e-5)
  with pytest.raises(ValueError, match=r"batches of 5 of 12 .* not equal"):
    probe.hessian(mean_loss, PARAMS, problems.data(12), batch_size=5)


def test_a_stream_is_averaged_by_examples():
  parts = [
    jax.tree.map(lambda x, p=p: x[p], DATA) for p in (slice(3), slice(3, 11))
  ]
  for batches in (parts, lambda: iter(parts)):
    operator = probe.streamed(lambda b: make("hessian", b), batches)
    problems.close(operator(VECTOR), make("hessian")(VECTOR), 1e-4, 1e-5)
  with pytest.raises(ValueError, match="no batches"):
    probe.streamed(lambda b: make("hessian", b), [])


def test_weights_leave_padding_out():
  padded = jax.tree.map(lambda x: jnp.concatenate([x, x[:3]]), DATA)
  padded["x"] = padded["x"].at[-1].set(jnp.nan)
  weights = np.r_[np.ones(11), np.zeros(3)]
  whole = make("hessian")(VECTOR)
  bad = jax.tree.map(lambda x: x[:13], padded)
  problems.close(
    make("hessian", bad, weights=weights[:13])(VECTOR), whole, 1e-4, 1e-5
  )
  with pytest.raises(ValueError, match=r"weights are \(2,\), expected \(11,\)"):
    make("hessian", weights=np.ones(2))


def test_layers_and_masks_are_blocks_of_the_matrix():
  whole = matrix_of(make("hessian"))
  names = np.concatenate(
    [
      np.full(np.size(leaf), name)
      for name, leaf in zip(
        ("dense/bias", "dense/kernel", "gain", "out"), jax.tree.leaves(PARAMS)
      )
    ]
  )
  for only in (["dense"], ["dense/kernel", "gain"], ["out"]):
    inside = np.isin(
      names, [n for n in set(names) if any(n.startswith(o) for o in only)]
    )
    found = make("hessian", only=only)
    assert found.size == inside.sum()
    expected = whole * np.outer(inside, inside)
    np.testing.assert_allclose(matrix_of(found), expected, 1e-5, 1e-6)
  mask = jax.tree.map(lambda x: np.asarray(x) > 0, PARAMS)
  inside = np.asarray(ravel_pytree(mask)[0])
  found = make("hessian", mask=mask)
  assert found.size == inside.sum()
  np.testing.assert_allclose(
    matrix_of(found), whole * np.outer(inside, inside), 1e-5, 1e-6
  )
  prefix = {"dense": True, "out": False, "gain": False}
  problems.close(
    make("hessian", mask=prefix)(VECTOR),
    make("hessian", only=["dense"])(VECTOR),
  )


def test_the_model_and_its_dtypes_are_left_alone():
  half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), PARAMS)
  half["step"] = jnp.array(3)
  before = jax.tree.map(np.asarray, half)
  operator = probe.hessian(
    lambda p, d: loss({k: v for k, v in p.items() if k != "step"}, d),
    half,
    DATA,
  )
  vector = VECTOR | {"step": np.array(0)}
  found = operator(vector)
  assert found["out"].dtype == jnp.float32 and found["step"] == 0
  wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), half)
  exact = probe.hessian(
    loss, {k: v for k, v in wide.items() if k != "step"}, DATA
  )
  np.testing.assert_allclose(found["out"], exact(VECTOR)["out"], 0.1, 0.05)
  problems.close(half, before, 0, 0)


def test_an_operator_is_a_pytree_under_jit_and_over_models():
  operator = make("hessian")
  problems.close(
    jax.jit(lambda o, v: o(v))(operator, VECTOR), operator(VECTOR), 1e-5, 1e-6
  )


def test_the_least_squares_hessian_is_its_gauss_newton():
  data = {"x": jnp.eye(3)[:2], "y": jnp.ones(2)}

  def square(w, d):
    return 0.5 * (d["x"] @ w - d["y"]) ** 2

  w, v = jnp.zeros(3), jnp.array([1.0, 2.0, 3.0])
  expected = [0.5, 1.0, 0.0]
  for operator in (probe.hessian, probe.ggn):
    np.testing.assert_allclose(
      operator(square, w, data)(v), expected, atol=1e-6
    )
  gaussian = probe.fisher(
    lambda w, x: (x @ w)[:, None], w, data, likelihood="gaussian"
  )
  np.testing.assert_allclose(gaussian(v), expected, atol=1e-6)


def test_bad_input_is_named():
  with pytest.raises(
    ValueError, match=r"loss returned \(2,\), expected one num"
  ):
    probe.hessian(lambda p, d: p["out"][0], PARAMS, DATA)
  with pytest.raises(ValueError, match="returned a tuple, expected one number"):
    probe.hessian(lambda p, d: (mean_loss(p, d), 0), PARAMS, DATA)
  with pytest.raises(ValueError, match="only='conv', expected one of"):
    make("hessian", only=["conv"])
  with pytest.raises(ValueError, match=r"mask of 'out' is \(2,\), expected"):
    make(
      "hessian", mask=jax.tree.map(np.ones_like, PARAMS) | {"out": np.ones(2)}
    )
  with pytest.raises(ValueError, match="nothing is chosen"):
    make("hessian", mask=False)
  with pytest.raises(ValueError, match="NaN in 'gain'"):
    probe.hessian(loss, PARAMS | {"gain": np.float32(np.nan)}, DATA)
  with pytest.raises(ValueError, match="vector: 'gain' is missing"):
    make("hessian")({"dense": PARAMS["dense"], "out": PARAMS["out"]})
  with pytest.raises(ValueError, match="needs a loss that returns"):
    probe.empirical_fisher(mean_loss, PARAMS, DATA)
  with pytest.raises(ValueError, match="likelihood: 'poisson'"):
    probe.fisher(problems.apply, PARAMS, DATA, "poisson")
  with pytest.raises(ValueError, match="batch_size is 0"):
    make("hessian", batch_size=0)
  with pytest.raises(ValueError, match="complex64, expected real"):
    probe.hessian(lambda p, d: jnp.abs(p).sum(), jnp.ones(2, complex), None)
