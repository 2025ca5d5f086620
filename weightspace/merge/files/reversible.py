"""Reversible merging from files to files: adapters in, a basis out, and back.

Each leaf of M adapters becomes NAME.basis and NAME.coefficients, as `rmm` makes
them, and NAME.lost, the squared error; any adapter comes back from these three.
Leaves are taken one at a time, and a killed run goes on from those written.

>>> import tempfile
>>> from weightspace.checkpoints import folders as checkpoints
>>> folder = tempfile.mkdtemp()
>>> for name, x in {"a": 1.0, "b": 3.0}.items():
...   tree = {"q.lora_A.weight": np.full((1, 2), x, np.float32)}
...   checkpoints.save(f"{folder}/{name}.safetensors", tree)
>>> inputs = [readers.open(f"{folder}/{n}.safetensors") for n in "ab"]
>>> compress(inputs, f"{folder}/kept", 1)
>>> kept = readers.open(f"{folder}/kept")
>>> restore(kept, 1, f"{folder}/back")
>>> back = readers.open(f"{folder}/back/adapter_model.safetensors")
>>> back.read("q.lora_A.weight").round(4).tolist()
[[3.0, 3.0]]
"""

import json
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.checkpoints import readers, tensor_files, writers
from weightspace.merge.files import work_items
from weightspace.merge.methods import linear, reversible

BASIS, ADAPTER = "adapter_basis", "adapter_model"  # names of the files
PARTS = ("basis", "coefficients", "lost")


def rank_axis(path: str, shape: tuple[int, ...]) -> int:
  """Return the axis of a factor that has the rank, in peft's layout.

  A is [r, in] and B is [out, r], those of embeddings too.

  >>> rank_axis("q_proj.lora_A.weight", (4, 512))
  0
  """
  parts = path.split(".")
  return 0 if "lora_A" in parts or "lora_embedding_A" in parts else -1


def compress(
  inputs: Sequence[readers.Reader],
  output: readers.PathLike,
  basis: int,
  scope: str = "position",
  *,
  extra: Mapping[str, writers.Text] | None = None,
) -> None:
  """Write the basis and the coefficients of adapters that have the same leaves.

  Args:
    inputs: M adapters in peft's layout, of equal ranks.
    output: a new folder.
    basis, scope: as in `rmm`.
    extra: further text files by name.

  Raises:
    ValueError: naming file and tensor, for adapters that differ or are one
      file, a leaf that is not real, a NaN; an output that exists; as `rmm`.

  "Reversible model merging for low-rank weights", 2025,
  https://arxiv.org/abs/2510.14163.
  """
  squeeze = reversible.rmm(basis, scope, rank_axis)
  # What a mean of the adapters asks of them is asked here.
  part = work_items.Part(linear.uniform(), tuple(inputs))
  work_items.plan([part])
  planned: dict[str, tensor_files.Kind] = {}
  for name, (shape, dtype) in inputs[0].kinds.items():
    like = {name: jax.ShapeDtypeStruct((len(inputs), *shape), dtype)}
    made = jax.eval_shape(squeeze, like)
    for what in PARTS:
      leaf = getattr(made, what)[name]
      planned[f"{name}.{what}"] = leaf.shape, np.dtype(leaf.dtype)
  about = json.dumps([work_items.fingerprint([part], None), basis, scope])
  writer = writers.begin(output, planned, about=about, stem=BASIS)
  for name in inputs[0].keys():
    if f"{name}.{PARTS[-1]}" not in writer.done:  # the last to be written
      found = squeeze({name: jnp.asarray(_stack(inputs, name))})
      for what in PARTS:
        leaf = np.asarray(getattr(found, what)[name])
        writer.write(f"{name}.{what}", leaf)
  writer.finish(extra)


def _stack(inputs: Sequence[readers.Reader], name: str) -> np.ndarray:
  found = [reader.read(name) for reader in inputs]
  for reader, x in zip(inputs, found):
    if trees.any_nan([x])[0]:
      raise ValueError(f"{reader.path!r}: NaN in {name!r}, expected numbers")
  return np.stack(found)


def restore(
  kept: readers.Reader,
  model: int,
  output: readers.PathLike,
  *,
  extra: Mapping[str, writers.Text] | None = None,
) -> None:
  """Write one adapter of what `compress` wrote, in float32.

  The squared error of a leaf over all adapters is NAME.lost.

  Args:
    kept: the basis and the coefficients.
    model: the index of the adapter.
    output: a new folder.
    extra: further text files by name.

  Raises:
    ValueError: naming what is no such file, or an adapter that is not there; an
      output that exists.
  """
  found = [key for key in kept.keys() if key.endswith(".basis")]
  names = [key.removesuffix(".basis") for key in found]
  wanted = {f"{name}.{what}" for name in names for what in PARTS}
  if wanted != set(kept.keys()) or not names:
    raise ValueError(
      f"{kept.path!r} is no basis of adapters, expected {', '.join(PARTS)} of"
      " each leaf"
    )
  count = kept.shape(f"{names[0]}.coefficients")[-1]
  if not 0 <= model < count:
    raise ValueError(f"{kept.path!r}: model {model}, expected 0 to {count - 1}")
  float32 = np.dtype(np.float32)
  kinds = {name: (kept.shape(f"{name}.basis")[:-1], float32) for name in names}
  about = json.dumps([work_items.state(kept), model])
  writer = writers.begin(output, kinds, about=about, stem=ADAPTER)
  for name in names:
    basis, coefficients, lost = (
      {name: kept.read(f"{name}.{what}")} for what in PARTS
    )
    one = reversible.Reversible(basis, coefficients, lost)
    leaf = reversible.reconstruct(one, model)[name]
    writer.write(name, np.asarray(leaf))
  writer.finish(extra)
