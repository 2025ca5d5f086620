"""How merged leaves are stored: in which dtype, tied ones twice, as codes.

A quantised model is merged as the weights that its codes stand for.  What is
written has the dtype that its config.json names, or, on `quantise: same`, codes
and scales again as the first model keeps them.

>>> dtype_of({"dtype": "float16"}), dtype_of({})
(dtype('float16'), dtype(bfloat16))
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from weightspace.checkpoints import quantised
from weightspace.checkpoints.tensor_files import Kind
from weightspace.cli import models
from weightspace.cli.config import schema
from weightspace.merge.files.work_items import Part, Written

Names = Mapping[str, Mapping[str, str]]  # of a leaf in each model, by its own


def dtype_of(settings: Mapping[str, Any]) -> np.dtype:
  """Return the dtype that a config.json names for weights."""
  inner = settings.get("text_config")
  for table in (settings, inner if isinstance(inner, Mapping) else {}):
    for key in ("dtype", "torch_dtype"):
      if str(table.get(key)).removeprefix("torch.") in schema.DTYPES:
        return np.dtype(jnp.dtype(str(table[key]).removeprefix("torch.")))
  return np.dtype(jnp.bfloat16)


def described(
  part: Part,
  leaves: Names,
  opened: Mapping[str, models.Model],
  copies: Mapping[str, list[str]],
  config: schema.Config,
) -> Part:
  """Return a part that says how each of its leaves is stored.

  Args:
    part: with recipe and inputs.
    leaves: for each of its leaves, the name in each model.
    opened: the models, the one whose config.json the output has first.
    copies: further names that a leaf is written under.
    config: whose dtype, out_dtype and quantise count.
  """
  donor = next(iter(opened))
  asked = config.out_dtype or config.dtype
  dtypes: dict[str, np.dtype] = {}
  written: dict[str, Written] = {}
  for leaf, kind in part.inputs[0].kinds.items():
    if not jnp.issubdtype(kind[1], jnp.floating):
      if leaf in copies:
        written[leaf] = _twice([*copies[leaf], leaf], kind)
      continue
    inner = leaves[leaf].get(donor, leaf)
    form = opened[donor].forms.get(inner)
    if any(model.forms for model in opened.values()) and not asked:
      reader = opened[donor].reader
      same = form is None and inner in reader.kinds
      dtypes[leaf] = (
        reader.dtype(inner) if same else dtype_of(opened[donor].settings)
      )
    if form is not None and config.quantise:
      written[leaf] = _as_codes(leaf, inner, kind, form)
    elif leaf in copies:
      dtype = jnp.dtype(config.out_dtype or dtypes.get(leaf, kind[1]))
      written[leaf] = _twice([*copies[leaf], leaf], (kind[0], np.dtype(dtype)))
  return part._replace(written=written, dtypes=dtypes)


def settings(
  opened: Mapping[str, models.Model], quantise: str | None
) -> dict[str, Any]:
  """Return the output's config.json, which says what its leaves are.

  Raises:
    ValueError: where codes are asked for and the first model has none, or has
      scales of activations, which no merge knows.
  """
  donor, model = next(iter(opened.items()))
  if quantise and not model.forms:
    raise ValueError(
      f"quantise: {quantise}, but {donor!r} is not quantised, expected codes"
      " with scales in the model that gives config.json"
    )
  if quantise and model.activations:
    raise ValueError(
      f"quantise: {quantise}: {donor!r} has scales of activations, such as"
      f" {model.activations[0]!r}, which a merge does not know; without"
      " `quantise` the weights are written"
    )
  table = dict(model.settings)
  if model.forms and not quantise:
    table.pop(quantised.CONFIG, None)
  return table


def _twice(names: list[str], kind: Kind) -> Written:
  """Return that a leaf is stored under several names."""
  kinds = dict.fromkeys(names, kind)
  return Written(kinds, kind[1], functools.partial(dict.fromkeys, names))


def _as_codes(
  leaf: str, inner: str, kind: Kind, form: quantised.Form
) -> Written:
  """Return that a leaf is stored as codes and scales."""
  scale = form.scale.replace(
    inner.removesuffix(".weight"), leaf.removesuffix(".weight"), 1
  )
  form = form._replace(scale=scale)
  kinds = {scale: form.kind, leaf: (kind[0], form.codes)}
  encode = functools.partial(quantised.encode, name=leaf, form=form)
  return Written(kinds, np.dtype(np.float32), encode)
