"""Digests of recipes: equal work, equal digest; other work, another one."""

import jax.numpy as jnp
import pytest

from tests.merge.test_recipes_matrix import ROWS
from weightspace import merge
from weightspace.merge.files import digests


def made():
  return {
    name: merge.RECIPES[name](**row.hyper)
    for name, row in ROWS.items()
    if isinstance(merge.RECIPES[name](**row.hyper), merge.Recipe)
  }


def test_every_recipe_has_a_digest_of_its_own():
  first, second = made(), made()
  found = {name: digests.digest(recipe) for name, recipe in first.items()}
  assert found == {n: digests.digest(r) for n, r in second.items()}
  assert len(set(found.values())) == len(found)


@pytest.mark.parametrize(
  "one, other",
  [
    (merge.ties(0.2), merge.ties(0.3)),
    (merge.ties(0.2), merge.ties(0.2, scale=2.0)),
    (merge.linear([1.0, 2.0]), merge.linear([2.0, 1.0])),
    (merge.only("a*", merge.uniform()), merge.only("b*", merge.uniform())),
    (
      merge.only("a", merge.uniform()),
      merge.only("a", merge.uniform(), rest="first"),
    ),
    (
      merge.per_layer(merge.task_arithmetic, scale=merge.gradient([0.0, 1.0])),
      merge.per_layer(merge.task_arithmetic, scale=merge.gradient([0.0, 2.0])),
    ),
  ],
)
def test_another_hyper_parameter_is_another_digest(one, other):
  assert digests.digest(one) != digests.digest(other)


def test_what_cannot_be_described_is_refused():
  held = object()
  step = merge.Step("held", lambda x, at: x if held else jnp.zeros_like(x))
  with pytest.raises(ValueError, match="a step holds a object"):
    digests.digest(merge.chain(step))
