"""Llama checkpoints of Hugging Face as parameters of `LM`, and back.

The same numbers under other names and axes: kernels are [in, out] instead of
[out, in], and heads are an axis of their own.  Both pair the rotary features by
halves, so nothing is permuted.

>>> config = {"hidden_size": 8, "num_attention_heads": 2, "vocab_size": 5}
>>> config |= {"num_hidden_layers": 0, "intermediate_size": 4}
>>> leaves = {EMBED: np.ones((5, 8)), NORM: np.ones(8), HEAD: np.ones((5, 8))}
>>> params = from_llama(leaves, config)
>>> params["head"]["kernel"].shape
(8, 5)
>>> sorted(to_llama(params, config)) == sorted(leaves)
True
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from weightspace.checkpoints.readers import Reader
from weightspace.types import Params

EMBED, NORM, HEAD = (
  "model.embed_tokens.weight",
  "model.norm.weight",
  "lm_head.weight",
)
LAYER = "model.layers.{}.{}.weight"
NORMS = {
  "norm_attention": "input_layernorm",
  "norm_mlp": "post_attention_layernorm",
}
GATED = {"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
HEADS = {
  "query": "self_attn.q_proj",
  "key": "self_attn.k_proj",
  "value": "self_attn.v_proj",
  "out": "self_attn.o_proj",
}
PLAIN = {  # what a config says that LM does not do, unless it has this value
  "rope_scaling": None,
  "attention_bias": False,
  "mlp_bias": False,
  "sliding_window": None,
  "partial_rotary_factor": 1.0,
}


def llama_hyper(config: Mapping[str, Any]) -> dict[str, Any]:
  """Return the hyper-parameters of `LM` for a Llama's config.json.

  Raises:
    ValueError: naming what is missing from the config or not done by `LM`.

  >>> config = {"hidden_size": 8, "num_attention_heads": 2, "vocab_size": 5}
  >>> config |= {"num_hidden_layers": 1, "intermediate_size": 4}
  >>> llama_hyper(config)["kv_heads"]
  2
  """
  for key, plain in PLAIN.items():
    if config.get(key, plain) not in (plain, None):
      raise ValueError(f"llama: {key} is {config[key]!r}, expected {plain!r}")
  if config.get("hidden_act", "silu") not in ("silu", "swish"):
    raise ValueError(f"llama: hidden_act is {config['hidden_act']!r}, not silu")
  rope = config.get("rope_parameters") or {}
  if rope.get("rope_type", "default") != "default":
    raise ValueError(
      f"llama: rope_type is {rope['rope_type']!r}, expected 'default'"
    )
  names = {
    "vocab": "vocab_size",
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
  }
  for name in names.values():
    if name not in config:
      raise ValueError(f"llama: the config has no {name!r}")
  hyper = {own: config[name] for own, name in names.items()}
  theta = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
  return hyper | {
    "kv_heads": config.get("num_key_value_heads") or hyper["heads"],
    "size": config.get("head_dim") or hyper["width"] // hyper["heads"],
    "rotary": float(theta),
    "epsilon": config.get("rms_norm_eps", 1e-6),
    "tied": bool(config.get("tie_word_embeddings", False)),
  }


def from_llama(
  source: Reader | Mapping[str, Any], config: Mapping[str, Any]
) -> Params:
  """Return the parameters of `LM` from a Llama's leaves.

  Args:
    source: a checkpoint, or {name: array}.
    config: its config.json.

  Returns:
    Params of `build("lm", **llama_hyper(config))`, arrays of the checkpoint's
    dtype: of NumPy, or of JAX where the source has those, under jit too.

  Raises:
    ValueError: naming a leaf that is missing, of another shape, or has no place
      in `LM`.

  Touvron et al. 2023, https://arxiv.org/abs/2302.13971; names and layout are
  those of Hugging Face's checkpoints.
  """
  hyper = llama_hyper(config)
  shapes = _shapes(hyper)
  names = source.keys() if isinstance(source, Reader) else source
  unused = "rotary_emb.inv_freq"
  for name in names:
    tied = hyper["tied"] and name == HEAD
    if name not in shapes and not (name.endswith(unused) or tied):
      raise ValueError(f"llama: {name!r} has no place in the model")
  leaves: dict[str, Any] = {}
  for name, shape in shapes.items():
    if name not in names:
      raise ValueError(f"llama: {name!r} is missing")
    leaf = source.read(name) if isinstance(source, Reader) else source[name]
    leaves[name] = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
    if leaves[name].shape != shape:
      raise ValueError(
        f"llama: {name!r} is {leaves[name].shape}, expected {shape}"
      )
  return _tree(leaves, hyper)


def to_llama(
  params: Params, config: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """Return a Llama's leaves by Hugging Face's names; undoes `from_llama`.

  Args:
    params: of `LM`, not scanned.
    config: the config.json that they are for.

  Raises:
    ValueError: naming the first leaf that is missing or of another shape.
  """
  hyper = llama_hyper(config)
  found: dict[str, np.ndarray] = {}
  try:
    found[EMBED] = np.asarray(params["embed"]["embedding"])
    found[NORM] = np.asarray(params["norm"]["scale"])
    if not hyper["tied"]:
      found[HEAD] = np.asarray(params["head"]["kernel"]).T
    for index in range(hyper["layers"]):
      _put_block(found, index, params[f"block_{index}"])
  except KeyError as error:
    raise ValueError(f"llama: the parameters have no {error}") from None
  for name, shape in _shapes(hyper).items():
    if found[name].shape != shape:
      raise ValueError(
        f"llama: {name!r} would be {found[name].shape}, expected {shape}"
      )
  return jax.tree.map(np.ascontiguousarray, found)


def _shapes(hyper: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
  """Return the leaves of a Llama with their shapes."""
  vocab, width, hidden = hyper["vocab"], hyper["width"], hyper["hidden"]
  query = hyper["heads"] * hyper["size"]
  shared = hyper["kv_heads"] * hyper["size"]
  found: dict[str, tuple[int, ...]] = {EMBED: (vocab, width), NORM: (width,)}
  if not hyper["tied"]:
    found[HEAD] = (vocab, width)
  inner: dict[str, tuple[int, ...]] = dict.fromkeys(NORMS.values(), (width,))
  inner |= {GATED["gate"]: (hidden, width), GATED["up"]: (hidden, width)}
  inner |= {GATED["down"]: (width, hidden), HEADS["query"]: (query, width)}
  inner |= {HEADS["key"]: (shared, width), HEADS["value"]: (shared, width)}
  inner |= {HEADS["out"]: (width, query)}
  for index in range(hyper["layers"]):
    found |= {LAYER.format(index, name): s for name, s in inner.items()}
  return found


def _tree(leaves: Mapping[str, Any], hyper: Mapping[str, Any]) -> Params:
  params: dict[str, Any] = {
    "embed": {"embedding": leaves[EMBED]},
    "norm": {"scale": leaves[NORM]},
  }
  if not hyper["tied"]:
    params["head"] = {"kernel": leaves[HEAD].T}
  for index in range(hyper["layers"]):

    def leaf(name: str, index: int = index) -> Any:
      return leaves[LAYER.format(index, name)]

    block: dict[str, Any] = {o: {"scale": leaf(n)} for o, n in NORMS.items()}
    block |= {own: {"kernel": leaf(n).T} for own, n in GATED.items()}
    attention = {}
    for own, name in HEADS.items():
      kernel = leaf(name).T
      count = hyper["heads" if own in ("query", "out") else "kv_heads"]
      split = (count, hyper["size"])
      shape = (*split, -1) if own == "out" else (-1, *split)
      attention[own] = {"kernel": kernel.reshape(shape)}
    params[f"block_{index}"] = block | {"attention": attention}
  return params


def _put_block(
  found: dict[str, np.ndarray], index: int, block: Mapping[str, Any]
) -> None:
  """Add the leaves of one block under their names."""
  for own, name in NORMS.items():
    found[LAYER.format(index, name)] = np.asarray(block[own]["scale"])
  for own, name in GATED.items():
    found[LAYER.format(index, name)] = np.asarray(block[own]["kernel"]).T
  for own, name in HEADS.items():
    kernel = np.asarray(block["attention"][own]["kernel"])
    shape = (-1, kernel.shape[-1]) if own == "out" else (len(kernel), -1)
    found[LAYER.format(index, name)] = kernel.reshape(shape).T
