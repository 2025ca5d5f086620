"""Checkpoints of Llamas, by Hugging Face's names, sliced and restacked."""

import jax.numpy as jnp
import numpy as np

import weightspace as ws
from tests import llamas
from weightspace import grow

CONFIG = llamas.config(layers=4) | {
  "hidden_size": 8,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "head_dim": 4,
}
X = jnp.arange(6).reshape(2, 3)


def model(config):
  return ws.models.build("lm", **ws.models.llama_hyper(config))


def teacher():
  random = np.random.default_rng(0)
  wide = {"q_proj": (16, 8), "k_proj": (8, 8), "v_proj": (8, 8)}
  wide |= {"o_proj": (8, 16)}
  leaves = llamas.leaves(0, layers=4)
  for name in leaves:
    for part, shape in wide.items():
      if part in name:
        leaves[name] = random.normal(size=shape).astype(np.float32)
  return leaves


def test_a_checkpoint_becomes_a_smaller_checkpoint():
  leaves = teacher()
  params = ws.models.from_llama(leaves, CONFIG)
  axes = ws.symmetry.trace_axes(model(CONFIG).apply, params, X)
  half = grow.sizes(axes, 0.5)
  student = grow.inherit(axes, params, half, "block_*", grow.spaced(4, 2))
  small = CONFIG | {
    "hidden_size": 4,
    "intermediate_size": llamas.HIDDEN // 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
  }
  found = ws.models.to_llama(student, small)
  at = "model.layers.1."
  # Block 2 of the teacher, its first group of two heads of size four.
  np.testing.assert_array_equal(
    found[f"{at}self_attn.q_proj.weight"],
    leaves["model.layers.2.self_attn.q_proj.weight"][:8, :4],
  )
  np.testing.assert_array_equal(
    found[f"{at}self_attn.o_proj.weight"],
    leaves["model.layers.2.self_attn.o_proj.weight"][:4, :8],
  )
  np.testing.assert_array_equal(
    found[f"{at}mlp.down_proj.weight"],
    leaves["model.layers.2.mlp.down_proj.weight"][:4, :6],
  )
  logits = model(small).apply(ws.models.from_llama(found, small), X)
  assert np.isfinite(logits).all()


def test_depth_up_scaling_of_a_checkpoint():
  leaves = teacher()
  params = ws.models.from_llama(leaves, CONFIG)
  order = [0, 1, 2, 1, 2, 3]
  deep = CONFIG | {"num_hidden_layers": 6}
  found = ws.models.to_llama(grow.restack(params, "block_*", order), deep)
  for new, old in enumerate(order):
    for part in ("self_attn.k_proj", "mlp.up_proj", "input_layernorm"):
      np.testing.assert_array_equal(
        found[f"model.layers.{new}.{part}.weight"],
        leaves[f"model.layers.{old}.{part}.weight"],
      )
