"""Codes and scales: read as weights, written again, or refused by name."""

import json

import ml_dtypes
import numpy as np
import pytest
import yaml

import weightspace as ws
from tests import llamas
from weightspace import checkpoints
from weightspace.checkpoints import quantised, readers, writers
from weightspace.cli import command

FP8, INT8 = np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(np.int8)
F32 = np.dtype(np.float32)
FORMS = {  # codes, end of the scales' name, entries that share one, their shape
  "tensor": (FP8, "_scale", (300, 200), (), "fbgemm_fp8"),
  "channel": (FP8, "_scale", (1, 200), (300, 1), "compressed-tensors"),
  "block": (FP8, "_scale_inv", (128, 128), (3, 2), "fp8"),
  "int8": (INT8, "_scale", (1, 200), (300, 1), "compressed-tensors"),
}
NAME = "model.layers.0.mlp.up_proj.weight"
SHAPE = (300, 200)


def form(kind):
  codes, end, spans, shape, _ = FORMS[kind]
  return quantised.Form(codes, f"{NAME}{end}", (shape, F32), spans)


def kept(kind, x):
  """Codes and scales of a matrix, by hand."""
  codes, end, spans, shape, _ = FORMS[kind]
  scales = np.zeros((-(-SHAPE[0] // spans[0]), -(-SHAPE[1] // spans[1])))
  made = np.zeros(SHAPE, np.float32)
  for i in range(scales.shape[0]):
    for j in range(scales.shape[1]):
      rows = slice(i * spans[0], (i + 1) * spans[0])
      columns = slice(j * spans[1], (j + 1) * spans[1])
      top = np.abs(x[rows, columns]).max()
      scales[i, j] = top / (127 if codes == INT8 else 448)
      made[rows, columns] = x[rows, columns] / np.float32(scales[i, j])
  made = np.rint(made) if codes == INT8 else made
  return {
    NAME: made.astype(codes),
    f"{NAME}{end}": scales.astype(np.float32).reshape(shape),
  }


def valued(kind, stored):
  _, end, spans, _, _ = FORMS[kind]
  scales = stored[f"{NAME}{end}"].reshape(-(-300 // spans[0]), -1)
  wide = np.repeat(np.repeat(scales, spans[0], 0), spans[1], 1)
  return stored[NAME].astype(np.float32) * wide[: SHAPE[0], : SHAPE[1]]


def matrix(seed, size=1.0):
  rng = np.random.default_rng(seed)
  rows = np.exp(rng.normal(size=(SHAPE[0], 1)))
  return (size * rows * rng.normal(size=SHAPE)).astype(np.float32)


def write(path, leaves, config):
  kinds = {n: (np.shape(x), np.asarray(x).dtype) for n, x in leaves.items()}
  writer = writers.begin(path, kinds)
  for name, x in leaves.items():
    writer.write(name, x)
  writer.finish({"config.json": json.dumps(config)})
  return path


def stored(path, kind, x, **more):
  settings = {"model_type": "llama", "dtype": "bfloat16"}
  settings[quantised.CONFIG] = {"quant_method": FORMS[kind][-1]}
  norm = {"model.norm.weight": np.ones(4, ml_dtypes.bfloat16)}
  return write(path, kept(kind, x) | norm | more, settings)


def merge(at, **keys):
  models = [
    {"model": str(at / name), "parameters": {"weight": weight}}
    for name, weight in (("a", 0.5), ("b", 0.5))
  ]
  config = {"merge_method": "linear", "models": models} | keys
  (at / "c.yml").write_text(yaml.safe_dump(config))
  return command.main([str(at / "c.yml"), str(at / "out"), "--quiet"])


@pytest.mark.parametrize("kind", FORMS)
def test_codes_read_as_weights_in_slices_too(tmp_path, kind):
  x = matrix(0)
  path = stored(tmp_path / "a", kind, x)
  settings = json.loads((path / "config.json").read_text())
  reader, forms = quantised.as_weights(readers.open(path), settings)
  assert forms == {NAME: form(kind)}
  assert reader.keys() == [NAME, "model.norm.weight"]
  whole = valued(kind, kept(kind, x))
  assert reader.dtype(NAME) == np.float32
  np.testing.assert_array_equal(reader.read(NAME), whole)
  for index in (slice(100, 290), (slice(5, 7), slice(120, 140)), slice(0, 0)):
    np.testing.assert_array_equal(reader.read(NAME, index), whole[index])
  made = quantised.encode(whole, NAME, form(kind))
  again = valued(kind, made)
  np.testing.assert_allclose(again, whole, 1e-6, 1e-6)


@pytest.mark.parametrize("kind", FORMS)
def test_a_merge_of_codes_is_that_of_their_weights(tmp_path, kind):
  values = []
  for seed, name in enumerate("ab"):
    x = matrix(seed, 1.0 + 9 * seed)
    stored(tmp_path / name, kind, x)
    values.append(valued(kind, kept(kind, x)))
  assert merge(tmp_path) == 0
  exact = (values[0] + values[1]) / 2
  merged = llamas.read(tmp_path / "out")
  assert set(merged) == {NAME, "model.norm.weight"}
  np.testing.assert_allclose(merged[NAME], exact, 2**-8)
  config = json.loads((tmp_path / "out" / "config.json").read_text())
  assert quantised.CONFIG not in config and config["dtype"] == "bfloat16"
  reader = checkpoints.open(tmp_path / "out")
  assert {reader.dtype(n).name for n in reader.keys()} == {"bfloat16"}


@pytest.mark.parametrize("kind", FORMS)
def test_quantised_again_it_errs_as_the_exact_merge_does(tmp_path, kind):
  values = []
  for seed, name in enumerate("ab"):
    x = matrix(seed, 1.0 + 9 * seed)
    stored(tmp_path / name, kind, x)
    values.append(valued(kind, kept(kind, x)))
  assert merge(tmp_path, quantise="same") == 0
  reader = checkpoints.open(tmp_path / "out")
  found = {n: reader.read(n) for n in reader.keys()}
  codes, end, *_ = FORMS[kind]
  assert found[NAME].dtype == codes and found[f"{NAME}{end}"].dtype == F32
  exact = (values[0] + values[1]) / 2
  error = np.linalg.norm(valued(kind, found) - exact)
  once = np.linalg.norm(valued(kind, kept(kind, exact)) - exact)
  assert error <= 1.1 * once
  config = json.loads((tmp_path / "out" / "config.json").read_text())
  assert config[quantised.CONFIG] == {"quant_method": FORMS[kind][-1]}


def test_a_stream_sees_weights_too(tmp_path):
  paths = [stored(tmp_path / n, "block", matrix(s)) for s, n in enumerate("ab")]
  ws.merge.stream(ws.merge.uniform(), paths, tmp_path / "out")
  exact = sum(valued("block", kept("block", matrix(s))) for s in (0, 1)) / 2
  merged = llamas.read(tmp_path / "out")
  np.testing.assert_allclose(merged[NAME], exact, 1e-6, 1e-7)


FOREIGN = {
  "gptq": ({"l.qweight": np.zeros((4, 4), np.int32)}, "gptq"),
  "awq": ({"l.qweight": np.zeros((4, 4), np.int32)}, "awq"),
  "bitsandbytes": (
    {"l.weight": np.zeros((4, 1), np.uint8), "l.weight.absmax": np.ones(1)},
    "bitsandbytes",
  ),
  "mxfp4": ({"l.w_blocks": np.zeros((4, 4), np.uint8)}, "mxfp4"),
  "torchao": ({"l.weight": np.ones((4, 4), np.float32)}, "torchao"),
  "pack-quantized": (
    {"l.weight_packed": np.zeros((4, 4), np.int32)},
    "compressed-tensors",
  ),
}


@pytest.mark.parametrize("method", FOREIGN)
@pytest.mark.parametrize("said", [True, False])
def test_other_methods_are_refused_by_name(tmp_path, capsys, method, said):
  leaves, name = FOREIGN[method]
  settings = {quantised.CONFIG: {"quant_method": name}} if said else {}
  if method == "torchao" and not said:
    return  # plain weights
  for model in "ab":
    write(tmp_path / model, leaves, settings)
  assert merge(tmp_path) == 1
  told = capsys.readouterr().err
  assert told.startswith("error: ") and told.count("\n") == 1
  assert (name if said else "quantised by") in told
  assert not (tmp_path / "out").exists()


def test_codes_without_scales_and_wrong_scales_are_named(tmp_path):
  settings = {quantised.CONFIG: {"quant_method": "fp8"}}
  bare = {NAME: np.zeros((4, 4), FP8)}
  path = write(tmp_path / "a", bare, settings)
  with pytest.raises(ValueError, match="codes of fp8 without scales"):
    quantised.as_weights(readers.open(path), settings)
  wrong = bare | {f"{NAME}_scale": np.ones((3, 1), np.float32)}
  path = write(tmp_path / "b", wrong, settings)
  with pytest.raises(ValueError, match="expected one scale, one for each row"):
    quantised.as_weights(readers.open(path), settings)
  plain = {"w": np.ones(3, FP8)}  # no code of a matrix
  path = write(tmp_path / "c", plain, {})
  assert quantised.as_weights(readers.open(path), {})[1] == {}


def test_what_cannot_be_quantised_again_is_refused(tmp_path, capsys):
  plain = {NAME: matrix(0), "model.norm.weight": np.ones(4, np.float32)}
  write(tmp_path / "a", plain, {"model_type": "llama"})
  stored(tmp_path / "b", "block", matrix(1))
  assert merge(tmp_path, quantise="same") == 1
  assert "is not quantised" in capsys.readouterr().err
  assert merge(tmp_path) == 0  # a full model with a quantised one
  assert checkpoints.open(tmp_path / "out").dtype(NAME) == np.float32
  scale = {"model.layers.0.mlp.up_proj.input_scale": np.ones(1, np.float32)}
  stored(tmp_path / "c", "block", matrix(1), **scale)
  (tmp_path / "a").rename(tmp_path / "old")
  (tmp_path / "c").rename(tmp_path / "a")
  (tmp_path / "out").rename(tmp_path / "old_out")
  assert merge(tmp_path, quantise="same") == 1
  assert "has scales of activations" in capsys.readouterr().err
