"""Models with different vocabularies, brought to the rows of one.

Each row of the output's vocabulary is a row of the model itself; where it lacks
the token, what the configuration says of it, or the base's row, the single
owner's, or the mean of all owners.  Rows that pad the vocabulary are the mean.

>>> vocabularies = {"a": {"x": 0, "y": 1}, "b": {"y": 0, "z": 1}}
>>> union(vocabularies)
{'x': 0, 'y': 1, 'z': 2}
>>> rows("a", union(vocabularies), vocabularies, None, {})
[(('a', 0),), (('a', 1),), (('b', 1),)]
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from weightspace.checkpoints import readers
from weightspace.cli.config import tokens

Vocabulary = Mapping[str, int]
Row = tuple[tuple[str, int], ...]  # (model, row) whose mean it is; () for zeros
VOCABULARY = re.compile(
  r"embed|wte|head|output|shared|predictions|decoder\.bias"
)
OTHER = re.compile(r"position|token_type|wpe|norm|transform|vision|patch")


def union(
  vocabularies: Mapping[str, Vocabulary],
  special: Sequence[str] = (),
  taken: Vocabulary | None = None,
) -> dict[str, int]:
  """Return the tokens of all models: the first's, then those that it lacks.

  Args:
    vocabularies: {token: row} of each model, the base or first model first.
    special: tokens to put behind all others that are new.
    taken: what the first's tokenizer lists, tokens without a row too: their
      numbers are given to no other token.
  """
  first, *others = vocabularies.values()
  found = dict(first)
  new: dict[str, None] = {}
  for vocabulary in others:
    for token in sorted(vocabulary, key=lambda t: vocabulary[t]):
      if token not in found:
        new[token] = None
  listed = dict(taken or {})
  for token in sorted(new, key=lambda t: t in special):
    free = max([*found.values(), *listed.values()], default=-1) + 1
    found[token] = listed.get(token, free)
  return found


def rows(
  model: str,
  output: Vocabulary,
  vocabularies: Mapping[str, Vocabulary],
  base: str | None,
  given: Mapping[str, tokens.Token],
) -> list[Row]:
  """Return where each row of one model's vocabulary comes from.

  Args:
    model: one of the models.
    output: {token: row} of the output.
    vocabularies: {token: row} of each model.
    base: the base model, where there is one.
    given: what the configuration says of tokens.

  Raises:
    ValueError: naming a token and the model that it is to be taken from but is
      not in.
  """
  found: list[Row] = [()] * (max(output.values()) + 1)
  for token, row in output.items():
    own = vocabularies[model].get(token)
    rule = given.get(token)
    if rule is not None and (rule.force or own is None):
      found[row] = _given(token, rule, vocabularies)
    elif own is not None:
      found[row] = ((model, own),)
    elif base is not None and token in vocabularies[base]:
      found[row] = ((base, vocabularies[base][token]),)
    else:
      found[row] = tuple(
        (name, vocabulary[token])
        for name, vocabulary in vocabularies.items()
        if token in vocabulary
      )
  return found


def _given(
  token: str, rule: tokens.Token, vocabularies: Mapping[str, Vocabulary]
) -> Row:
  if rule.model is None:
    return ()
  if rule.model not in vocabularies:
    raise ValueError(
      f"tokenizer.tokens.{token}: {rule.model!r} is not merged, expected one of"
      f" {', '.join(vocabularies)}"
    )
  if isinstance(rule.token, int):
    return ((rule.model, rule.token),)
  wanted = token if rule.token is None else rule.token
  if wanted not in vocabularies[rule.model]:
    raise ValueError(
      f"tokenizer.tokens.{token}: {rule.model!r} has no token {wanted!r}"
    )
  return ((rule.model, vocabularies[rule.model][wanted]),)


def indexed(reader: readers.Reader, size: int) -> list[str]:
  """Return the leaves whose first axis is the vocabulary.

  Args:
    reader: a model.
    size: the rows of its vocabulary, as its config.json says.
  """
  return [
    name
    for name, (shape, _) in reader.kinds.items()
    if shape[:1] == (size,)
    and VOCABULARY.search(name)
    and not OTHER.search(name)
  ]


def aligned(
  reader: readers.Reader,
  model: str,
  table: Sequence[Row],
  owners: Mapping[str, readers.Reader],
  names: Sequence[str],
  total: int,
  padding: Collection[int] = (),
) -> readers.Reader:
  """Return a view of a model with the rows of another vocabulary.

  Args:
    reader: the model.
    model: its name in `table`.
    table: of `rows`.
    owners: the readers of all models.
    names: the leaves whose first axis is the vocabulary.
    total: the rows of the vocabulary, with padding.
    padding: rows of the model that are no token's; where the output has padding
      in the same place, they are kept.

  Raises:
    ValueError: naming a row that a model does not have.
  """
  kinds = dict(reader.kinds)
  for name in names:
    kinds[name] = ((total, *reader.shape(name)[1:]), reader.dtype(name))
  _check_rows(table, owners, names)

  def load(name: str, index: Any) -> np.ndarray:
    if name not in names:
      return reader.read(name, index)
    whole = _gather(reader.read(name), model, table, owners, name, total)
    own = [row for row in padding if len(table) <= row < total]
    if own:
      whole[own] = reader.read(name)[own]
    return whole if index is None else whole[index]

  return readers.Reader(reader.path, kinds, load)


def _check_rows(
  table: Sequence[Row],
  owners: Mapping[str, readers.Reader],
  names: Sequence[str],
) -> None:
  for name in names:
    for model, row in (pair for entry in table for pair in entry):
      count = owners[model].shape(name)[0]
      if row >= count:
        raise ValueError(
          f"{model!r}: token {row} of its tokenizer, but {name!r} has {count}"
          " rows"
        )


def _gather(
  own: np.ndarray,
  model: str,
  table: Sequence[Row],
  owners: Mapping[str, readers.Reader],
  name: str,
  total: int,
) -> np.ndarray:
  """Return the rows of a leaf in the order of the table, and the padding."""
  made = np.zeros((total, *own.shape[1:]), own.dtype)
  there = [
    (row, entry[0][1])
    for row, entry in enumerate(table)
    if len(entry) == 1 and entry[0][0] == model
  ]
  made[[row for row, _ in there]] = own[[at for _, at in there]]
  foreign: dict[str, np.ndarray] = {model: own}
  for row, entry in enumerate(table):
    if not entry or (len(entry) == 1 and entry[0][0] == model):
      continue
    for owner, _ in entry:
      if owner not in foreign:
        foreign[owner] = owners[owner].read(name)
    found = [foreign[owner][at].astype(np.float32) for owner, at in entry]
    made[row] = np.mean(found, axis=0).astype(own.dtype)
  if total > len(table):
    mean = made[: len(table)].astype(np.float32).mean(axis=0)
    made[len(table) :] = mean.astype(own.dtype)
  return made
