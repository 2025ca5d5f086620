"""Searches over the numbers of a merge, before the one merge that is written.

A section `search` of a configuration names parameters with their bounds, a
score and a budget.  All candidates are merged and scored in memory; what is
found takes its place among the parameters, and the merge goes on as if it had
been written there.  The state lies beside the output after each brood, so that
the same command goes on.

>>> begun = _named({"recipe": "ties"}, {"scale": 0.5})
>>> begun["parameters"]
{'scale': 0.5}
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import merge
from weightspace.cli import building, estimates
from weightspace.cli.config import keys, schema
from weightspace.cli.search import scores, section
from weightspace.merge.files.work_items import Part
from weightspace.search import searches, tuning

WEIGHT = "weight"  # of each model, in mergekit's methods that are linear in it
LINEAR = ("linear", "task_arithmetic")


class Outcome(NamedTuple):
  """The configuration to merge by, what was found, and the state's file."""

  config: dict[str, Any]
  said: str
  state: str


def settled(
  found: Mapping[str, Any], output: str, key: jax.Array, dry: bool = False
) -> Outcome:
  """Return the configuration with the numbers that score best.

  Args:
    found: the configuration, with a section `search`.
    output: where the merge will be written; the state lies beside it.
    key: of the merge's masks.
    dry: take the middle of all bounds instead of searching.

  Raises:
    ValueError: naming what is wrong with the section, a method or recipe whose
      numbers cannot be searched, leaves of several recipes; as the searches.
  """
  wanted = section.parse(found["search"])
  rest = {name: value for name, value in found.items() if name != "search"}
  weights = _check(rest, wanted)
  middle = {name: sum(ends) / 2 for name, ends in wanted.bounds.items()}
  begun = _mixed(rest, middle[WEIGHT]) if weights else _named(rest, middle)
  config = schema.parse(begun)
  job = building.build(config, tokenizer=False)
  if len(job.parts) != 1:
    raise ValueError(
      f"search: the leaves have {len(job.parts)} recipes, expected one (no"
      " filters or gradients)"
    )
  state = _state_path(found, job, wanted, output)
  if dry:
    said = f"search: {wanted.budget} mixes over {', '.join(wanted.bounds)}"
    return Outcome(begun, f"{said}; all models in memory", state)
  search: Any = _search_weights if weights else _search_recipe
  numbers, score, count = search(rest, wanted, job, key, state)
  made = _mixed(rest, numbers) if weights else _named(rest, numbers)
  said = f"search: {count} mixes, best score {score:.6g}: {numbers}"
  return Outcome(made, said, state)


def _check(rest: Mapping[str, Any], wanted: section.Search) -> bool:
  """Tell whether each model's weight is searched, or a recipe's numbers."""
  given = keys.table(rest.get("parameters") or {}, "parameters", None)
  for name in wanted.bounds:
    if name in given:
      raise ValueError(
        f"search: {name!r} stands under parameters too, expected it once"
      )
  if not rest.get("models"):
    raise ValueError("search: expected models, not slices or modules")
  if "recipe" in rest:
    return False
  if rest.get("merge_method") not in LINEAR or set(wanted.bounds) != {WEIGHT}:
    raise ValueError(
      f"search: {', '.join(wanted.bounds)} of merge_method"
      f" {rest.get('merge_method')!r} cannot be searched, expected {WEIGHT} of"
      f" {' or '.join(LINEAR)}, or recipe: NAME with its numbers"
    )
  allowed = {"normalize"} if rest["merge_method"] == "linear" else set()
  other = sorted(set(given) - allowed)
  if other:
    raise ValueError(
      f"search: parameter {other[0]!r} beside searched weights, expected"
      f" {' or '.join(allowed) or 'none'}"
    )
  return True


def _named(
  rest: Mapping[str, Any], values: Mapping[str, float]
) -> dict[str, Any]:
  """Return a configuration with numbers of its recipe."""
  return dict(rest) | {
    "parameters": dict(rest.get("parameters") or {}) | dict(values)
  }


def _mixed(rest: Mapping[str, Any], weights: Any) -> dict[str, Any]:
  """Return a configuration with weights: one number, or one by model."""
  config = schema.parse(dict(rest) | {"parameters": {WEIGHT: 1.0}})
  (one,) = config.modules["default"].slices
  for source in one.sources:
    if source.parameters:
      raise ValueError(
        f"search: {source.model!r} has parameters, expected none"
      )
  names = _names(config)
  each = weights if isinstance(weights, Mapping) else {}
  models = [
    {"model": name, "parameters": {WEIGHT: each.get(name, 1.0)}}
    for name in names
  ]
  whole = {"normalize": not each} if config.method == "linear" else {}
  return dict(rest) | {"models": models, "parameters": whole}


def _names(config: schema.Config) -> list[str]:
  """Return the models that have a weight."""
  (one,) = config.modules["default"].slices
  apart = config.base if config.method == "task_arithmetic" else None
  return [source.model for source in one.sources if source.model != apart]


def _search_weights(
  rest: Mapping[str, Any],
  wanted: section.Search,
  job: building.Job,
  key: jax.Array,
  state: str,
) -> tuple[dict[str, float], float, int]:
  """Search one coefficient for each model.

  With a base they multiply task vectors, and are free; without, they sum to
  one unless the configuration says `normalize: false`.
  """
  (part,) = job.parts
  based = [part.base] if part.base else []
  score, data = _score(wanted, job, part)
  given = rest.get("parameters") or {}
  found = searches.evolve(
    _stack([*based, *part.inputs]),
    score,
    data,
    jax.random.key(wanted.key),
    budget=wanted.budget,
    affine=bool(based) or given.get("normalize", True),
    box=wanted.bounds[WEIGHT],
    checkpoint=state,
  )
  names = _names(schema.parse(_mixed(rest, 1.0)))
  values = map(float, found.weights[len(based) :])
  return dict(zip(names, values)), found.score, found.evaluations


def _search_recipe(
  rest: Mapping[str, Any],
  wanted: section.Search,
  job: building.Job,
  key: jax.Array,
  state: str,
) -> tuple[dict[str, float], float, int]:
  """Search the numbers of a recipe of the library."""
  (part,) = job.parts
  score, data = _score(wanted, job, part)
  needs = part.recipe.needs
  given: dict[str, Any] = {"key": key} if "key" in needs else {}
  if part.base:
    given["base"] = {
      p: jnp.asarray(part.base.read(p)) for p in part.base.keys()
    }
  fixed = dict(rest.get("parameters") or {})
  factory: Any = merge.RECIPES[rest["recipe"]]

  def make(**numbers: Any) -> Any:
    return factory(**fixed, **numbers)

  try:
    found = tuning.tune(
      make,
      wanted.bounds,
      _stack(part.inputs),
      score,
      data,
      jax.random.key(wanted.key),
      given=given,
      budget=wanted.budget,
      checkpoint=state,
    )
  except jax.errors.JAXTypeError:  # it must know the number to build the merge
    raise ValueError(
      f"search: {', '.join(wanted.bounds)} of {rest['recipe']!r} cannot be"
      " searched, expected numbers that only enter its arithmetic"
    ) from None
  return found.hyper, found.score, found.evaluations


def _stack(inputs: Sequence[Any]) -> dict[str, jax.Array]:
  """Return all models in memory, leaves [M, ...]."""
  return {
    path: jnp.asarray(np.stack([reader.read(path) for reader in inputs]))
    for path in inputs[0].keys()
  }


def _score(
  wanted: section.Search, job: building.Job, part: Part
) -> tuple[Any, Any]:
  if wanted.text is None:
    return scores.imported(wanted.score), None
  donor = next(iter(job.models.values()))
  reader = part.inputs[0]
  return scores.language_model(
    reader, donor.settings, donor.folder, wanted.text, wanted.length
  )


def _state_path(
  found: Mapping[str, Any],
  job: building.Job,
  wanted: section.Search,
  output: str,
) -> str:
  """Return where the search's state lies: another search has another file."""
  said = [estimates.about(job, json.dumps(found, sort_keys=True, default=str))]
  if wanted.text and os.path.isfile(wanted.text):
    with open(wanted.text, "rb") as stream:
      said.append(hashlib.sha256(stream.read()).hexdigest())
  digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]
  folder, name = os.path.split(os.path.abspath(output))
  return os.path.join(folder, f".{name}.search-{digest}.safetensors")


def forget(outcome: Outcome) -> None:
  """Remove the state of a search whose merge is written."""
  with contextlib.suppress(FileNotFoundError):
    os.remove(outcome.state)
