"""Small random Llamas as folders, in the layout of Hugging Face."""

import json

import ml_dtypes
import numpy as np

from weightspace.checkpoints import writers

WIDTH, HIDDEN, VOCAB, LAYERS = 8, 12, 10, 2
NORMS = ("input_layernorm", "post_attention_layernorm")
MATRICES = {
  "self_attn.q_proj": (WIDTH, WIDTH),
  "self_attn.k_proj": (WIDTH // 2, WIDTH),
  "self_attn.v_proj": (WIDTH // 2, WIDTH),
  "self_attn.o_proj": (WIDTH, WIDTH),
  "mlp.gate_proj": (HIDDEN, WIDTH),
  "mlp.up_proj": (HIDDEN, WIDTH),
  "mlp.down_proj": (WIDTH, HIDDEN),
}
BF16 = np.dtype(ml_dtypes.bfloat16)


def leaves(seed, layers=LAYERS, vocab=VOCAB, near=None):
  """Random leaves, or leaves a small step from those of another model."""
  rng = np.random.default_rng(seed)
  shapes = {"model.embed_tokens.weight": (vocab, WIDTH)}
  for layer in range(layers):
    at = f"model.layers.{layer}."
    shapes |= {f"{at}{name}.weight": (WIDTH,) for name in NORMS}
    shapes |= {f"{at}{name}.weight": s for name, s in MATRICES.items()}
  shapes |= {"model.norm.weight": (WIDTH,), "lm_head.weight": (vocab, WIDTH)}
  found = {}
  for name, shape in shapes.items():
    step = rng.standard_normal(shape)
    middle = 1.0 if "norm" in name else 0.0
    start = middle if near is None else near[name]
    scale = 0.1 if near is None else 0.02
    found[name] = (start + scale * step).astype(np.float32)
  return found


def config(layers=LAYERS, vocab=VOCAB, dtype="float32"):
  return {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": layers,
    "vocab_size": vocab,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 32,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": dtype,
  }


def tokenizer(tokens, special=()):
  """The text of a tokenizer.json that knows whole words."""
  plain = {"single_word": False, "lstrip": False, "rstrip": False}
  added = [
    {
      "id": tokens.index(token),
      "content": token,
      **plain,
      "normalized": False,
      "special": True,
    }
    for token in special
  ]
  words = {t: i for i, t in enumerate(tokens) if t not in special}
  model = {"type": "WordLevel", "vocab": words, "unk_token": tokens[0]}
  empty = dict.fromkeys(("truncation", "padding", "normalizer"))
  empty |= dict.fromkeys(("post_processor", "decoder"))
  split = {"type": "Whitespace"}
  top = {"version": "1.0", **empty, "pre_tokenizer": split}
  return json.dumps(top | {"added_tokens": added, "model": model})


def write(path, found, dtype="float32", tokens=None, special=(), **extra):
  """Write a model's folder; `extra` are further files by name."""
  kind = BF16 if dtype == "bfloat16" else np.dtype(dtype)
  layers = 1 + max(
    int(name.split(".")[2]) for name in found if "layers" in name
  )
  vocab = len(found["model.embed_tokens.weight"])
  kinds = {name: (x.shape, kind) for name, x in found.items()}
  writer = writers.begin(path, kinds)
  for name, x in found.items():
    writer.write(name, x.astype(kind))
  texts = {"config.json": json.dumps(config(layers, vocab, dtype))}
  if tokens:
    texts["tokenizer.json"] = tokenizer(tokens, special)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings |= {"unk_token": tokens[0]}
    texts["tokenizer_config.json"] = json.dumps(settings)
  writer.finish(texts | extra)
  return str(path)


def read(path):
  """Return all leaves of a folder, in float32."""
  from weightspace import checkpoints

  reader = checkpoints.open(path)
  return {k: reader.read(k).astype(np.float32) for k in reader.keys()}
