"""Folders as their publishers lay them out: which files are the model.

Beside the weights of a model lie its adapters, its optimizer's state, the same
weights in other forms and indices of earlier savings.  The rule is that of the
tools that load them: `model.safetensors`, else its index, is the model whatever
lies beside it.  A folder of Orbax may be a run of steps, of several items each.

>>> weights(["consolidated.safetensors", "model.safetensors"], lambda _: {})
['model.safetensors']
>>> latest(["3", "12", "12.orbax-checkpoint-tmp-7", "metadata"])
'12'
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from weightspace.checkpoints.shards import SHARD

INDEX = ".safetensors.index.json"
FILE = ".safetensors"
STEMS = ("model", "diffusion_pytorch_model")  # of transformers, of diffusers
APART = re.compile(  # weights of something else than the model
  r"^(adapter_model|optimizer|scheduler|training_args|random_states|ema_model"
  r"|pytorch_lora_weights)"
)
STEP = re.compile(r"(?:.*[_-])?(\d+)")
TREE = "_METADATA"  # of a tree of arrays that Orbax wrote


def weights(
  files: Iterable[str], index: Callable[[str], Mapping[str, str]]
) -> list[str]:
  """Return the files of a model's weights among those of its folder.

  Args:
    files: the names in the folder.
    index: returns the shard of each leaf, by an index's name.

  Returns:
    One index, or files of safetensors; [] where the choice is not clear.
  """
  names = sorted(files)
  for stem in STEMS:
    whole, listed = f"{stem}{FILE}", f"{stem}{INDEX}"
    if whole in names and not (listed in names and _live(index(listed))):
      return [whole]
    if listed in names:
      return [listed]
  left = [name for name in names if not APART.search(name)]
  indices = [name for name in left if name.endswith(INDEX)]
  if len(indices) == 1:
    return indices
  plain = [name for name in left if name.endswith(FILE)]
  if len(plain) == 1 or _complete(plain):
    return plain
  return []


def _live(placed: Mapping[str, str]) -> bool:
  """Tell whether an index speaks of the file beside it, not of older shards."""
  return not placed or not all(
    isinstance(shard, str) and SHARD.search(shard) for shard in placed.values()
  )


def _complete(names: Sequence[str]) -> bool:
  """Tell whether files are the shards of one model, all of them."""
  found = [SHARD.search(name) for name in names]
  stems = {n[: m.start()] for n, m in zip(names, found) if m}
  counts = {int(m[1]) for m in found if m}
  return all(found) and len(stems) == 1 and counts == {len(names)}


def latest(names: Iterable[str]) -> str | None:
  """Return the last step among the folders of a run; None where none is."""
  steps = {n: STEP.fullmatch(n) for n in names if not n.startswith(".")}
  numbers = {name: int(found[1]) for name, found in steps.items() if found}
  return max(numbers, key=lambda n: numbers[n]) if numbers else None


def orbax_item(path: Any) -> Any:
  """Return the folder of the tree of arrays that a folder of Orbax holds.

  Args:
    path: of `pathlib` or `etils.epath`: a tree; a step, of which one item is a
      tree; a run, whose last step counts; `run@step`.

  Returns:
    A path of the same kind, or None where there is no tree.

  Raises:
    ValueError: naming the trees, where a step has several; a step that the run
      does not have.
  """
  run, at, step = path.name.rpartition("@")
  if at and not path.exists():
    run = path.parent / run
    if not run.is_dir():
      return None
    steps = {STEP.fullmatch(p.name): p for p in run.iterdir()}
    chosen = [p for found, p in steps.items() if found and found[1] == step]
    if not chosen:
      last = latest(p.name for p in run.iterdir())
      raise ValueError(f"{str(run)!r} has no step {step!r}, the last is {last}")
    return orbax_item(chosen[0])
  if not path.is_dir():
    return None
  if (path / TREE).exists():
    return path
  below = {p.name: p for p in path.iterdir() if p.is_dir()}
  items = {name: p for name, p in below.items() if (p / TREE).exists()}
  if len(items) == 1:
    return next(iter(items.values()))
  if items and latest(items) is None:
    names = ", ".join(sorted(items))
    raise ValueError(
      f"{str(path)!r} has the items {names}, expected one:"
      f" {str(path / min(items))!r}, say"
    )
  last = latest(below)
  return orbax_item(below[last]) if last else None
