"""Rows that are output units: a model merges as its transposed file does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace.merge.core import matrix_view

KEY = jax.random.key(5)
SHAPES = {"bias": (6,), "conv": (3, 3, 4, 5), "kernel": (7, 6)}
MODELS = ws.stack([problems.tree(seed, SHAPES) for seed in range(2)])
BASE = problems.tree(9, SHAPES)
FACTORIES = {
  "ties": lambda **rows: ws.merge.ties(0.4, scope="row", tie="plus", **rows),
  "ties, k exactly": lambda **rows: ws.merge.ties(
    0.4, scope="row", exact=True, **rows
  ),
  "breadcrumbs": lambda **rows: ws.merge.breadcrumbs(0.4, 0.2, 0.5, **rows),
  "breadcrumbs, signs elected": lambda **rows: ws.merge.breadcrumbs(
    0.4, 0.2, 0.5, elect=True, **rows
  ),
  "della": lambda **rows: ws.merge.della(0.5, 0.4, **rows),
  "model_stock": lambda **rows: ws.merge.model_stock("row", **rows),
  "nuslerp": lambda **rows: ws.merge.nuslerp([1.0, 2.0], "row", **rows),
}


def turned(tree, lead):
  """Kernels [in, out] as [out, in]; the convolution's inputs in a line."""

  def turn(path, x):
    y = matrix_view.matrix(x if lead else x[None], path)
    if y is None:
      return x
    return (y if lead else y[0]).mT

  return ws.trees.map_named(turn, jax.tree.map(jnp.asarray, tree))


def given(recipe, base):
  inputs = {"base": base, "key": KEY}
  return {name: inputs[name] for name in recipe.needs}


@pytest.mark.slow
@pytest.mark.parametrize("name", FACTORIES)
def test_output_rows_are_the_last_axis_of_the_transposed_model(name):
  ours, theirs = FACTORIES[name](rows="output"), FACTORIES[name]()
  got = ours(MODELS, **given(ours, BASE))
  want = theirs(turned(MODELS, True), **given(theirs, turned(BASE, False)))
  problems.close(turned(got, False), want)
  last = theirs(MODELS, **given(theirs, BASE))
  assert np.abs(np.asarray(got["kernel"] - last["kernel"])).max() > 1e-4
  np.testing.assert_allclose(got["bias"], last["bias"], rtol=1e-6)


@pytest.mark.parametrize("name", FACTORIES)
def test_output_rows_jit_and_leaf_by_leaf(name):
  recipe = FACTORIES[name](rows="output")
  inputs = given(recipe, BASE)
  want = jax.jit(lambda s: recipe(s, **inputs))(MODELS)
  problems.close(ws.merge.run(recipe, ws.unstack(MODELS), **inputs), want)


@pytest.mark.parametrize(
  ("make", "words"),
  [
    (lambda: ws.merge.ties(0.2, rows="output"), "rows='output' with scope"),
    (lambda: ws.merge.nuslerp(rows="output"), "nuslerp: rows='output'"),
    (
      lambda: ws.merge.nuslerp(scope="column", rows="output"),
      "scope='column', expected scope='row'",
    ),
    (lambda: ws.merge.model_stock("row", rows="in"), "rows is 'in', expected"),
    (
      lambda: ws.merge.breadcrumbs(0.2, 0.1, rows="output", parity="mergekit"),
      "scope='tensor', expected scope='row'",
    ),
  ],
)
def test_rows_that_cannot_be_are_refused(make, words):
  with pytest.raises(ValueError, match=words):
    make()
