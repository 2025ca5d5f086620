"""Kinds of checkpoints x recipes x families: each is the merge of its weights.

However the leaves are stored, the merged ones are those of the same recipe in
memory, on the values that the files stand for.
"""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
import yaml

import weightspace as ws
from weightspace import checkpoints
from weightspace.checkpoints import quantised, writers
from weightspace.cli import command
from weightspace.cli.recipes import methods

BF16, FP8 = np.dtype(ml_dtypes.bfloat16), np.dtype(ml_dtypes.float8_e4m3fn)
FAMILIES = {
  "llama": {
    "model.embed_tokens.weight": (10, 8),
    "model.layers.0.mlp.up_proj.weight": (12, 8),
    "model.layers.1.mlp.up_proj.weight": (12, 8),
    "model.norm.weight": (8,),
  },
  "gpt2": {
    "transformer.wte.weight": (10, 8),
    "transformer.h.0.attn.c_attn.weight": (8, 24),
    "transformer.h.0.attn.c_attn.bias": (24,),
    "transformer.ln_f.weight": (8,),
  },
  "bert": {
    "bert.embeddings.word_embeddings.weight": (10, 8),
    "bert.encoder.layer.0.attention.self.query.weight": (8, 8),
    "bert.encoder.layer.0.attention.self.query.bias": (8,),
    "bert.pooler.dense.weight": (8, 8),
  },
  "t5": {
    "shared.weight": (10, 8),
    "encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8),
    "decoder.block.0.layer.0.SelfAttention.q.weight": (8, 8),
  },
}
ONE = {"weight": 0.5}
HALF = {"weight": 0.5, "density": 0.5}
RECIPES = {
  "linear": (ONE, {"normalize": True}),
  "slerp": ({}, {"t": 0.4}),
  "nuslerp": (ONE, {"nuslerp_flatten": True, "nuslerp_row_wise": False}),
  "karcher": ({}, {"max_iter": 10, "tol": 1e-5}),
  "task_arithmetic": (ONE, None),
  "ties": (HALF, None),
  "dare_linear": (HALF, None),
  "breadcrumbs": ({**HALF, "gamma": 0.1}, None),
  "della": ({**HALF, "epsilon": 0.15}, None),
  "model_stock": ({}, {"filter_wise": False}),
}
FULL = {"lambda": 1.0, "normalize": False, "rescale": False}
BASED = (
  "task_arithmetic ties dare_linear breadcrumbs della model_stock"
).split()


def leaves(family, seed):
  """Near a common start, as models that were fine-tuned are."""
  start, step = np.random.default_rng(0), np.random.default_rng(seed)
  return {
    name: (start.normal(size=s) + 0.1 * step.normal(size=s)).astype(np.float32)
    for name, s in FAMILIES[family].items()
  }


def write(path, found, shard_bytes=10**9, settings=None):
  kinds = {n: (np.shape(x), np.asarray(x).dtype) for n, x in found.items()}
  writer = writers.begin(path, kinds, shard_bytes)
  for name, x in found.items():
    writer.write(name, x)
  table = {"model_type": "any", "dtype": "float32"} | (settings or {})
  writer.finish({"config.json": json.dumps(table)})


def in_dtype(dtype):
  def kind(path, found):
    cast = {n: x.astype(dtype) for n, x in found.items()}
    write(path, cast)
    return {n: np.asarray(x, np.float32) for n, x in cast.items()}

  return kind


def shards(path, found):
  write(path, found, 200)
  return found


def prefixed(path, found):
  inside = path.name == "m1"
  write(path, {f"module.{n}" if inside else n: x for n, x in found.items()})
  return found


def orbax(path, found):
  checkpoints.save(path, {n: x for n, x in found.items()})
  return found


def npz(path, found):
  np.savez(f"{path}.npz", **found)
  return found


def buffers(path, found):
  """An integer, a mask of -inf, an empty leaf and a derived one beside."""
  mask = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
  more = {"steps": np.array(2**40), "mask": mask}
  more["none"] = np.zeros((0, 2), np.float32)
  if path.name != "m2":
    more["embeddings.position_ids"] = np.arange(4)
  write(path, found | more)
  return found


def codes(form):
  dtype, end, spans = form

  def kind(path, found):
    made, values = {}, {}
    for name, x in found.items():
      if x.ndim < 2 or name == next(iter(found)):
        made[name] = values[name] = x
        continue
      counts = tuple(-(-s // p) for s, p in zip(x.shape, spans(x)))
      scale = ((counts), np.dtype(np.float32))
      kept = quantised.Form(dtype, f"{name}{end}", scale, spans(x))
      made |= quantised.encode(x, name, kept)
      wide = made[f"{name}{end}"]
      for axis, span in enumerate(spans(x)):
        wide = np.repeat(wide, span, axis)
      values[name] = made[name].astype(np.float32) * wide
    write(path, made, settings={quantised.CONFIG: {"quant_method": "fp8"}})
    return values

  return kind


KINDS = {
  "float32": in_dtype(np.float32),
  "bfloat16": in_dtype(BF16),
  "float16": in_dtype(np.float16),
  "float64": in_dtype(np.float64),
  "shards": shards,
  "prefix": prefixed,
  "orbax": orbax,
  "npz": npz,
  "buffers": buffers,
  "fp8_tensor": codes((FP8, "_scale", lambda x: x.shape)),
  "fp8_block": codes((FP8, "_scale_inv", lambda x: x.shape)),
  "int8_rows": codes((np.dtype(np.int8), "_scale", lambda x: (1, x.shape[1]))),
}


def merge(at, name, suffix):
  each, whole = RECIPES[name]
  models = [{"model": f"{at}/m{m}{suffix}", "parameters": each} for m in (1, 2)]
  config = {"merge_method": name, "models": models, "dtype": "float32"}
  config["parameters"] = FULL if whole is None else whole
  if name in BASED:
    config["base_model"] = f"{at}/m0{suffix}"
  elif name == "slerp":
    config["base_model"] = f"{at}/m1{suffix}"
  (at / f"{name}.yml").write_text(yaml.safe_dump(config))
  code = command.main([str(at / f"{name}.yml"), str(at / name), "--quiet"])
  assert code == 0
  return checkpoints.open(at / name)


def expected(name, values):
  each, whole = RECIPES[name]
  both = {key: (value, value) for key, value in each.items()}
  based = name in BASED
  recipe = methods.recipe(name, both, FULL if whole is None else whole, based)
  needs = {"base": values[0]} if based else {}
  key = jax.random.key(0) if "key" in recipe.needs else None
  return ws.merge.run(recipe, values[1:], key=key, **needs)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_merge_is_that_of_the_weights(tmp_path, kind, family):
  chosen = list(KINDS).index(kind) + list(FAMILIES).index(family)
  values = [
    KINDS[kind](tmp_path / f"m{m}", leaves(family, m)) for m in range(3)
  ]
  suffix = ".npz" if kind == "npz" else ""
  # Three recipes of the ten in a cell; every kind and family meets all of them.
  for name in [list(RECIPES)[(chosen + 3 * n) % 10] for n in range(3)]:
    reader = merge(tmp_path, name, suffix)
    for leaf, x in expected(name, values).items():
      found = reader.read(leaf)
      assert found.dtype == np.float32
      np.testing.assert_allclose(found, x, 2e-5, 2e-5, err_msg=name)
    if kind == "buffers":
      assert reader.read("steps") == 2**40
      assert reader.shape("none") == (0, 2)
      assert np.isneginf(reader.read("mask")).sum() == 6
      assert reader.read("embeddings.position_ids").tolist() == [0, 1, 2, 3]
