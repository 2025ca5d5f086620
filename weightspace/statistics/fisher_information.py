"""The diagonal Fisher information, example by example.

F_p = (1/N) sum_x E_y (d log p(y|x) / d theta_p)^2: the square is of one
example's gradient, so F does not depend on how examples are batched.  A linear
map's gradient is a sum over tokens of input times output gradient; where it is
used once per example the square needs neither: it is the product of the squared
inputs and the squared output gradients, one matrix product for all examples.

>>> def apply(w, x): return x @ w
>>> found = fisher(apply, jnp.zeros((1, 2)), jnp.array([[2.0]]))
>>> found.round(4).tolist()  # x^2 p (1 - p)
[[1.0, 1.0]]
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightspace import trees
from weightspace.jaxpr import closures, graph, linear_maps
from weightspace.losses import logits
from weightspace.statistics import example_gradients, streams
from weightspace.types import Apply, Data, Fold, Key, Params

TOKENS = ("mean", "sum")
KINDS = ("exact", "sampled", "empirical")
MEMORY = 2**28  # bytes that the gradients of one part of a batch may take


def fisher(
  apply: Apply,
  params: Params,
  data: Data,
  kind: str = "exact",
  key: Key | None = None,
  *,
  samples: int = 1,
  tokens: str = "mean",
  ignore: int = logits.IGNORE,
) -> Params:
  """Return the diagonal Fisher information, a tree like the parameters.

  F = (1/N) sum_x E_{y ~ q} (d log p(y|x; theta) / d theta)^2, elementwise.  Of
  outputs [N, T, C] (a language model) log p(y|x) = sum_t log p(y_t|x), and the
  square is divided by the number of tokens: so F is the diagonal of
  `probe.fisher`, and of `probe.ggn` of the cross-entropy, a mean over tokens.

  Args:
    apply: `apply(params, x) -> logits` [N, ..., C], each example by itself: of
      a model with BatchNorm, give it the statistics.
    params: of one model.
    data: {"x": [N, ...], "y": [N]}, a pair (x, y), an array x, or an iterable
      of any of these; labels matter to kind="empirical", and say which tokens
      count where they are [N, T].
    kind: q is the model's own p(y|x), summed over all labels ("exact", the
      definition) or drawn from ("sampled"), or the given labels ("empirical",
      which is not the Fisher information).
    key: for kind="sampled".
    samples: draws per example, for kind="sampled".
    tokens: "mean" over the tokens of a sequence, or their "sum", the Fisher
      information of whole sequences.
    ignore: the label of a token that does not count.

  Returns:
    Params: float32 leaves (float64 of float64); those of integer leaves are
    zero.

  Raises:
    ValueError: for an unknown kind, a missing key or missing labels, labels
      outside of the classes, no examples, NaN in the parameters.

  >>> x = jnp.array([[1.0], [3.0]])
  >>> fisher(lambda w, x: x @ w, jnp.zeros((1, 2)), x).round(4).tolist()
  [[1.25, 1.25]]

  Matena and Raffel 2022, "Merging models with Fisher-weighted averaging",
  https://arxiv.org/abs/2111.09832, whose code computes the exact kind; the
  closed form for linear maps is ours.
  """
  trees.check_finite(params, "fisher: params")
  fold = fisher_fold(
    apply, params, kind, key, samples=samples, tokens=tokens, ignore=ignore
  )
  return streams.fold_all(fold, data, "fisher")


def fisher_fold(
  apply: Apply,
  params: Params,
  kind: str = "exact",
  key: Key | None = None,
  *,
  samples: int = 1,
  tokens: str = "mean",
  ignore: int = logits.IGNORE,
) -> Fold:
  """Return the fold over batches {"x", "y"} whose value is `fisher`.

  Its state is a dict of arrays, to be saved, restored and gone on with;
  `merge` joins two parts of the data (sampled labels follow the position of an
  example in its part: give each part a key of its own).

  >>> fold = fisher_fold(lambda w, x: x @ w, jnp.zeros((1, 2)))
  >>> first = {"x": jnp.array([[1.0]]), "y": None}
  >>> state = fold.update(fold.init(first), first)
  >>> state = fold.update(state, {"x": jnp.array([[3.0]]), "y": None})
  >>> fold.value(state).round(4).tolist()
  [[1.25, 1.25]]
  """
  if kind not in KINDS:
    raise ValueError(f"fisher: kind is {kind!r}, expected one of {list(KINDS)}")
  if kind == "sampled" and key is None:
    raise ValueError("fisher: kind='sampled' needs key=, which was not given")
  if samples < 1:
    raise ValueError(f"fisher: samples is {samples}, expected at least 1")
  if tokens not in TOKENS:
    raise ValueError(f"fisher: tokens is {tokens!r}, expected one of {TOKENS}")
  how = example_gradients.How(kind, samples, tokens, ignore)
  number = key if key is not None else jax.random.key(0)

  def init(batch: Data) -> Any:
    zeros = jax.tree.map(_zeros, params)
    return {"params": params, "sums": zeros, "examples": jnp.zeros((), int)}

  def update(state: Any, batch: Data) -> Any:
    batch = batch if isinstance(batch, dict) else {"x": batch, "y": None}
    now = closures.fixed(apply)
    labels = _check_labels(now, params, batch, how)
    held = {"x": batch["x"]} | ({} if labels is None else {"y": labels})
    sizes = streams.shapes((params, held["x"]))
    most = _most(now, *sizes, kind, samples)
    for part in streams.chunks(held, most):
      added = example_gradients.add_batch(state, part, number, now, how)
      state = dict(state, **added)
    return state

  def value(state: Any) -> Params:
    return jax.tree.map(lambda x: x / state["examples"], state["sums"])

  def merge(a: Any, b: Any) -> Any:
    names = ("sums", "examples")
    return dict(a, **{name: streams.add(a[name], b[name]) for name in names})

  return Fold(init, update, value, merge)


def _zeros(x: Any) -> jax.Array:
  dtype = jnp.result_type(x)
  floats = jnp.issubdtype(dtype, jnp.floating)
  return jnp.zeros(
    jnp.shape(x), trees.accumulator(dtype) if floats else jnp.float32
  )


def _check_labels(
  apply: Apply, params: Params, batch: Data, how: example_gradients.How
) -> Any:
  """Return the labels where they are wanted, as whole numbers that fit."""
  shape = jax.eval_shape(apply, params, batch["x"]).shape
  if len(shape) < 2:
    raise ValueError(f"fisher: apply gave {shape}, expected [N, ..., classes]")
  labels = batch.get("y")
  if how.kind != "empirical":
    whole = hasattr(labels, "dtype") and labels.dtype.kind in "iu"
    # Of a label for each example every one counts: there is no padding.
    fits = whole and len(shape) > 2 and labels.shape == shape[:-1]
    return jnp.asarray(labels) if fits else None
  if labels is None:
    raise ValueError("fisher: kind='empirical' needs labels y, not given")
  labels = jnp.asarray(labels)
  if labels.shape != shape[:-1] or not jnp.issubdtype(
    labels.dtype, jnp.integer
  ):
    raise ValueError(
      f"fisher: labels are {labels.shape} {labels.dtype}, expected whole"
      f" numbers {shape[:-1]}"
    )
  if trees.concrete(labels):
    values = np.asarray(labels)
    bad = values[
      ((values < 0) | (values >= shape[-1])) & (values != how.ignore)
    ]
    if bad.size:
      raise ValueError(f"fisher: label {bad[0]}, expected 0 to {shape[-1] - 1}")
  return labels


@functools.lru_cache(maxsize=64)
def _most(
  apply: Apply, structure: Any, leaves: Any, kind: str, samples: int
) -> int:
  """Return how many examples may be taken at a time."""
  params, x = jax.tree.unflatten(structure, leaves)
  one = streams.example(x)
  program = graph.trace(apply, params, one)
  values = sum(
    math.prod(aval.shape)
    for eqn in program.equations
    for aval in eqn.avals[len(eqn.inputs) :]
  )
  shape = jax.eval_shape(apply, params, one).shape
  rows = {"exact": math.prod(shape), "sampled": samples, "empirical": 1}[kind]
  mapped = {
    at.leaf
    for at in example_gradients.covered(linear_maps.find(apply, params, one))
  }
  others = sum(
    math.prod(leaf.shape)
    for number, leaf in enumerate(jax.tree.leaves(params))
    if number not in mapped
  )
  return max(1, MEMORY // (4 * rows * (values + others)))
