"""Configuration files: what is read, which value holds, what is refused."""

import re

import pytest

from weightspace.cli.config import leaf_sources, schema, settings
from weightspace.cli.recipes import choosing

MODELS = [{"model": "a"}, {"model": "b"}]


def parse(**keys):
  return schema.parse({"merge_method": "linear", "models": MODELS} | keys)


def test_modules_hold_slices_and_slices_sources():
  found = schema.parse(
    {
      "merge_method": "passthrough",
      "slices": [
        {"sources": [{"model": "a", "layer_range": [0, 3]}]},
        {"sources": [{"model": "b", "layer_range": [2, 4]}], "parameters": {}},
      ],
      "dtype": "bfloat16",
    }
  )
  first, second = found.modules["default"].slices
  assert first.sources[0].layers == range(3) and found.dtype == "bfloat16"
  assert second.sources[0].model == "b" and len(second.sources[0].layers) == 2


def test_the_base_is_one_of_whole_models_once():
  found = parse(base_model="c")
  names = [s.model for s in found.modules["default"].slices[0].sources]
  assert names == ["a", "b", "c"]
  found = parse(base_model="a")
  assert len(found.modules["default"].slices[0].sources) == 2


def test_models_may_be_tables():
  table = {"model": {"path": "org/m", "revision": "r"}, "lora": {"path": "l"}}
  found = parse(models=[{"model": table}])
  source = found.modules["default"].slices[0].sources[0]
  assert source.model == "org/m@r+l"


def test_both_forms_of_the_tokenizer():
  assert parse(tokenizer_source="model:a").tokenizer.source == "a"
  tokens = {
    "<x>": {"source": "a", "force": True},
    "<y>": {"source": {"kind": "zero"}},
    "<z>": {"source": {"kind": "model_token", "model": "b", "token_id": 3}},
  }
  found = parse(tokenizer={"tokens": tokens, "pad_to_multiple_of": 8})
  found = found.tokenizer
  assert found.source == "union" and found.multiple == 8
  assert found.tokens["<x>"].force and found.tokens["<y>"].model is None
  assert found.tokens["<z>"].token == 3


@pytest.mark.parametrize(
  "keys, match",
  [
    ({"nonsense": 1}, "config: 'nonsense' is unknown, expected one of merge"),
    ({"slices": [{}]}, "expected one of models, slices, modules, got ['mode"),
    ({"models": None}, "expected one of models, slices, modules, got none"),
    ({"recipe": "ties"}, "expected the name of one merge_method"),
    ({"dtype": "int8"}, "dtype is 'int8', expected one of float16"),
    ({"models": [{"modle": "a"}]}, "config.models[0]: 'modle' is unknown"),
    ({"models": [{}]}, "config.models[0]: model is missing"),
    ({"models": [*MODELS, MODELS[0]]}, "models[2]: 'a' stands twice"),
    ({"models": "a"}, "config.models is 'a', expected a list"),
    ({"parameters": [1]}, "config.parameters is [1], expected a table"),
    (
      {"tokenizer": {"source": "union"}, "tokenizer_source": "base"},
      "tokenizer and tokenizer_source, expected one",
    ),
    (
      {"tokenizer": {"pad_to_multiple_of": 0.5}},
      "pad_to_multiple_of is 0.5, expected a whole number",
    ),
    (
      {"tokenizer": {"tokens": {"<x>": {"source": {"kind": "mean"}}}}},
      "tokenizer.tokens.<x>: expected kind zero, or model_token",
    ),
    ({"chat_template": 3}, "chat_template is 3, expected text"),
  ],
)
def test_what_cannot_be_honoured_is_refused_by_its_place(keys, match):
  with pytest.raises(ValueError, match=re.escape(match)):
    parse(**keys)


@pytest.mark.parametrize(
  "one, match",
  [
    ({"residual_weight": 0.5}, "residual weights of slices are not supported"),
    ({"sources": []}, "slices[0].sources is [], expected a list"),
    (
      {"sources": [{"model": "a", "layer_range": [3, 2]}]},
      "layer_range is [3, 2], expected [first, end]",
    ),
    (
      {
        "sources": [
          {"model": "a", "layer_range": [0, 2]},
          {"model": "b", "layer_range": [0, 3]},
        ]
      },
      "slices[0]: sources of [2, 3] layers, expected equal numbers",
    ),
  ],
)
def test_slices_are_checked(one, match):
  with pytest.raises(ValueError, match=re.escape(match)):
    schema.parse({"merge_method": "linear", "slices": [one]})


def test_the_first_filter_that_fits_decides():
  value = [
    {"filter": "self_attn", "value": 0.3},
    {"filter": "attn", "value": 9},
    {"filter": "*", "value": [0.0, 1.0]},
  ]
  assert settings.evaluate(value, "layers.0.self_attn.q", 0.0) == 0.3
  assert settings.evaluate(value, "layers.0.mlp.up", 0.25) == 0.25
  assert settings.evaluate(value[:2], "norm", 0.0) is None


@pytest.mark.parametrize(
  "place, expected", [(0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 0.6), (1, 0.2)]
)
def test_gradients_are_piecewise_linear(place, expected):
  assert settings.evaluate([0.0, 1.0, 0.2], "w", place) == pytest.approx(
    expected
  )


def test_gradients_of_other_values_are_steps():
  found = [settings.evaluate([True, False], "w", t) for t in (0, 0.9, 1)]
  assert found == [True, True, False]
  assert settings.evaluate(["1e-5", "1e-3"], "w", 1.0) == 1e-3


def test_a_source_comes_before_its_slice_and_that_before_the_file():
  scopes = [{}, {"t": [{"filter": "mlp", "value": 2}]}, {"t": 3}]
  assert settings.look_up("t", [{"t": 1}, *scopes], "mlp", 0.0) == 1
  assert settings.look_up("t", scopes, "mlp", 0.0) == 2
  assert settings.look_up("t", scopes, "norm", 0.0) == 3
  assert settings.look_up("u", scopes, "norm", 0.0) is None


@pytest.mark.parametrize(
  "value, match",
  [
    ([], "parameter 't' is an empty list"),
    ([1, {"value": 2}], "expected numbers or filters, not both"),
    ([{"filter": "a"}], "expected value and filter"),
    (object, "expected a number, text, true or false"),
  ],
)
def test_values_of_another_form_are_refused(value, match):
  with pytest.raises(ValueError, match=match):
    settings.look_up("t", [{"t": value}], "w", 0.0)


def choose(name="layers.1.w", place=0.5, **keys):
  config = parse(**keys)
  leaf = leaf_sources.Leaf(name, 0, place, {}, 1)
  return choosing.choose(config, config.modules["default"], leaf)


def test_equal_parameters_share_one_recipe():
  weights = {"parameters": {"weight": [0.5, 1.0]}}
  one, two, three = (choose(place=t, **weights) for t in (0.0, 0.0, 1.0))
  assert one.recipe is two.recipe and one.recipe is not three.recipe


@pytest.mark.parametrize(
  "keys, match",
  [
    ({}, "parameter 'weight' is missing for 'a' at 'layers.1.w'"),
    ({"parameters": {"weight": "much"}}, "'weight' is 'much', expected a num"),
    (
      {"parameters": {"weight": 1, "normalize": 1}},
      "'normalize' is 1, expected true or false",
    ),
    ({"merge_method": "arcee_fusion"}, "'arcee_fusion' is not supported"),
    ({"merge_method": "ties"}, "'ties' needs a base_model"),
    (
      {"merge_method": "slerp", "base_model": "c"},
      "'slerp' takes at least 2 and at most 2 models, got 3",
    ),
    (
      {
        "merge_method": "dare_ties",
        "base_model": "c",
        "parameters": {"weight": 1, "density": 0.5, "lambda": "x"},
      },
      "parameter 'lambda' is 'x', expected a number",
    ),
    (
      {
        "merge_method": "della",
        "base_model": "c",
        "parameters": {"weight": 1, "density": 0.1},
      },
      "'layers.1.w': window: density 0.1 with window 0.3 gives shares from",
    ),
  ],
)
def test_a_leaf_without_a_recipe_is_named(keys, match):
  with pytest.raises(ValueError, match=re.escape(match)):
    choose(**keys)


def test_unknown_parameters_are_refused_and_idle_ones_told():
  with pytest.raises(ValueError, match="parameter 'wieght' is unknown"):
    choosing.check_names(parse(parameters={"wieght": 1}))
  idle = choosing.check_names(parse(parameters={"density": 1}))
  assert idle == ["linear has no 'density', as in mergekit"]
  with pytest.raises(ValueError, match="'t' belongs to all of a slice"):
    models = [{"model": "a", "parameters": {"t": 1}}, {"model": "b"}]
    choosing.check_names(parse(merge_method="slerp", models=models))


def names(layers, stack="layers."):
  inner = [f"{stack}{n}.{w}" for n in range(layers) for w in ("q", "mlp.up")]
  return ["embed_tokens.weight", *inner, "norm.weight", "lm_head.weight"]


def test_leaves_before_the_layers_come_from_the_first_slice():
  slices = [
    schema.Slice((schema.Source("a", range(0, 2)),)),
    schema.Slice((schema.Source("b", range(1, 4)),)),
  ]
  found = leaf_sources.leaves(slices, {"a": names(4), "b": names(4)})
  by_name = {leaf.name: leaf for leaf in found}
  assert len(by_name) == len(found) == 13
  assert by_name["embed_tokens.weight"].inputs == {"a": "embed_tokens.weight"}
  assert by_name["norm.weight"].inputs == {"b": "norm.weight"}
  assert by_name["layers.2.q"].inputs == {"b": "layers.1.q"}
  assert by_name["layers.3.q"].place == 0.5 and by_name["layers.4.q"].layer == 4
  assert by_name["lm_head.weight"].place == 0.0


def test_layers_that_a_model_lacks_are_named():
  slices = [schema.Slice((schema.Source("a", range(2, 5)),))]
  with pytest.raises(ValueError, match=r"\[2, 5\] of 'a': it has 4 layers"):
    leaf_sources.leaves(slices, {"a": names(4)})
  two = names(2, "encoder.") + names(2, "decoder.")[1:]
  with pytest.raises(ValueError, match="'a' has 2 stacks of layers"):
    leaf_sources.leaves(slices, {"a": two})
  whole = [schema.Slice((schema.Source("a", None), schema.Source("b", None)))]
  with pytest.raises(ValueError, match=r"'b': 'layers\.2\.q' is not in 'a'"):
    leaf_sources.leaves(whole, {"a": names(2), "b": names(3)})
