"""The same configuration files give the same models as mergekit itself."""

import json

import numpy as np
import pytest
import yaml

from tests import llamas, peers
from weightspace.cli import command
from weightspace.cli.vocabularies import tokenizers

pytestmark = pytest.mark.engines

NAMES = ("a", "b", "c")
EVERY = """
import json, sys, yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
for file, out in json.loads(sys.argv[1]):
  config = MergeConfiguration.model_validate(yaml.safe_load(open(file)))
  run_merge(config, out, MergeOptions(
    quiet=True, random_seed=0, write_model_card=False))
"""


def models(*weights, **each):
  found = []
  for m, (name, weight) in enumerate(zip(NAMES, weights)):
    parameters = {} if weight is None else {"weight": weight}
    parameters |= {key: values[m] for key, values in each.items()}
    found.append({"model": name, "parameters": parameters})
  return found


def sliced(name, first, end, **parameters):
  source = {"model": name, "layer_range": [first, end]}
  return source | ({"parameters": parameters} if parameters else {})


THREE, UNWEIGHTED = models(0.5, 0.3, 0.7), models(None, None, None)
T = [
  {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
  {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
  {"value": 0.5},
]
# name: (method, base or None, models or slices, parameters, further keys)
CASES = {
  "linear": ("linear", None, THREE, {}),
  "linear_base": ("linear", "base", UNWEIGHTED, {"weight": 1}),
  "linear_signed": ("linear", None, models(1.5, -0.5), {"normalize": False}),
  "slerp": ("slerp", "a", models(None, None), {"t": T}),
  "nuslerp": ("nuslerp", None, models(0.5, 0.3), {}),
  "nuslerp_base": ("nuslerp", "base", models(0.5, 0.3), {}),
  "nuslerp_rows": (
    "nuslerp",
    "base",
    models(0.5, 0.3),
    {"nuslerp_flatten": False},
  ),
  "nuslerp_columns": (
    "nuslerp",
    "base",
    models(0.5, 0.3),
    {"nuslerp_flatten": False, "nuslerp_row_wise": True},
  ),
  "multislerp": ("multislerp", None, THREE, {}),
  "multislerp_base": (
    "multislerp",
    "base",
    THREE,
    {"normalize_weights": False},
  ),
  "karcher": ("karcher", None, UNWEIGHTED, {}),
  "task_arithmetic": (
    "task_arithmetic",
    "base",
    models(0.5, -0.3, 0.2),
    {"lambda": 1.5, "normalize": True},
  ),
  "ties": ("ties", "base", models(1, 1, 1), {"density": 0.2}),
  "ties_each": (
    "ties",
    "base",
    models(0.5, 0.3, 0.7, density=[0.2, 0.5, 1.0]),
    {"lambda": 0.7},
  ),
  "ties_sum": ("ties", "base", THREE, {"density": 0.3, "normalize": False}),
  "ties_rescaled": ("ties", "base", THREE, {"density": 0.3, "rescale": True}),
  "ties_none": ("ties", "base", models(1, 1, density=[0.0, 0.4]), {}),
  "breadcrumbs": (
    "breadcrumbs",
    "base",
    THREE,
    {"density": 0.6, "gamma": 0.05},
  ),
  "breadcrumbs_ties": (
    "breadcrumbs_ties",
    "base",
    models(0.5, 0.3, 0.7, gamma=[0.01, 0.1, 0.6]),
    {"density": 0.6},
  ),
  "dare_dense": ("dare_ties", "base", THREE, {}),
  "dare_linear_dense": ("dare_linear", "base", THREE, {"normalize": True}),
  "della_dense": ("della", "base", THREE, {}),
  "sce": ("sce", "base", UNWEIGHTED, {"select_topk": 0.4}),
  "model_stock": ("model_stock", "base", UNWEIGHTED, {}),
  "model_stock_rows": (
    "model_stock",
    "base",
    UNWEIGHTED,
    {"filter_wise": True},
  ),
  "nearswap": ("nearswap", "base", models(None), {"t": 0.01}),
  "ram": ("ram", "base", UNWEIGHTED, {"epsilon": 0.005}),
  "ramplus": (
    "ramplus_tl",
    "base",
    UNWEIGHTED,
    {"epsilon": 0.02, "r": 0.3, "alpha": 0.1},
  ),
  "stacked": (
    "passthrough",
    None,
    [
      {"sources": [sliced("a", 0, 3)]},
      {"sources": [sliced("b", 1, 4, scale=[{"filter": "up", "value": 2}])]},
    ],
    {},
  ),
  "slices": (
    "slerp",
    "a",
    [
      {
        "sources": [sliced("a", 0, 2), sliced("b", 0, 2)],
        "parameters": {"t": [0.1, 0.3]},
      },
      {"sources": [sliced("a", 2, 4), sliced("c", 2, 4)]},
    ],
    {"t": T},
  ),
}
DROPPED = {
  "dare_linear": {"density": 0.5},
  "dare_ties": {"density": 0.5},
  "della": {"density": 0.5, "epsilon": 0.2},
  "della_linear": {"density": 0.5, "epsilon": 0.2},
}
TOKENS = [f"w{i}" for i in range(llamas.VOCAB)]
ALIEN = [*TOKENS[:2], "x0", "x1", *TOKENS[5:8], "x2"]


def placed(folder, value):
  """Return a configuration with the folders of its models."""
  if isinstance(value, dict):
    return {
      key: str(folder / x)
      if key in ("model", "base_model")
      else placed(folder, x)
      for key, x in value.items()
    }
  return (
    [placed(folder, x) for x in value] if isinstance(value, list) else value
  )


def configs():
  """Every configuration, by name."""
  found = {}
  for name, (method, base, inputs, parameters) in CASES.items():
    kind = "slices" if "sources" in inputs[0] else "models"
    found[name] = {"merge_method": method, kind: inputs}
    found[name] |= {"base_model": base} if base else {}
    found[name] |= {"parameters": parameters, "dtype": "float32"}
  found["bfloat16"] = found["linear"] | {"dtype": "bfloat16"}
  ta = found["task_arithmetic"] | {"parameters": {"lambda": 0.7}}
  found["out_dtype"] = ta | {"out_dtype": "float16"}
  for method, parameters in DROPPED.items():
    inputs = models(1.0, 0.5, **{k: [v] * 2 for k, v in parameters.items()})
    found[f"random_{method}"] = {"merge_method": method, "base_model": "base"}
    found[f"random_{method}"] |= {"models": inputs, "dtype": "float32"}
  union = [{"model": n, "parameters": {"weight": 1}} for n in ("base", "alien")]
  tokenizer = {"source": "union", "pad_to_multiple_of": 8}
  found["union"] = {"merge_method": "linear", "models": union}
  found["union"] |= {"tokenizer": tokenizer, "dtype": "float32"}
  return found


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
  """Merge everything by mergekit in one process; return the folder."""
  peers.need("mergekit", "torch")
  folder = tmp_path_factory.mktemp("engines")
  base = llamas.leaves(0, layers=4)
  llamas.write(folder / "base", base, tokens=TOKENS)
  for seed, name in enumerate(NAMES, 1):
    found = llamas.leaves(seed, layers=4, near=base)
    llamas.write(folder / name, found, tokens=TOKENS)
  alien = llamas.leaves(9, layers=4, vocab=len(ALIEN))
  llamas.write(folder / "alien", alien, tokens=ALIEN)
  pairs = []
  for name, config in configs().items():
    file = folder / f"{name}.yml"
    file.write_text(yaml.safe_dump(placed(folder, config)))
    pairs.append([str(file), str(folder / f"theirs-{name}")])
  peers.run(EVERY, json.dumps(pairs))
  return folder


def both(merged, name):
  """Return our leaves and mergekit's."""
  ours = merged / f"ours-{name}"
  if not ours.exists():
    words = [str(merged / f"{name}.yml"), str(ours), "--quiet"]
    assert command.main(words) == 0
  return llamas.read(ours), llamas.read(merged / f"theirs-{name}")


@pytest.mark.parametrize("name", CASES)
def test_a_method_gives_the_same_model(merged, name):
  ours, theirs = both(merged, name)
  assert set(ours) == set(theirs)
  atol = 1e-5 if name == "karcher" else 2e-6  # where its steps end
  for leaf, expected in theirs.items():
    np.testing.assert_allclose(ours[leaf], expected, atol=atol, err_msg=leaf)
  settings = [
    json.loads((merged / f"{who}-{name}/config.json").read_text())
    for who in ("ours", "theirs")
  ]
  for key in ("num_hidden_layers", "vocab_size", "hidden_size", "dtype"):
    assert settings[0][key] == settings[1][key]


@pytest.mark.parametrize("name, bits", [("bfloat16", 8), ("out_dtype", 11)])
def test_narrow_types_agree_to_one_ulp(merged, name, bits):
  ours, theirs = both(merged, name)
  for leaf, expected in theirs.items():
    ulp = 2.0 ** (np.floor(np.log2(np.abs(expected) + 1e-9)) - bits + 1)
    assert (np.abs(ours[leaf] - expected) <= ulp * 1.01).all(), leaf


@pytest.mark.parametrize("method", DROPPED)
def test_random_drops_agree_in_distribution(merged, method):
  """Means of |x|, of x^2, and the share that moved, within five errors."""
  found = both(merged, f"random_{method}")
  base = llamas.read(merged / "base")
  matrices = [name for name in base if base[name].ndim == 2]
  moments = []
  for leaves in found:
    flat = [(leaves[name] - base[name]).ravel() for name in matrices]
    x = np.concatenate(flat)
    x = np.stack([np.abs(x), x**2, np.abs(x) > 1e-6])
    moments.append((x.mean(1), x.std(1) / np.sqrt(x.shape[1])))
  (ours, our_error), (theirs, their_error) = moments
  assert (np.abs(ours - theirs) < 5 * np.hypot(our_error, their_error)).all()
  assert 0.4 < ours[2] < 0.9


def test_a_union_has_the_same_row_for_each_token(merged):
  """mergekit numbers the new tokens in the order of a set."""
  ours, theirs = both(merged, "union")
  rows = [
    tokenizers.vocabulary(str(merged / f"{who}-union"))
    for who in ("ours", "theirs")
  ]
  assert set(rows[0]) == set(rows[1])
  for leaf in ("model.embed_tokens.weight", "lm_head.weight"):
    assert ours[leaf].shape == theirs[leaf].shape == (16, llamas.WIDTH)
    for token, row in rows[0].items():
      np.testing.assert_allclose(
        ours[leaf][row], theirs[leaf][rows[1][token]], atol=2e-6
      )
    np.testing.assert_allclose(ours[leaf][-1], theirs[leaf][-1], atol=2e-6)
