"""Whole merges from configuration files, against NumPy by hand."""

import json
import pathlib
import re

import jax
import numpy as np
import pytest
import yaml

import weightspace as ws
from tests import llamas
from weightspace import checkpoints
from weightspace.cli import command
from weightspace.cli.recipes import families, methods

BASE = llamas.leaves(0)
TUNED = [llamas.leaves(seed, near=BASE) for seed in (1, 2, 3)]
NAMES = ["a", "b", "c"]
# All that mergekit 0.1.5 registers.
REGISTERED = (
  "arcee_fusion breadcrumbs breadcrumbs_ties dare_linear dare_ties della"
  " della_linear karcher linear model_stock multislerp nearswap nuslerp"
  " passthrough ram ramplus_tl sce slerp task_arithmetic ties"
).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  at = tmp_path_factory.mktemp("models")
  tokens = [f"t{i}" for i in range(llamas.VOCAB)]
  llamas.write(at / "base", BASE, tokens=tokens)
  for name, found in zip(NAMES, TUNED):
    llamas.write(at / name, found, tokens=tokens)
  return at


@pytest.mark.parametrize("name", REGISTERED)
def test_every_name_of_mergekit_is_here_or_said_to_be_left_out(name):
  docs = pathlib.Path(__file__).parents[2] / "docs" / "left_out.md"
  said = f"`{name}`" in docs.read_text()
  assert name in ws.merge.RECIPES or said
  assert name in methods.METHODS or said


def sources(folder, count, **each):
  """`models` with parameters of each, given as lists."""
  return [
    {
      "model": str(folder / name),
      "parameters": {key: values[m] for key, values in each.items()},
    }
    for m, name in enumerate(NAMES[:count])
  ]


def merge(folder, tmp_path, config, *options):
  """Run the command; return the merged leaves."""
  config = {
    **config,
    **{
      key: str(folder / config[key]) for key in ("base_model",) if key in config
    },
  }
  file, out = tmp_path / "config.yml", tmp_path / "out"
  file.write_text(yaml.safe_dump(config))
  assert command.main([str(file), str(out), "--quiet", *options]) == 0
  return llamas.read(out)


def kept(delta, share):
  """The largest entries of a task vector."""
  k = max(1, int(share * delta.size))
  order = np.argsort(-np.abs(delta), axis=None, kind="stable")
  mask = np.zeros(delta.size, bool)
  mask[order[:k]] = True
  return np.where(mask.reshape(delta.shape), delta, 0)


def elected(deltas, weights, normalize):
  """Weighted task vectors vote, and those that agree are averaged."""
  weighted = [w * d for w, d in zip(weights, deltas)]
  sign = np.where(sum(weighted) >= 0, 1, -1)
  agree = [np.sign(x) == sign for x in weighted]
  total = sum(np.where(a, x, 0) for a, x in zip(agree, weighted))
  share = sum(w * a for w, a in zip(weights, agree))
  return total / np.where(share == 0, 1, share) if normalize else total


@pytest.mark.parametrize("normalize", [True, False])
def test_ties_with_weights_and_densities_of_each(folder, tmp_path, normalize):
  weights, shares = [0.5, -0.3, 0.7], [0.2, 0.5, 1.0]
  config = {
    "merge_method": "ties",
    "base_model": "base",
    "models": sources(folder, 3, weight=weights, density=shares),
    "parameters": {"lambda": 0.7, "normalize": normalize},
  }
  merged = merge(folder, tmp_path, config)
  for name, start in BASE.items():
    deltas = [kept(t[name] - start, s) for t, s in zip(TUNED, shares)]
    expected = start + 0.7 * elected(deltas, weights, normalize)
    np.testing.assert_allclose(merged[name], expected, atol=2e-6)


def test_linear_with_filters_and_gradients(folder, tmp_path):
  """Where no filter of a model fits, the file's value holds."""
  weight = [
    {"filter": "self_attn", "value": [0, 1]},
    {"filter": "mlp", "value": 0.25},
  ]
  config = {
    "merge_method": "linear",
    "models": sources(folder, 2, weight=[weight, 1.0]),
    "parameters": {"weight": 0.5, "normalize": False},
  }
  merged = merge(folder, tmp_path, config)
  for name in BASE:
    first = 0.25 if "mlp" in name else 0.5
    if "self_attn" in name:
      first = float("layers.1" in name)
    expected = first * TUNED[0][name] + TUNED[1][name]
    np.testing.assert_allclose(merged[name], expected, atol=1e-6)


def test_slerp_begins_at_the_base_and_gradients_at_the_embedding(
  folder, tmp_path
):
  config = {
    "merge_method": "slerp",
    "base_model": "b",
    "models": sources(folder, 2),
    "parameters": {"t": [{"filter": "mlp", "value": 1}, {"value": [0, 1]}]},
  }
  merged = merge(folder, tmp_path, config)
  for name in BASE:
    first = "mlp" in name or "layers.1" in name
    expected = TUNED[0 if first else 1][name]
    np.testing.assert_allclose(merged[name], expected, atol=1e-6)


def test_layers_are_stacked_and_scaled(folder, tmp_path):
  scale = [{"filter": "o_proj", "value": 0.0}, {"value": 1.0}]
  one = {"model": str(folder / "a"), "layer_range": [0, 2]}
  two = {"model": str(folder / "b"), "layer_range": [1, 2]}
  two["parameters"] = {"scale": scale}
  config = {
    "merge_method": "passthrough",
    "slices": [{"sources": [one]}, {"sources": [two]}],
    "dtype": "bfloat16",
  }
  merged = merge(folder, tmp_path, config)
  near = {"rtol": 2**-8, "atol": 1e-9}
  for name in BASE:
    np.testing.assert_allclose(
      merged[name],
      TUNED[1 if name in ("model.norm.weight", "lm_head.weight") else 0][name],
      **near,
    )
  for name in (n for n in merged if "layers.2" in n):
    expected = TUNED[1][name.replace("layers.2", "layers.1")]
    expected = 0 * expected if "o_proj" in name else expected
    np.testing.assert_allclose(merged[name], expected, **near)
  found = json.loads((tmp_path / "out/config.json").read_text())
  assert found["num_hidden_layers"] == 3 and found["dtype"] == "bfloat16"
  assert checkpoints.open(tmp_path / "out").dtype("lm_head.weight") == (
    llamas.BF16
  )


def test_a_module_may_hold_the_models(folder, tmp_path):
  models = sources(folder, 2)
  models[0]["parameters"] = {"weight": 1}
  inner = {"models": models, "parameters": {"weight": 3}}
  config = {"merge_method": "linear", "modules": {"default": inner}}
  merged = merge(folder, tmp_path, config | {"parameters": {"weight": 7}})
  name = "lm_head.weight"
  expected = 0.25 * TUNED[0][name] + 0.75 * TUNED[1][name]
  np.testing.assert_allclose(merged[name], expected, atol=1e-6)


def test_recipes_of_the_library_keep_the_papers_conventions(folder, tmp_path):
  """One threshold for the whole model, which mergekit does not have."""
  config = {
    "recipe": "ties",
    "base_model": "base",
    "models": sources(folder, 2),
    "parameters": {"density": 0.3},
  }
  merged = merge(folder, tmp_path, config)
  import weightspace as ws

  expected = ws.merge.run(ws.merge.ties(0.3), TUNED[:2], BASE)
  for name in BASE:
    np.testing.assert_allclose(merged[name], expected[name], atol=1e-6)


def test_an_output_has_its_config_tokenizer_and_card(folder, tmp_path, capsys):
  config = {"merge_method": "linear", "models": sources(folder, 2)}
  config["parameters"] = {"weight": 1, "gamma": 0.1}
  merge(folder, tmp_path, config, "--report")
  out = tmp_path / "out"
  card = (out / "README.md").read_text()
  assert "merge_method: linear" in card and "weightspace-merge" in card
  assert len(re.findall(r"\| `[0-9a-f]{64}` \|", card)) == 2
  for name in ("tokenizer.json", "tokenizer_config.json"):
    assert (out / name).read_bytes() == (folder / "a" / name).read_bytes()
  found = json.loads((out / "merge_report.json").read_text())["2"]
  assert found["total"]["kept"] == 1.0 and len(found["leaves"]) == len(BASE)
  assert "lm_head.weight" in (out / "merge_report.txt").read_text()
  said = capsys.readouterr()
  assert "linear has no 'gamma', as in mergekit" in said.err
  assert f"wrote {out}" in said.out
  with pytest.raises(AssertionError):
    merge(folder, tmp_path, config)
  assert "exists, expected a new path" in capsys.readouterr().err


def test_a_dry_run_prints_the_plan_and_writes_nothing(folder, tmp_path, capsys):
  config = {
    "merge_method": "ties",
    "base_model": "base",
    "models": sources(folder, 3, weight=[1, 1, 1]),
    "parameters": {"density": 0.5},
  }
  file = tmp_path / "config.yml"
  file.write_text(yaml.safe_dump(config | {"base_model": str(folder / "base")}))
  out = str(tmp_path / "out")
  assert command.main([str(file), out, "--dry-run"]) == 0
  said = capsys.readouterr().out
  size = sum(x.nbytes for x in BASE.values())
  assert f"leaves:      {len(BASE)}, by 1 recipes" in said
  assert f"read:        {4 * size / 1000:.3g} kB in 1 pass\n" in said
  assert "minus_base > weights > trim > disjoint > scale > plus_base" in said
  assert [path.name for path in tmp_path.iterdir()] == ["config.yml"]


def test_masks_are_those_of_the_seed(folder, tmp_path):
  config = {
    "merge_method": "dare_linear",
    "base_model": "base",
    "models": sources(folder, 2, weight=[1, 1], density=[0.5, 0.7]),
  }
  found = [
    merge(folder, tmp_path / name, config, "--seed", seed)
    for name, seed in (("x", "0"), ("y", "0"), ("z", "1"))
    if not (tmp_path / name).mkdir()
  ]
  name = "model.embed_tokens.weight"
  np.testing.assert_array_equal(found[0][name], found[1][name])
  assert (found[0][name] != found[2][name]).any()


@pytest.mark.parametrize(
  "change, match",
  [
    ({"models": [{"model": "/nowhere"}]}, "'/nowhere' is no path and not in"),
    ({"parameters": {"weight": 1, "normalise": 1}}, "'normalise' is unknown"),
    ({"merge_method": "task_arithmetic"}, "needs a base_model"),
    ({"chat_template": "exaone"}, "chat_template is 'exaone', expected auto"),
  ],
)
def test_what_is_wrong_is_one_line(folder, tmp_path, capsys, change, match):
  config = {"merge_method": "linear", "models": sources(folder, 2)}
  config |= {"parameters": {"weight": 1}} | change
  file = tmp_path / "config.yml"
  file.write_text(yaml.safe_dump(config))
  assert command.main([str(file), str(tmp_path / "out")]) == 1
  said = capsys.readouterr().err
  assert said.startswith("error: ") and match in said
  assert said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_file_that_is_no_yaml_is_named(tmp_path, capsys):
  file = tmp_path / "config.yml"
  file.write_text("models: [")
  assert command.main([str(file), str(tmp_path / "out")]) == 1
  assert f"'{file}' is no YAML" in capsys.readouterr().err
  assert command.main(["missing.yml", "out"]) == 1
  assert "missing.yml" in capsys.readouterr().err


def test_models_of_other_leaves_are_refused(folder, tmp_path, capsys):
  deeper = llamas.leaves(5, layers=3)
  llamas.write(tmp_path / "deep", deeper)
  models = [*sources(folder, 1), {"model": str(tmp_path / "deep")}]
  config = {"merge_method": "linear", "models": models}
  file = tmp_path / "config.yml"
  file.write_text(yaml.safe_dump(config | {"parameters": {"weight": 1}}))
  assert command.main([str(file), str(tmp_path / "out")]) == 1
  assert "'model.layers.2.input_layernorm.weight'" in capsys.readouterr().err


ELECTING = {"ties", "dare_ties", "breadcrumbs_ties", "della"}
FAMILY = [
  name for name, method in methods.METHODS.items() if "lambda" in method.whole
]


@pytest.mark.parametrize("name", FAMILY)
def test_defaults_trim_nothing(name):
  """mergekit's density is 1 until it is set, whatever the method."""
  method, weights = methods.METHODS[name], (0.5, -0.3, 0.7)
  each = {key: (value,) * 3 for key, value in method.each.items()}
  recipe = methods.recipe(name, each | {"weight": weights}, method.whole, True)
  rng = np.random.default_rng(0)
  x, start = rng.standard_normal((3, 5, 4)), rng.standard_normal((5, 4))
  x, start = x.astype(np.float32), start.astype(np.float32)
  merged = recipe({"w": x}, base={"w": start})["w"]
  deltas = list(x - start)
  expected = sum(w * d for w, d in zip(weights, deltas))
  if name in ELECTING:
    expected = elected(deltas, weights, method.whole["normalize"])
  np.testing.assert_allclose(merged, start + expected, atol=1e-5)


@pytest.mark.parametrize("name", ["dare_linear", "della_linear"])
def test_rescaling_keeps_the_l1_norm_of_each_task_vector(name):
  each = {"weight": (1.0, 0.0), "density": (0.5, 0.6)}
  each |= {"epsilon": (0.1, 0.1)} if "della" in name else {}
  whole = {"lambda": 1.0, "normalize": False, "rescale": True}
  recipe = families.task_vectors(name, each, whole)
  x = np.random.default_rng(0).standard_normal((2, 40, 8)).astype(np.float32)
  base = {"w": np.zeros((40, 8), np.float32)}
  merged = recipe({"w": x}, base=base, key=jax.random.key(0))["w"]
  assert abs(np.abs(merged).sum() / np.abs(x[0]).sum() - 1) < 1e-5
  assert 0.4 < np.mean(np.asarray(merged) != 0) < 0.6


def test_each_model_has_masks_of_its_own():
  """With densities of each, as with one for all."""
  x = np.ones((2, 400), np.float32)
  base, key = {"w": np.zeros(400, np.float32)}, jax.random.key(0)
  for densities in ((0.5, 0.5), (0.5, 0.5001)):
    each = {"weight": (1.0, 1.0), "density": densities}
    whole = {"lambda": 1.0, "normalize": False, "rescale": False}
    recipe = families.task_vectors("dare_linear", each, whole)
    merged = np.asarray(recipe({"w": x}, base=base, key=key)["w"])
    assert set(np.unique(merged)) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize(
  "text, count",
  [("4GB", 4 * 10**9), ("1.5 MiB", 3 * 2**19), ("5B", 5), ("1000", 1000)],
)
def test_sizes(text, count):
  assert command.size(text) == count


def test_a_size_of_another_form_is_a_usage_error(capsys):
  with pytest.raises(SystemExit, match="2"):
    command.main(["a", "b", "--max-memory", "much"])
  assert "'much', expected a size such as 4GB" in capsys.readouterr().err
