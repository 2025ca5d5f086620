"""One model's names in another's words: what savers put before a name.

A wrapper leaves `module.` or `_orig_mod.` in names, a class with a head puts
`bert.` before those of its body, a model that sees keeps its text model under
`model.language_model.`.  Whatever makes more names agree is taken; a `map:` of
the configuration says the rest.

>>> body, whole = ["encoder.0.w", "pooler.w"], ["bert.encoder.0.w", "cls.w"]
>>> matched(whole, body, {})
{'encoder.0.w': 'bert.encoder.0.w', 'pooler.w': 'bert.pooler.w'}
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

Key = Callable[[str], str]

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module")
TOWERS = {  # where models that see keep their text model
  "model.language_model.": "model.",
  "language_model.model.": "model.",
  "language_model.lm_head.": "lm_head.",
  "model.text_model.": "model.",
}


def matched(
  reference: Sequence[str], names: Sequence[str], said: Mapping[str, str]
) -> dict[str, str]:
  """Return a model's names as another model has them.

  Args:
    reference: the names of the model whose words count.
    names: of the model.
    said: {how names begin: what stands there instead}, of the configuration.

  Returns:
    {name: the reference's}; names that it lacks are in its words as far as that
    is clear.

  Raises:
    ValueError: naming two names that become one.
  """

  def mapped(name: str) -> str:
    return _begun(name, said)

  _check_distinct(mapped, names)
  _check_distinct(mapped, reference)
  best: tuple[int, Key, str] = (-1, mapped, "")
  for key, prefix in _ways(mapped, reference, names):
    if _distinct(key, reference) and _distinct(key, names):
      agree = len({*map(key, reference)} & {*map(key, names)})
      best = max(best, (agree, key, prefix), key=lambda way: way[0])
  _, key, prefix = best
  known = {key(name): name for name in reference}
  inside = prefix and not any(name.startswith(prefix) for name in names)
  found = {}
  for name in names:
    inner = key(name)
    lacking = f"{prefix}{inner}" if inside else mapped(name)
    found[name] = known.get(inner, lacking)
  return found


def _ways(
  mapped: Key, reference: Sequence[str], names: Sequence[str]
) -> Iterable[tuple[Key, str]]:
  """Yield what names may be compared by, the plainest first."""

  def inner(name: str) -> str:
    return bare(mapped(name))

  def text(name: str) -> str:
    return _begun(inner(name), TOWERS)

  yield mapped, ""
  yield inner, ""
  yield text, ""
  for side in (reference, names):
    first = Counter(text(name).partition(".")[0] for name in side)
    for word, count in first.items():
      if 2 * count >= len(side):
        yield functools.partial(_within, f"{word}.", text), f"{word}."


def bare(name: str) -> str:
  """Return a name without what wrappers put into it.

  >>> bare("module.layers.0._orig_mod.w")
  'layers.0.w'
  """
  return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def unwrapped(names: Sequence[str]) -> dict[str, str]:
  """Return {name without wrappers: name}, where such names are distinct."""
  found = {bare(name): name for name in names}
  distinct = len(found) == len(names)
  return found if distinct else {name: name for name in names}


def _within(prefix: str, key: Key, name: str) -> str:
  return key(name).removeprefix(prefix)


def _begun(name: str, table: Mapping[str, str]) -> str:
  """Return a name with another beginning, by the longest in the table."""
  for old in sorted(table, key=len, reverse=True):
    if name.startswith(old):
      return f"{table[old]}{name.removeprefix(old)}"
  return name


def _distinct(key: Key, names: Sequence[str]) -> bool:
  return len({*map(key, names)}) == len(names)


def _check_distinct(key: Key, names: Sequence[str]) -> None:
  seen: dict[str, str] = {}
  for name in names:
    other = seen.setdefault(key(name), name)
    if other != name:
      raise ValueError(
        f"map: {other!r} and {name!r} both become {key(name)!r}, expected"
        " distinct names"
      )
