"""Forms of equal cost: the laws of each, and counts that are exactly equal."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightspace import sparse

KEY = jax.random.key(0)


@pytest.mark.parametrize(
  ("width", "sparsity", "wanted"),
  [
    (16, 0.75, 32),
    (64, 0.9, 202),
    (64, 0.5, 90),
    (100, 0.99, 1000),
    (1, 0.5, 1),
  ],
)
def test_widths(width, sparsity, wanted):
  assert sparse.wide(width, sparsity) == wanted


@given(st.integers(1, 10_000), st.floats(0.01, 0.99))
def test_a_wide_layer_costs_no_more_and_one_unit_more_costs_more(
  width, sparsity
):
  found = sparse.wide(width, sparsity)
  assert (1 - sparsity) * (found - 1e-3) ** 2 <= width**2
  assert (1 - sparsity) * (found + 1) ** 2 > width**2 * (1 - 1e-9)


@pytest.mark.parametrize(
  ("sparsity", "inputs", "outputs"),
  [(0.75, 144, 16), (0.5, 27, 32), (0.9, 64, 10)],
)
def test_every_form_keeps_exactly_what_the_dense_layer_has(
  sparsity, inputs, outputs
):
  dense = inputs * outputs
  k = sparse.wide(1000, sparsity) / 1000
  rank = sparse.doped(inputs, outputs, sparsity)
  inner = sparse.factorised(inputs, outputs, sparsity)
  shapes = {
    "wide": {"w": (int(inputs * k) + 1, int(outputs * k) + 1)},
    "parallel": {
      f"b{i}": (inputs, outputs) for i in range(sparse.parallel(sparsity))
    },
    "factorised": {"u": (inputs, inner), "v": (inner, outputs)},
    "doped": {"w": (inputs, outputs)},
  }
  for name, form in shapes.items():
    thin = rank * (inputs + outputs) if name == "doped" else 0
    sizes = {path: int(np.prod(shape)) for path, shape in form.items()}
    shares = sparse.densities(sizes, dense - thin)
    params = {path: np.ones(shape, np.float32) for path, shape in form.items()}
    mask = sparse.random(KEY, params, shares)
    assert sum(sparse.counts(mask).values()) + thin == dense
    for share in shares.values():
      # One unit of rank or width is what rounding costs.
      unit = (inputs + outputs) / dense
      assert abs(share - (1 - sparsity)) <= unit


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.data())
def test_densities_keep_the_number_exactly(sizes, data):
  sizes = {str(i): n for i, n in enumerate(sizes)}
  kept = data.draw(st.integers(len(sizes), sum(sizes.values())))
  shares = sparse.densities(sizes, kept)
  counts = [int(shares[path] * n + 1e-6) for path, n in sizes.items()]
  assert sum(counts) == kept
  assert all(1 <= k <= n for k, n in zip(counts, sizes.values()))


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: sparse.wide(0, 0.5), "width is 0"),
    (lambda: sparse.wide(8, 0.0), "sparsity is 0.0"),
    (lambda: sparse.wide(8, 1.0), "sparsity is 1.0"),
    (lambda: sparse.parallel(1.5), "sparsity is 1.5"),
    (lambda: sparse.factorised(0, 4, 0.5), "inputs is 0"),
    (lambda: sparse.doped(2, 2, 0.5), "leaves no rank"),
    (lambda: sparse.densities({"a": 3}, 4), "kept is 4"),
    (lambda: sparse.densities({"a": 3, "b": 3}, 1), "kept is 1"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
