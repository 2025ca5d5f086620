"""Coefficients of task vectors, found by gradient: AdaMerging and aTLAS.

The merged model is base + sum_m c_m tau_m, with one c_m per model, per
parameter array, or per random part of an array; it is a differentiable function
of c, so c is trained as any parameters are, on few numbers and few examples.

>>> import jax.numpy as jnp
>>> models, start = {"w": jnp.eye(2)[None]}, {"w": jnp.zeros((2, 2))}
>>> data = {"x": jnp.eye(2), "y": jnp.arange(2)}
>>> def apply(p, x): return x @ p["w"]
>>> found = atlas(models, apply, data, base=start, learning_rate=0.1)
>>> bool(found.weights["w"][0] > 0.5)
True
"""

from collections.abc import Sequence

import jax
import numpy as np

from weightspace.merge.core import checks
from weightspace.merge.fitted import composition, task_data
from weightspace.types import Apply, Data, Key, Params, Stack

LEVELS = ("leaf", "task")
OBJECTIVES = ("labels", "entropy")


def adamerging(
  stack: Stack,
  apply: Apply | Sequence[Apply],
  data: Sequence[Data],
  *,
  base: Params,
  by: str = "leaf",
  steps: int = 500,
  batch_size: int = 16,
  batches: int = 2,
  learning_rate: float = 1e-3,
  start: float = 0.3,
  clamp: bool = True,
  deltas: Stack | None = None,
  key: Key | None = None,
) -> composition.Coefficients:
  """Choose coefficients that make predictions on unlabelled data sure.

  Minimise sum_tasks mean entropy of softmax(f(x; base + sum_m c_m tau_m)) by
  Adam; each step takes `batches` batches of every task, and one gradient.

  Args:
    stack: M models, leaves [M, ...].
    apply: `apply(params, x) -> logits`, or one for each task (own heads).
    data: one set of inputs for each task, {"x": [N, ...]} or an array.
    base: what the models were fine-tuned from.
    by: one coefficient for each model and parameter array ("leaf": the paper's
      layer-wise), or for each model ("task").
    steps, batch_size, batches, learning_rate, start, clamp: those of the
      paper's code; clamp holds the coefficients in [0, 1] as they are used.
    deltas: task vectors [M, ...] to use in place of stack - base, such as
      trimmed ones (AdaMerging++).
    key: of the batches; the default is key 0.

  Returns:
    Coefficients: history [steps], the entropy before each step.

  Raises:
    ValueError: for an unknown `by`, numbers out of range, no data, another
      number of functions than of tasks, NaN.

  >>> import jax.numpy as jnp
  >>> models, start = {"w": 4.0 * jnp.eye(2)[None]}, {"w": jnp.zeros((2, 2))}
  >>> def apply(p, x): return x @ p["w"]
  >>> found = adamerging(models, apply, [jnp.eye(2)], base=start, steps=20,
  ...                    learning_rate=0.1)
  >>> found.weights["w"].tolist()
  [1.0]

  Yang et al. 2024, "AdaMerging: adaptive model merging for multi-task
  learning", https://arxiv.org/abs/2310.02575; defaults from its code.
  """
  checks.option("adamerging: by", by, LEVELS)
  counts = {"steps": steps, "batch_size": batch_size, "batches": batches}
  for name, value in counts.items():
    checks.number(f"adamerging: {name}", value, 1)
  sets = task_data.tasks("adamerging", list(data), labels=False)
  held, structure = composition.hold("adamerging", stack, base, deltas)
  rule = composition.Rule(
    task_data.applies("adamerging", apply, len(sets)),
    structure,
    "entropy",
    clamp,
    composition.adam(learning_rate),
    0.0,
  )
  found = composition.start(held, by, start, 1)
  state = rule.optimiser.init(found)
  key = jax.random.key(0) if key is None else key
  history = []
  for step in range(steps):
    own = jax.random.fold_in(key, step)
    chosen = task_data.draw(own, sets, batches, batch_size)
    found, state, loss = composition.step(found, state, held, chosen, rule)
    history.append(loss)
  return composition.result(
    "adamerging", held, found, rule, base=base, history=np.array(history)
  )


def atlas(
  stack: Stack,
  apply: Apply | Sequence[Apply],
  data: Data | Sequence[Data],
  *,
  base: Params,
  by: str = "leaf",
  parts: int = 1,
  objective: str = "labels",
  control: Data | None = None,
  epochs: int = 20,
  batch_size: int = 128,
  learning_rate: float = 1e-3,
  weight_decay: float = 0.1,
  penalty: float = 0.0,
  clip: float = 1.0,
  key: Key | None = None,
) -> composition.Coefficients:
  """Learn anisotropic coefficients of task vectors (aTLAS), from zero.

  Minimise the cross-entropy of f(x; base + sum_m c_m tau_m), summed over tasks,
  by AdamW; c_m is a number for each parameter array, so different arrays of one
  task vector count differently.

  Args:
    stack: M models, leaves [M, ...].
    apply: `apply(params, x) -> logits`, or one for each task (own heads).
    data: {"x": [N, ...], "y": [N]}, or one such set for each task.
    base: what the models were fine-tuned from.
    by: "leaf", or "task" for one coefficient for each model.
    parts: K > 1 splits each matrix at random into K parts with a coefficient
      each, alike for arrays of one shape; other arrays then stay at the base
      (aTLAS x K, the paper's form for few parameters and many examples).
    objective: "labels", or "entropy" to adapt at test time without labels (the
      paper uses a pseudo-label loss; the entropy is AdaMerging's).
    control: data whose loss is kept low while that of `data` is raised: the
      paper's negation.
    epochs, batch_size, learning_rate, weight_decay, clip: those of the paper
      (which takes 0.1 and 10 epochs for few examples); the batch is shared
      among the tasks.
    penalty: times the mean |c| is added to the loss (0.5 in the paper's L1
      form).
    key: of the order of examples and of the parts; the default is key 0.

  Returns:
    Coefficients: history [epochs], the mean loss of each; the last epoch's
    coefficients.

  Raises:
    ValueError: for an unknown option, numbers out of range, no data, labels
      that are missing or no classes, NaN.

  >>> import jax.numpy as jnp
  >>> models, start = {"w": jnp.eye(2)[None]}, {"w": jnp.zeros((2, 2))}
  >>> data = {"x": jnp.eye(2), "y": jnp.arange(2)}
  >>> def apply(p, x): return x @ p["w"]
  >>> found = atlas(models, apply, data, base=start, parts=2, epochs=5)
  >>> found.weights["w"].shape
  (1, 2, 2)

  Zhang et al. 2024, "Knowledge composition using task vectors with learned
  anisotropic scaling", https://arxiv.org/abs/2407.02880.
  """
  checks.option("atlas: by", by, LEVELS)
  checks.option("atlas: objective", objective, OBJECTIVES)
  counts = {"parts": parts, "epochs": epochs, "batch_size": batch_size}
  for name, value in counts.items():
    checks.number(f"atlas: {name}", value, 1)
  given = list(data) if isinstance(data, list | tuple) else [data]
  sets = task_data.tasks("atlas", given, labels=objective == "labels")
  key = jax.random.key(0) if key is None else key
  held, structure = composition.hold("atlas", stack, base, parts=parts, key=key)
  optimiser = composition.adam(learning_rate, weight_decay, clip)
  applies = task_data.applies("atlas", apply, len(sets))
  kept = (
    [] if control is None else task_data.tasks("atlas", [control], labels=True)
  )
  if objective == "labels":
    task_data.check_labels("atlas", applies, base, sets)
  task_data.check_labels("atlas: control", applies, base, kept)
  rule = composition.Rule(
    applies, structure, objective, False, optimiser, penalty
  )
  found = composition.start(held, by, 0.0, parts)
  state = optimiser.init(found)
  size = max(1, batch_size // len(sets))
  count = max(len(jax.tree.leaves(part)[0]) for part in sets)
  history = []
  for epoch in range(epochs):
    values = []
    for step in range(max(1, count // size)):
      own = jax.random.fold_in(jax.random.fold_in(key, epoch), step)
      chosen = (
        task_data.draw(own, sets, 1, size),
        task_data.draw(own, kept, 1, size),
      )
      found, state, loss = composition.step(
        found, state, held, chosen[0], rule, control=chosen[1]
      )
      values.append(loss)
    history.append(np.mean(values))
  return composition.result(
    "atlas", held, found, rule, base=base, history=np.array(history)
  )
