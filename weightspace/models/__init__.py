"""Models from a few thousand parameters to real sizes, by name.

`build(name, **hyper)` gives a record of pure functions on plain nested dicts:
`init(key, x) -> params` and `apply(params, x) -> logits`.  Nothing else in the
library knows of these models: any `apply(params, x)` will do, and `from_linen`
and `from_nnx` adapt modules of your own.

>>> import jax, jax.numpy as jnp
>>> model = build("mlp", hidden=(16,), classes=10)
>>> params = model.init(jax.random.key(0), jnp.ones((1, 64)))
>>> model.apply(params, jnp.ones((5, 64))).shape, count(params)
((5, 10), 1210)
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from weightspace import faces, trees
from weightspace.models import foreign_norms
from weightspace.models.batchnorm import (
  STATS,
  BatchNorm,
  batch_norm,
  moments,
  population,
)
from weightspace.models.llama import from_llama, llama_hyper, to_llama
from weightspace.models.lm import LM
from weightspace.models.mlp import MLP
from weightspace.models.moe import MoE, balance, routing
from weightspace.models.nnx import from_nnx, nnx_population
from weightspace.models.resnet import ResNet
from weightspace.models.vgg import VGG
from weightspace.models.vit import ViT
from weightspace.types import Apply, Params

MODULES = {"mlp": MLP, "vgg": VGG, "resnet": ResNet, "vit": ViT, "lm": LM}
MODULES |= {"moe": MoE}


# Most of a cold start is XLA:CPU compiling the random draws.  At level 1 that
# costs a third (ResNet20: 4.3 CPU seconds, not 11.8), and they run as fast.
QUICK = {"xla_backend_optimization_level": 1}


class Model(NamedTuple):
  """A model as pure functions, and what it was made from.

  `apply(params, x, stats=None)` gives logits; stats matter to models with
  BatchNorm only, and None normalises by the batch itself.  `moments(params,
  stats, x)` is what `batch_norm` folds.
  """

  name: str
  hyper: dict[str, Any]
  module: nn.Module
  init: Callable[[jax.Array, Any], Params]
  apply: Apply
  moments: Callable[..., Any]


def build(name: str, **hyper: Any) -> Model:
  """Return the model `name` with the given hyper-parameters.

  Args:
    name: one of mlp, vgg, resnet, vit, lm, moe.
    **hyper: fields of its module, each with a default; lists stand for tuples.

  Returns:
    Model, whose `hyper` holds all hyper-parameters, defaults too.

  Raises:
    ValueError: for an unknown name or hyper-parameter, listing those there are,
      or for a value out of range.

  >>> build("resnet", width=2).hyper["depth"]
  20
  """
  if name not in MODULES:
    raise ValueError(f"model: {name!r}, expected one of {', '.join(MODULES)}")
  kind = MODULES[name]
  fields = dataclasses.fields(kind)
  known = [f.name for f in fields if f.name not in ("parent", "name")]
  for field in hyper:
    if field not in known:
      raise ValueError(
        f"{name}: unknown hyper-parameter {field!r}, expected one of"
        f" {', '.join(known)}"
      )
  module = kind(**{key: _frozen(value) for key, value in hyper.items()})
  values = {field: getattr(module, field) for field in known}
  return from_linen(module)._replace(name=name, hyper=values)


def _frozen(value: Any) -> Any:
  """Make tuples of lists: flax modules are hashed."""
  if isinstance(value, list | tuple):
    return tuple(map(_frozen, value))
  return value


def from_linen(module: nn.Module, **call: Any) -> Model:
  """Return a linen module of your own as a Model.

  Args:
    module: called as `module(x)`.  Its only variables are parameters, or the
      statistics of BatchNorm layers, `models.BatchNorm` or flax's own, which
      `batch_norm` folds: flax's running averages are neither read nor kept.
    **call: given at every call, such as `train=False`.

  Returns:
    Model, named after the class; its inputs are an array, or a tree of arrays
    [B, ...].

  Raises:
    ValueError: from `init`, when the module has variables of another kind.

  >>> model = from_linen(nn.Dense(2))
  >>> params = model.init(jax.random.key(0), jnp.ones((1, 3)))
  >>> model.apply(params, jnp.ones((5, 3))).shape
  (5, 2)
  """
  return Model(
    type(module).__name__.lower(),
    {},
    module,
    _initialiser(module, call),
    functools.partial(_apply, module, **call),
    functools.partial(moments, module, **call),
  )


def _initialiser(
  module: nn.Module, call: dict[str, Any]
) -> Callable[[jax.Array, Any], Params]:
  """Return init(key, x): of the example batch only the shapes matter."""

  def draw(key: jax.Array, kinds: tuple[Any, ...], structure: Any) -> Any:
    zeros = [jnp.zeros((1, *shape[1:]), dtype) for shape, dtype in kinds]
    x = jax.tree.unflatten(structure, zeros)
    return module.init(key, x, **call)

  plain = jax.jit(draw, static_argnums=(1, 2))
  quick = jax.jit(draw, static_argnums=(1, 2), compiler_options=QUICK)

  def init(key: jax.Array, x: Any) -> Params:
    leaves, structure = jax.tree.flatten(x)
    kinds = tuple((np.shape(a), jnp.result_type(a)) for a in leaves)
    for shape, _ in kinds or (((), None),):
      if not shape or not shape[0]:
        raise ValueError(f"init: x is {shape}, expected a batch [B, ...]")
    on_cpu = trees.concrete(key) and jax.default_backend() == "cpu"
    # Programs are kept by the shapes of one example.
    one = tuple(((1, *shape[1:]), dtype) for shape, dtype in kinds)
    variables = (quick if on_cpu else plain)(key, one, structure)
    own = {"params", "moments"}
    held = trees.names(variables.get("batch_stats", {}))
    if all(path.rpartition("/")[2] in ("mean", "var") for path in held):
      own.add("batch_stats")
    foreign = sorted(set(variables) - own)
    if foreign:
      raise ValueError(
        f"from_linen: the module has {foreign[0]!r} variables, expected"
        " parameters, and statistics of BatchNorm, only"
      )
    return variables.get("params", {})

  return init


def _apply(
  module: nn.Module, params: Params, x: Any, stats: Any = None, **call: Any
) -> jax.Array:
  """Return the logits; without stats BatchNorm uses those of the batch."""
  given = (
    {"params": params} if stats is None else {"params": params, STATS: stats}
  )
  with foreign_norms.watched(stats):
    if stats is None:
      return module.apply(given, x, mutable=["moments"], **call)[0]
    return jnp.asarray(module.apply(given, x, **call))


def count(params: Params) -> int:
  """Return the number of parameters, of arrays or of their shapes.

  >>> count({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)})
  8
  """
  return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(params))


__all__ = [
  "BatchNorm",
  "Model",
  "balance",
  "batch_norm",
  "build",
  "count",
  "from_linen",
  "from_llama",
  "from_nnx",
  "llama_hyper",
  "nnx_population",
  "population",
  "routing",
  "to_llama",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
