"""The models of a configuration: opened, adapted, of one vocabulary.

>>> import tempfile
>>> import numpy as np
>>> from weightspace.checkpoints import folders as checkpoints
>>> path = f"{tempfile.mkdtemp()}/a.safetensors"
>>> checkpoints.save(path, {"w": np.ones(2)})
>>> open_model(path).reader.keys()
['w']
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from weightspace.checkpoints import quantised, readers
from weightspace.cli.config import leaf_sources, schema, tokens
from weightspace.cli.inputs import (
  adapters,
  disagreements,
  references,
  shared_leaves,
  tied,
  views,
)
from weightspace.cli.vocabularies import tokenizers, vocabulary

Files = tokenizers.Files


class Model(NamedTuple):
  """One input: its leaves, and the folder with whatever lies beside them."""

  reader: readers.Reader
  folder: str
  settings: Mapping[str, Any]  # config.json
  adapter: str | None = None  # the folder of a LoRA
  forms: Mapping[str, quantised.Form] = {}  # of leaves that are kept as codes
  activations: tuple[str, ...] = ()  # scales that are no weights'


class Shared(NamedTuple):
  """The vocabulary that all models were brought to."""

  tokens: Mapping[str, int]
  rows: int  # with padding
  files: Files  # of the tokenizer
  notes: list[str]


def open_model(reference: str) -> Model:
  """Open a model, with its adapter merged where it has one.

  Raises:
    ValueError: naming what is missing or cannot be read.
  """
  name, lora = references.split(reference)
  folder = references.folder(name)
  adapters.refuse_alone(folder, reference)
  settings = references.table(folder, "config.json")
  stored = readers.open(folder)
  reader, forms = quantised.as_weights(stored, settings)
  activations = tuple(filter(quantised.ACTIVATIONS.search, stored.keys()))
  adapter = None if lora is None else references.folder(lora)
  if adapter is not None:
    reader, split = tied.apart(reader, settings, adapters.saved(adapter))
    settings = tied.untied(settings) if split else settings
    reader = adapters.merged(reader, adapter)
  kept = {
    key: key for key in reader.keys() if not leaf_sources.UNUSED.search(key)
  }
  return Model(
    views.view(reader, kept), folder, settings, adapter, forms, activations
  )


class Agreement(NamedTuple):
  """What was found on the way to the same leaves in all models."""

  found: Mapping[str, Model]  # with leaves that only some have
  alone: Mapping[str, str]  # leaves that are copied, and from which model
  copies: Mapping[str, list[str]]  # further names that a leaf is written under
  notes: list[str]


def agree(
  models: Mapping[str, Model], config: schema.Config
) -> tuple[dict[str, Model], Agreement]:
  """Return the models with the same leaves, and what is to be said of them.

  Args:
    models: by reference, the base or the first model first.
    config: whose `missing`, `map` and `allow` count.

  Raises:
    ValueError: naming the models and what they differ in.
  """
  whole = all(
    source.layers is None
    for module in config.modules.values()
    for one in module.slices
    for source in one.sources
  )
  tables = {name: model.settings for name, model in models.items()}
  notes = disagreements.check(tables, config.allow is not None)
  agreed = shared_leaves.agree(
    {n: shared_leaves.Input(m.reader, m.settings) for n, m in models.items()},
    maps=config.maps,
    missing=config.missing,
    base=config.base,
    whole=whole,
  )
  made = {n: m._replace(reader=agreed.readers[n]) for n, m in models.items()}
  if agreed.untied:
    donor = next(iter(made))
    settings = tied.untied(made[donor].settings)
    made[donor] = made[donor]._replace(settings=settings)
  reference = config.base or next(iter(made))
  notes += agreed.notes
  if whole:
    notes += disagreements.unrelated(agreed.readers, reference)
  found = {n: m._replace(reader=agreed.named[n]) for n, m in models.items()}
  return made, Agreement(found, agreed.alone, agreed.copies, notes)


def align(
  models: Mapping[str, Model], asked: tokens.Tokenizer, base: str | None
) -> tuple[dict[str, Model], Shared]:
  """Return the models with the rows of the vocabulary that is asked for.

  Args:
    models: by reference, the base or the first model first.
    asked: the vocabulary.
    base: the base model, where there is one.

  Raises:
    ValueError: naming a model without a tokenizer that lists its tokens, or a
      token that is not where it is to be taken from.
  """
  listed = {n: tokenizers.vocabulary(m.folder) for n, m in models.items()}
  sizes = {name: vocabulary_size(m, name) for name, m in models.items()}
  known = {n: _with_rows(found, sizes[n]) for n, found in listed.items()}
  shared = _shared(models, listed, sizes, asked, base)
  aligned = {}
  owners = {name: model.reader for name, model in models.items()}
  for name, model in models.items():
    table = vocabulary.rows(name, shared.tokens, known, base, asked.tokens)
    leaves = vocabulary.indexed(model.reader, sizes[name])
    padding = set(range(sizes[name])) - set(known[name].values())
    reader = vocabulary.aligned(
      model.reader, name, table, owners, leaves, shared.rows, padding
    )
    aligned[name] = model._replace(reader=reader)
  return aligned, shared


def _with_rows(listed: Mapping[str, int], size: int) -> dict[str, int]:
  """Return the tokens that have a row; published tokenizers list others too."""
  return {token: row for token, row in listed.items() if row < size}


def vocabulary_size(model: Model, name: str) -> int:
  """Return the rows of a model's vocabulary.

  Raises:
    ValueError: naming a model whose config.json does not say.
  """
  inner = model.settings.get("text_config") or {}
  found = model.settings.get("vocab_size", inner.get("vocab_size"))
  if not isinstance(found, int):
    raise ValueError(
      f"{name!r}: config.json has no vocab_size, expected one where"
      " vocabularies are to be aligned"
    )
  return found


def _shared(
  models: Mapping[str, Model],
  listed: Mapping[str, Mapping[str, int]],
  sizes: Mapping[str, int],
  asked: tokens.Tokenizer,
  base: str | None,
) -> Shared:
  """Return the output's vocabulary and the tokenizer that has it.

  Args:
    models: by name.
    listed: {token: row} of their tokenizers.
    sizes: the rows of their vocabularies.
    asked, base: as in `align`.
  """
  donor = next(iter(models))
  if asked.source == "base":
    if base is None:
      raise ValueError("tokenizer: source is base, but there is no base_model")
    donor = base
  elif asked.source != "union":
    if asked.source not in models:
      raise ValueError(
        f"tokenizer: source {asked.source!r} is not merged, expected union,"
        f" base, or one of {', '.join(models)}"
      )
    donor = asked.source
  entries: dict[str, Any] = {}
  special: list[str] = []
  for model in models.values():
    entries = tokenizers.entries(model.folder) | entries
    special += tokenizers.special(model.folder)
  known = {n: _with_rows(table, sizes[n]) for n, table in listed.items()}
  found, taken = dict(known[donor]), listed[donor]
  if asked.source == "union":
    found = vocabulary.union({donor: found, **known}, special, taken)
  for token in asked.tokens:
    if token not in found:
      free = max([*found.values(), *taken.values()], default=-1) + 1
      found[token] = taken.get(token, free)
  files = references.files(models[donor].folder, tokenizers.NAMES)
  new = {token: row for token, row in found.items() if token not in taken}
  notes = []
  for name, table in listed.items():
    bare = [token for token in table if token not in known[name]]
    if bare:
      notes.append(
        f"{name!r}: {len(bare)} tokens of its tokenizer have no row, such as"
        f" {bare[0]!r}"
      )
  rows = -(-(max(found.values()) + 1) // asked.multiple) * asked.multiple
  if asked.multiple == 1:  # the donor's padding is kept
    rows = max(rows, sizes[donor])
  files = tokenizers.with_tokens(files, new, entries)
  return Shared(found, rows, files, notes)


def promised(models: Sequence[Model]) -> None:
  """Refuse models whose vocabularies differ and are not to be aligned.

  Raises:
    ValueError: naming the first leaf and its shapes.
  """
  first = models[0]
  for model in models[1:]:
    for name, (shape, _) in first.reader.kinds.items():
      other = model.reader.kinds.get(name)
      if other is None or other[0] == shape or not shape:
        continue
      if other[0][1:] == shape[1:] and vocabulary.VOCABULARY.search(name):
        raise ValueError(
          f"{model.reader.path!r}: {name!r} is {other[0]}, expected {shape} as"
          f" in {first.reader.path!r}; tokenizer: {{source: union}} aligns"
          " vocabularies"
        )
