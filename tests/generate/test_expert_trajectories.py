"""How far a student follows an expert's trajectory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace.generate import trajectory_distance


def between(a, b, share):
  return jax.tree.map(lambda x, y: x + np.float32(share) * (y - x), a, b)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0, 1.5])
def test_it_is_quadratic_along_the_straight_way(share):
  start, target = problems.models(2)
  found = trajectory_distance(between(start, target, share), start, target)
  assert np.isclose(found, (1 - share) ** 2, atol=1e-6)


def test_it_is_numpys_ratio_and_free_of_scale():
  student, start, target = problems.models(3)
  rows = [
    np.concatenate([np.ravel(x) for x in jax.tree.leaves(m)]).astype(float)
    for m in (student, start, target)
  ]
  expected = ((rows[0] - rows[2]) ** 2).sum() / ((rows[1] - rows[2]) ** 2).sum()
  assert np.isclose(trajectory_distance(student, start, target), expected)
  for c in (1e-4, 1e3):
    scaled = [
      jax.tree.map(lambda x, c=c: np.float32(c) * x, m)
      for m in (student, start, target)
    ]
    assert np.isclose(trajectory_distance(*scaled), expected, rtol=1e-4)


def test_jit_vmap_and_gradient():
  student, start, target = problems.models(3)
  eager = trajectory_distance(student, start, target)
  assert np.isclose(jax.jit(trajectory_distance)(student, start, target), eager)
  students = ws.stack(problems.models(4))
  each = jax.vmap(trajectory_distance, (0, None, None))(students, start, target)
  alone = [trajectory_distance(s, start, target) for s in ws.unstack(students)]
  assert np.allclose(each, alone, rtol=1e-5)
  slope = jax.grad(trajectory_distance)(target, start, target)
  assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(slope))


def test_low_precision_is_summed_in_float32():
  start = {"w": jnp.zeros(4096, jnp.bfloat16)}
  target = {"w": jnp.ones(4096, jnp.bfloat16)}
  student = {"w": jnp.full(4096, 0.5, jnp.bfloat16)}
  found = trajectory_distance(student, start, target)
  assert found.dtype == jnp.float32 and found == 0.25


def test_integer_leaves_do_not_count():
  a, b = ({"w": jnp.array([v]), "n": jnp.array(7)} for v in (0.0, 2.0))
  assert trajectory_distance(a, a, b) == 1.0


def test_bad_input_is_refused():
  start, target = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
  with pytest.raises(ValueError, match="equal, expected an expert that moved"):
    trajectory_distance(target, start, start)
  with pytest.raises(ValueError, match="student: 'w' is missing"):
    trajectory_distance({"v": jnp.ones(2)}, start, target)
  with pytest.raises(ValueError, match=r"target: 'w' is \(3,\) float32"):
    trajectory_distance(start, start, {"w": jnp.ones(3)})
  with pytest.raises(ValueError, match="student: NaN in 'w'"):
    trajectory_distance({"w": jnp.array([0.0, jnp.nan])}, start, target)
  whole = {"n": jnp.array(1)}
  with pytest.raises(ValueError, match="expected an expert that moved"):
    trajectory_distance(whole, whole, whole)
