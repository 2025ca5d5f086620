"""flax's LoRA modules: their trees read, merged as values and written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import weightspace as ws
from weightspace import parametrize as p


class Model(nnx.Module):
  def __init__(self, rngs):
    self.one = nnx.LoRALinear(4, 6, lora_rank=2, rngs=rngs)
    linear = nnx.Linear(6, 5, rngs=rngs)
    self.two = nnx.LoRA(6, 2, 5, base_module=linear, rngs=rngs)
    self.alone = nnx.LoRA(5, 2, 3, rngs=rngs)
    self.layers = nnx.List([nnx.LoRALinear(3, 3, lora_rank=1, rngs=rngs)])

  def __call__(self, x):
    x = jnp.tanh(self.two(jnp.tanh(self.one(x))))
    return self.layers[0](self.alone(x))


def built(seed=0):
  apply, params = ws.models.from_nnx(Model(nnx.Rngs(seed)))
  rng = np.random.default_rng(seed)
  moved = jax.tree.map(
    lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), params
  )
  return apply, moved


def test_trees_are_read_and_written():
  apply, params = built()
  tree = p.from_nnx_lora(params)
  assert isinstance(tree["one"]["kernel"], p.Changed)
  assert isinstance(tree["two"]["base_module"]["kernel"], p.Changed)
  assert isinstance(tree["alone"], p.Adapter)
  back = p.to_nnx_lora(tree)
  ws.trees.check_same(params, back, "params")
  x = jnp.ones((3, 4))
  np.testing.assert_allclose(apply(back, x), apply(params, x), rtol=1e-6)


def test_values_are_those_of_plain_modules():
  apply, params = built()
  plain = p.value(p.from_nnx_lora(params))

  def by_hand(x):
    for layer in (plain["one"], plain["two"]["base_module"]):
      x = jnp.tanh(x @ layer["kernel"] + layer["bias"][None])
    last = plain["layers"]["0"]
    return x @ plain["alone"] @ last["kernel"] + last["bias"][None]

  x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4)), "float32")
  np.testing.assert_allclose(by_hand(x), apply(params, x), rtol=1e-4, atol=1e-5)


def test_scales_go_into_b():
  apply, params = built()
  tree = p.from_nnx_lora(params)
  one = tree["one"]["kernel"].change
  tree["one"]["kernel"] = tree["one"]["kernel"].replace(
    change=one.replace(b=one.b / 4.0, scale=4.0)
  )
  x = jnp.ones((3, 4))
  np.testing.assert_allclose(
    apply(p.to_nnx_lora(tree), x), apply(params, x), rtol=1e-5
  )


@pytest.mark.parametrize(
  ("params", "message"),
  [
    ({"a": {"lora_a": 1, "x": 2}}, r"'a' has \['lora_a'\]"),
    (
      {"a": {"lora_a": 1, "lora_b": 2, "x": 3}},
      "'a' has factors and no kernel",
    ),
    ({"lora_a": 1, "lora_b": 2, "base_module": 3}, "factors and no kernel"),
  ],
)
def test_what_is_refused(params, message):
  with pytest.raises(ValueError, match=message):
    p.from_nnx_lora(params)


def test_factors_alone_stay_where_they_are():
  params = {"lora": {"lora_a": jnp.ones((2, 1)), "lora_b": jnp.ones((1, 2))}}
  tree = p.from_nnx_lora(params)
  assert isinstance(tree["lora"], p.Adapter)
  ws.trees.check_same(params, p.to_nnx_lora(tree), "params")


def test_other_changes_are_not_written():
  one = p.Changed(jnp.ones((2, 2)), p.Miss(jnp.ones((1, 2))))
  for bad in (one, p.merge(one)):
    with pytest.raises(ValueError, match="expected an Adapter"):
      p.to_nnx_lora({"kernel": bad})
