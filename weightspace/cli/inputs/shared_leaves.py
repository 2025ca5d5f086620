"""The leaves that models share: in one model's words, tied ones as one.

Models of one architecture differ in what their savers wrote: prefixes of names,
tied weights once or twice, buffers that the code makes anew, a head that one of
them has.  Views give each model the same leaves; what only some have follows
the rule `missing`.

>>> derived("encoder.position_ids", (1, 8)), derived("lm_head.weight", (8, 4))
(True, False)
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from weightspace.checkpoints import readers
from weightspace.checkpoints.tensor_files import Kind
from weightspace.cli.inputs import naming, tied, views

RULES = ("refuse", "base", "first", "skip")
DERIVED = re.compile(  # buffers that the model's code makes itself
  r"(position_ids|token_type_ids|rotary_emb\.inv_freq|masked_bias"
  r"|num_batches_tracked|relative_position_index|attn_mask|causal_mask)$"
)
MASK = re.compile(r"(attn|attention)\.bias$")  # GPT-2's triangle, [1, 1, n, n]


class Input(NamedTuple):
  """What is asked of one model: its leaves and its config.json."""

  reader: readers.Reader
  settings: Mapping[str, Any]


class Agreed(NamedTuple):
  """Models with the same leaves."""

  readers: dict[str, readers.Reader]
  named: dict[str, readers.Reader]  # with the leaves that only some have
  alone: dict[str, str]  # leaves that are copied, and the model they come from
  copies: dict[str, list[str]]  # further names that a leaf is written under
  untied: (
    bool  # whether the output's head is a leaf of its own, unlike a model's
  )
  notes: list[str]


def agree(
  models: Mapping[str, Input],
  *,
  maps: Mapping[str, Mapping[str, str]],
  missing: str = "refuse",
  base: str | None = None,
  whole: bool = True,
) -> Agreed:
  """Return views of models with the same leaves, in the first one's words.

  Args:
    models: by name, the one whose config.json the output has first.
    maps: {model: {how its names begin: what is there instead}}.
    missing: what to do with a leaf that a model lacks: refuse the merge; take
      the base's; copy it from the first model that has it; skip it.
    base: the model that `missing: base` means.
    whole: whether models are merged whole; otherwise leaves may be missing.

  Raises:
    ValueError: naming a model, the leaf that it lacks and the remedies.
  """
  found, notes = _in_one_tongue(models, maps)
  found, copies, untied, more = _with_twins(models, found)
  notes += more
  alone: dict[str, str] = {}
  same = found
  if whole:
    same, alone, more = _filled(found, missing, base)
    notes += more
  return Agreed(same, found, alone, copies, untied, notes)


def _in_one_tongue(
  models: Mapping[str, Input], maps: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, readers.Reader], list[str]]:
  """Return the readers with the names of the first."""
  donor = next(iter(models))
  # No loader knows a wrapper's names, so that the output is without them.
  plain = naming.unwrapped(models[donor].reader.keys())
  reference = list(plain)
  found = {donor: views.view(models[donor].reader, plain)}
  notes = []
  for name, model in models.items():
    if name == donor:
      continue
    keys = model.reader.keys()
    if set(keys) == set(reference) and not maps.get(name):
      found[name] = model.reader
      continue
    said = {**maps.get(donor, {}), **maps.get(name, {})}
    named = naming.matched(reference, keys, said)
    changed = [(old, new) for old, new in named.items() if old != new]
    if changed:
      old, new = changed[0]
      notes.append(
        f"{name!r}: {len(changed)} leaves are named as in {donor!r}:"
        f" {old!r} is {new!r}"
      )
    inner = {new: old for old, new in named.items()}
    found[name] = views.view(model.reader, inner)
  return found, notes


def _with_twins(
  models: Mapping[str, Input], found: Mapping[str, readers.Reader]
) -> tuple[dict[str, readers.Reader], dict[str, list[str]], bool, list[str]]:
  """Return readers in which tied leaves are one everywhere, or two."""
  kinds: dict[str, Kind] = {}
  for reader in found.values():
    kinds |= {n: k for n, k in reader.kinds.items() if n not in kinds}
  made, notes = dict(found), []
  copies: dict[str, list[str]] = {}
  untied = False
  donor = next(iter(found))
  for head, other in tied.twins(kinds).items():
    one = {
      name: tied.is_tied(reader, models[name].settings, head, other)
      for name, reader in found.items()
    }
    stored = [n for n in (other, head) if n in found[donor].kinds]
    if all(one.values()) and stored:
      first, *rest = stored
      made = {n: _as_one(r, first, {head, other}) for n, r in made.items()}
      if rest:
        copies.setdefault(first, []).extend(rest)
    elif any(one.values()):
      made = {
        n: _as_two(r, head, other) if one[n] else r for n, r in made.items()
      }
      single = ", ".join(repr(name) for name, is_one in one.items() if is_one)
      notes.append(f"{head!r} and {other!r} are one leaf in {single}, two here")
      untied = True
  return made, copies, untied, notes


def _as_one(
  reader: readers.Reader, name: str, both: set[str]
) -> readers.Reader:
  """Return a reader that has a tied leaf under one name only."""
  inner = next(n for n in (name, *sorted(both)) if n in reader.kinds)
  names = {n: n for n in reader.kinds if n not in both or n == inner}
  renamed = {name if n == inner else n: n for n in names}
  return views.view(reader, renamed)


def _as_two(reader: readers.Reader, head: str, other: str) -> readers.Reader:
  """Return a reader that has a tied leaf under both of its names."""
  names = {n: n for n in reader.kinds}
  inner = head if head in names else other
  return views.view(reader, names | {head: inner, other: inner})


def derived(name: str, shape: tuple[int, ...]) -> bool:
  """Tell whether a leaf is a buffer that the model's code makes itself."""
  square = len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]
  return bool(DERIVED.search(name) or (square and MASK.search(name)))


def _filled(
  found: Mapping[str, readers.Reader], missing: str, base: str | None
) -> tuple[dict[str, readers.Reader], dict[str, str], list[str]]:
  """Return readers with the same leaves, and leaves to be copied from one."""
  every = list(dict.fromkeys(n for r in found.values() for n in r.kinds))
  alone: dict[str, str] = {}
  names = {
    model: {n: n for n in reader.kinds} for model, reader in found.items()
  }
  skipped, filled = [], []
  for leaf in every:
    lacking = [model for model in found if leaf not in found[model].kinds]
    if not lacking:
      continue
    owner = next(model for model in found if leaf in found[model].kinds)
    copied = derived(leaf, found[owner].shape(leaf))
    if missing == "base" and not copied:
      filled.append(leaf)
      continue
    if missing == "refuse" and not copied:
      raise ValueError(_refusal(lacking[0], owner, leaf))
    for model in found:
      names[model].pop(leaf, None)
    if copied or missing == "first":
      alone[leaf] = owner
    else:
      skipped.append(leaf)
  made = {n: views.view(reader, names[n]) for n, reader in found.items()}
  for leaf in filled:
    made = _from_base(made, found, leaf, base)
  notes = []
  if skipped:
    notes.append(f"{len(skipped)} leaves are left out, such as {skipped[0]!r}")
  kept = [leaf for leaf in alone if not derived(leaf, ())]
  if kept and missing == "first":
    notes.append(
      f"{len(kept)} leaves are copied from one model, such as {kept[0]!r} of"
      f" {alone[kept[0]]!r}"
    )
  return made, alone, notes


def _refusal(model: str, owner: str, leaf: str) -> str:
  return (
    f"{model!r} has no {leaf!r}, which {owner!r} has, expected models with the"
    " same leaves; `missing: base`, `first` or `skip` says what becomes of such"
    " leaves, `map:` renames them"
  )


def _from_base(
  made: Mapping[str, readers.Reader],
  found: Mapping[str, readers.Reader],
  leaf: str,
  base: str | None,
) -> dict[str, readers.Reader]:
  """Return readers that have the base's leaf where they lack it."""
  if base is None:
    raise ValueError("missing: base, but there is no base_model")
  source = found[base]
  if leaf not in source.kinds:
    owner = next(model for model in found if leaf in found[model].kinds)
    raise ValueError(_refusal(base, owner, leaf))
  return {
    name: reader
    if leaf in reader.kinds
    else views.joined(reader, views.view(source, {leaf: leaf}))
    for name, reader in made.items()
  }
