"""Task-vector methods with weights and densities of each model.

theta_0 + lambda merge_m(w_m sparse_m(tau_m)): what makes a task vector sparse
may differ by model, and the merge is a sum or elects signs.  All counts are
within one leaf, and sums that cancel count as +, as mergekit has it.

>>> each = {"weight": (1.0, 1.0), "density": (0.5, 1.0)}
>>> recipe = task_vectors("ties", each, {"normalize": True, "lambda": 1.0})
>>> models = {"w": jnp.array([[4.0, 1.0], [2.0, 3.0]])}
>>> recipe(models, base={"w": jnp.zeros(2)})["w"].tolist()
[3.0, 3.0]
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from weightspace.merge.core.recipe import Recipe, chain, on_deltas
from weightspace.merge.core.steps import At, Step, of_leaf, through
from weightspace.merge.methods import breadcrumbs_della, dare, ties, trims
from weightspace.merge.methods.task_arithmetic import counted, scaled, total

SMALL = 1e-8  # a sum of weights below this divides by nothing
ELECTS = ("ties", "dare_ties", "breadcrumbs_ties", "della")


def task_vectors(
  method: str, each: Mapping[str, Sequence[Any]], whole: Mapping[str, Any]
) -> Recipe:
  """Return a method of task vectors.

  Args:
    method: task_arithmetic, ties, dare_linear, dare_ties, breadcrumbs,
      breadcrumbs_ties, della or della_linear.
    each: [M] values of weight, and of density, gamma, epsilon where they count.
    whole: lambda, normalize and rescale.

  Raises:
    ValueError: for a value out of its range.

  The methods' papers are named in `weightspace.merge`; these conventions are
  mergekit's, https://github.com/arcee-ai/mergekit.
  """
  weights = [float(weight) for weight in each["weight"]]
  names = [name for name in each if name != "weight"]
  hyper = [tuple(each[name][m] for name in names) for m in range(len(weights))]
  made = {
    values: _sparse(method, dict(zip(names, values)), whole)
    for values in dict.fromkeys(hyper)
  }
  sparse = per_model([made[values] for values in hyper])
  if method in ELECTS:
    combine = "mean" if whole["normalize"] else "sum"
    merge = chain(ties.disjoint(combine, tie="plus", weights=weights))
  else:
    whole_weight = sum(weights) if whole["normalize"] else 1.0
    share = 1.0 if abs(whole_weight) < SMALL else 1 / whole_weight
    merge = chain(total(weights), scaled(share))
  return on_deltas(
    chain(*counted(weights), *sparse, merge, scaled(whole["lambda"]))
  )


def _sparse(
  method: str, hyper: Mapping[str, Any], whole: Mapping[str, Any]
) -> Step | None:
  """Return what makes one task vector sparse; None for nothing."""
  density = hyper.get("density", 1.0)
  rescale = "l1" if whole.get("rescale") else "none"
  if density >= 1:
    return None
  if density <= 0:
    return Step("zero", lambda x, at: jnp.zeros_like(x), entrywise=True)
  if method == "ties":
    step = trims.trim(density, scope="tensor", exact=True)
    return _restored(step) if whole.get("rescale") else step
  if method.startswith("dare"):
    return dare.drop(1 - density, rescale=rescale)
  if method.startswith("breadcrumbs"):
    step = breadcrumbs_della.band(
      density, hyper["gamma"], scope="tensor", exact=True, fill=True
    )
    return _restored(step) if whole.get("rescale") else step
  return breadcrumbs_della.mag_prune(
    density, 2 * hyper["epsilon"], rescale=rescale
  )


def _restored(step: Step) -> Step:
  """Return a step after which each task vector has its former L1 norm."""

  def edit(x: jax.Array, at: At) -> jax.Array:
    y = step.edit(x, at)
    axes = tuple(range(1, x.ndim))
    before, after = (jnp.abs(z).sum(axes, keepdims=True) for z in (x, y))
    return y * (before / jnp.where(after > 0, after, 1))

  return step._replace(name=f"{step.name}_rescaled", edit=edit, entrywise=False)


def per_model(made: Sequence[Step | None]) -> tuple[Step, ...]:
  """Return a step that edits each model by a step of its own.

  Args:
    made: [M] steps, of which equal ones are one object; None for nothing.

  >>> half = Step("half", lambda x, at: x / 2)
  >>> per_model([half, None])[0].edit(jnp.array([2.0, 2.0]), At()).tolist()
  [1.0, 2.0]
  """
  first = made[0]
  if all(step is first for step in made):
    return () if first is None else (first,)

  def local(x: jax.Array, at: At) -> Any:
    return tuple(
      None if step is None else through(step.local, x[m : m + 1], _of(at, m))
      for m, step in enumerate(made)
    )

  def edit(x: jax.Array, at: At) -> jax.Array:
    parts = []
    for m, step in enumerate(made):
      part = x[m : m + 1]
      if step is not None:
        known = None if at.local is None else at.local[m]
        part = step.edit(part, _of(at, m)._replace(local=known))
      parts.append(part)
    return jnp.concatenate(parts)

  steps_ = [step for step in made if step is not None]
  needs = tuple(dict.fromkeys(n for step in steps_ for n in step.needs))
  known = of_leaf(local) if any(step.local for step in steps_) else ()
  return (Step(steps_[0].name, edit, needs=needs, local=known),)


def _of(at: At, model: int) -> At:
  return at._replace(first=at.first + jnp.uint32(model))
