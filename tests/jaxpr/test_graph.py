"""Stem and trunk: f(sum c_m p_m) = trunk(sum c_m stem(p_m)), for any c."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace.jaxpr import graph

X = np.random.default_rng(9).normal(size=(6, 8, 8, 2)).astype(np.float32)
TOKENS = np.arange(12).reshape(3, 4) % 5
FLAT = X.reshape(6, 128)[:, :3]


@jax.custom_vjp
def doubled(x):
  return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))


def convolution(p, x):
  y = jax.lax.conv_general_dilated(
    x, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  return jnp.tanh(y + p["bias"][None, None, None]).sum((1, 2, 3))


def embedding(p, x):
  """Tied: the table is gathered from, and multiplied by at the end."""
  hidden = p["table"][x].mean(1)
  return jax.nn.log_softmax(jnp.tanh(hidden) @ p["table"].T)[:, 0]


def batch_norm(p, x):
  """Statistics of the batch, taken from values that are linear in p."""
  y = x @ p["w"]
  y = (y - y.mean(0, keepdims=True)) * jax.lax.rsqrt(
    y.var(0, keepdims=True) + 1e-5
  )
  return jax.nn.relu(y).sum(1)


def control_flow(p, x):
  h = jax.nn.relu(jax.checkpoint(doubled)(x @ p["w"]))
  h, _ = jax.lax.scan(lambda c, _: (jnp.tanh(c @ p["v"]), None), h, None, 3)
  h = jax.lax.cond(h.sum() > 0, lambda h: h, lambda h: -h, h)
  h = jax.lax.fori_loop(0, 2, lambda i, h: h + 1, h)
  return jax.nn.log_softmax(h).sum(-1)


def integers(p, x):
  return jnp.tanh((x @ p["w"]) * p["n"]).sum(1) + p["n"] * p["w"].sum()


def affine(p, x):
  return (x @ p["w"] + 3.0).sum(1) / p["n"]


def linear_output(p, x):
  return (x @ p["w"]).sum(1)


def unused(p, x):
  return x.sum(1)


def printed(p, x):
  h = x @ p["w"]
  jax.debug.callback(lambda h: None, h)
  return jnp.tanh(h).sum(1)


W = {"w": (3, 4)}
CASES = {
  "affine": (affine, W, FLAT),
  "batch_norm": (batch_norm, W, FLAT),
  "control_flow": (control_flow, {"w": (3, 4), "v": (4, 4)}, FLAT),
  "convolution": (convolution, {"kernel": (3, 3, 2, 4), "bias": (4,)}, X),
  "embedding": (embedding, {"table": (5, 4)}, TOKENS),
  "integers": (integers, W, FLAT),
  "linear_output": (linear_output, W, FLAT),
  "printed": (printed, W, FLAT),
  "two_layers": (problems.apply, problems.SHAPES, FLAT),
  "unused": (unused, W, FLAT),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("coefficients", [(0.3, 0.7), (2.0, -3.5)])
def test_stem_of_a_mix_is_the_mix_of_stems(name, coefficients):
  function, shapes, x = CASES[name]
  models = [problems.tree(seed, shapes) for seed in (0, 1)]
  for seed, model in enumerate(models):
    model |= {"n": np.int32(2 + seed)} if function in (integers, affine) else {}
  split = graph.split_linear(function, models[0], x)
  stems = [split.stem(model, x) for model in models]
  mixed = (
    ws.weighted_sum(ws.stack(stems), list(coefficients)) if stems[0] else []
  )
  whole = ws.weighted_sum(ws.stack(models), list(coefficients))
  expected = function(whole, x)
  np.testing.assert_allclose(split.trunk(mixed, x), expected, 2e-4, 2e-4)


def test_first_layer_moves_into_the_stem():
  params = problems.tree(0)
  split = graph.split_linear(problems.apply, params, FLAT)
  # The first layer's outputs, and what is used non-linearly as it is.
  assert sorted(x.shape for x in split.frontier) == [(), (4, 2), (6, 4)]
  assert split.flops == 2 * 6 * 3 * 4
  assert split.width == 4 * 6 * 4


def test_convolution_flops_are_counted():
  function, shapes, x = CASES["convolution"]
  split = graph.split_linear(function, problems.tree(0, shapes), x)
  assert [x.shape for x in split.frontier] == [(6, 8, 8, 4)]
  assert split.flops == 2 * (3 * 3 * 2) * (6 * 8 * 8 * 4)


def test_a_product_of_parameters_is_not_linear():
  params = {"a": np.float32(2.0), "b": np.float32(3.0)}
  split = graph.split_linear(lambda p, x: p["a"] * p["b"] * x, params, 1.0)
  assert len(split.frontier) == 2
  # So is a constant added to a parameter: affine, not linear.
  split = graph.split_linear(lambda p, x: jnp.exp(p["a"] + 1.0), params, 1.0)
  assert split.stem(params, 1.0) == [2.0]


def test_narrow_parameters_are_mixed_before_they_are_used():
  params = {"w": jnp.ones((3, 4), jnp.bfloat16)}

  def function(p, x):
    return jnp.tanh(x @ p["w"].astype(jnp.float32))

  split = graph.split_linear(function, params, FLAT)
  assert [(x.shape, x.dtype) for x in split.frontier] == [
    ((3, 4), jnp.bfloat16)
  ]
  wide = {"w": jnp.ones((3, 4))}
  split = graph.split_linear(
    lambda p, x: jnp.tanh(x.astype(jnp.bfloat16) @ p["w"].astype(jnp.bfloat16)),
    wide,
    FLAT,
  )
  assert [x.dtype for x in split.frontier] == [jnp.float32]


def test_a_program_runs_again():
  params = problems.tree(0)
  program = graph.trace(problems.apply, params, FLAT)
  env = dict(zip(program.inputs, jax.tree.leaves((params, FLAT))))
  (again,) = graph.evaluate(program.equations, env, program.outputs)
  np.testing.assert_allclose(again, problems.apply(params, FLAT), rtol=1e-6)
