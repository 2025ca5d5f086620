"""Llama checkpoints become parameters of the language model, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace.checkpoints import readers

CONFIG = {
  "hidden_size": 16,
  "intermediate_size": 24,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "num_hidden_layers": 2,
  "vocab_size": 11,
  "rms_norm_eps": 1e-5,
  "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"},
}


def leaves(seed=0, **changes):
  config = CONFIG | changes
  model = ws.models.build("lm", **ws.models.llama_hyper(config))
  params = model.init(jax.random.key(seed), jnp.zeros((1, 3), jnp.int32))
  return model, params, ws.models.to_llama(params, config)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}])
def test_there_and_back_is_the_same(changes):
  model, params, found = leaves(**changes)
  assert found["model.layers.1.self_attn.k_proj.weight"].shape == (8, 16)
  assert found["model.layers.0.mlp.down_proj.weight"].shape == (16, 24)
  assert ("lm_head.weight" in found) == (not changes)
  again = ws.models.from_llama(found, CONFIG | changes)
  jax.tree.map(np.testing.assert_array_equal, params, again)
  tokens = jnp.arange(6).reshape(1, 6)
  assert jnp.isfinite(model.apply(again, tokens)).all()


def test_a_reader_is_read_and_heads_of_another_size_fit():
  changes = {"head_dim": 6, "num_key_value_heads": None}
  _, params, found = leaves(**changes)
  assert found["model.layers.0.self_attn.o_proj.weight"].shape == (16, 24)
  kinds = {name: (x.shape, x.dtype) for name, x in found.items()}
  reader = readers.Reader("m", kinds, lambda name, index: found[name])
  again = ws.models.from_llama(reader, CONFIG | changes)
  jax.tree.map(np.testing.assert_array_equal, params, again)


def rms(x, scale, epsilon):
  return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale


def reference(w, tokens, config):
  """One layer of Llama in NumPy, one query head at a time."""
  heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
  size, eps = config["hidden_size"] // heads, config["rms_norm_eps"]
  x, t = w["model.embed_tokens.weight"][tokens], len(tokens)
  layer = {
    n.split("layers.0.")[1][:-7]: a for n, a in w.items() if "layers.0." in n
  }
  y = rms(x, layer["input_layernorm"], eps)
  theta = config["rope_parameters"]["rope_theta"]
  angle = np.outer(np.arange(t), theta ** (-np.arange(size // 2) / (size // 2)))
  turn = np.exp(1j * angle)
  out = []
  for head in range(heads):
    rows = slice(head * size, (head + 1) * size)
    group = head // (heads // groups)
    shared = slice(group * size, (group + 1) * size)
    q = y @ layer["self_attn.q_proj"][rows].T
    k = y @ layer["self_attn.k_proj"][shared].T
    v = y @ layer["self_attn.v_proj"][shared].T
    q, k = ((z[:, : size // 2] + 1j * z[:, size // 2 :]) * turn for z in (q, k))
    scores = np.real(q @ k.conj().T) / np.sqrt(size)
    scores = np.where(np.tri(t), scores, -np.inf)
    p = np.exp(scores - scores.max(1, keepdims=True))
    out.append(p / p.sum(1, keepdims=True) @ v)
  x = x + np.concatenate(out, 1) @ layer["self_attn.o_proj"].T
  y = rms(x, layer["post_attention_layernorm"], eps)
  gate = y @ layer["mlp.gate_proj"].T
  y = gate / (1 + np.exp(-gate)) * (y @ layer["mlp.up_proj"].T)
  x = rms(x + y @ layer["mlp.down_proj"].T, w["model.norm.weight"], eps)
  return x @ w["lm_head.weight"].T


def test_the_model_is_a_llama():
  changes = {"num_hidden_layers": 1}
  model, params, found = leaves(**changes)
  tokens = np.array([3, 1, 4, 1, 5])
  wide = {name: x.astype(np.float64) for name, x in found.items()}
  expected = reference(wide, tokens, CONFIG | changes)
  got = model.apply(params, tokens[None])[0]
  np.testing.assert_allclose(got, expected, atol=2e-5)


def test_what_does_not_fit_is_refused_by_name():
  _, params, found = leaves()
  bias = "model.layers.0.self_attn.q_proj.bias"
  with pytest.raises(ValueError, match=f"'{bias}' has no place"):
    ws.models.from_llama(found | {bias: np.zeros(16)}, CONFIG)
  norm = "model.norm.weight"
  with pytest.raises(ValueError, match=r"'model\.norm\.weight' is missing"):
    ws.models.from_llama({n: x for n, x in found.items() if n != norm}, CONFIG)
  with pytest.raises(
    ValueError, match=r"'model\.norm\.weight' is \(3,\), expec"
  ):
    ws.models.from_llama(found | {norm: np.zeros(3)}, CONFIG)
  with pytest.raises(ValueError, match="the parameters have no 'block_1'"):
    ws.models.to_llama(
      {n: x for n, x in params.items() if n != "block_1"}, CONFIG
    )
  with pytest.raises(ValueError, match=r"would be \(11, 16\), expected \(12"):
    ws.models.to_llama(params, CONFIG | {"vocab_size": 12})


@pytest.mark.parametrize(
  "changes, match",
  [
    ({"rope_scaling": {"type": "linear"}}, "rope_scaling is {'type': 'linear'"),
    ({"attention_bias": True}, "attention_bias is True, expected False"),
    ({"hidden_act": "gelu"}, "hidden_act is 'gelu', not silu"),
    ({"rope_parameters": {"rope_type": "llama3"}}, "rope_type is 'llama3'"),
  ],
)
def test_configs_that_the_model_does_not_do_are_refused(changes, match):
  with pytest.raises(ValueError, match=match):
    ws.models.llama_hyper(CONFIG | changes)


def test_a_config_without_a_size_is_refused():
  with pytest.raises(ValueError, match="the config has no 'num_hidden_layers'"):
    ws.models.llama_hyper({"vocab_size": 3})


def test_head_sizes_are_checked():
  with pytest.raises(ValueError, match="lm: size is 3, expected an even"):
    ws.models.build("lm", size=3)
