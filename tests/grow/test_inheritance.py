"""Students cut out of teachers, and the loss that compares pairings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import grow

PATTERN = "block_*"


@functools.cache
def teacher(**hyper):
  x = jnp.arange(8).reshape(2, 4)
  hyper = {
    "vocab": 9,
    "layers": 4,
    "width": 16,
    "heads": 4,
    "hidden": 12,
  } | hyper
  model = ws.models.build("lm", **hyper)
  params = model.init(jax.random.key(0), x)
  return params, ws.symmetry.trace_axes(model.apply, params, x)


def same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_inherited_is_sliced_and_restacked_in_either_order():
  params, axes = teacher()
  half, order = grow.sizes(axes, 0.5), grow.spaced(4, 2)
  student = grow.inherit(axes, params, half, PATTERN, order)
  same(student, grow.restack(grow.take(axes, half, params), PATTERN, order))
  tree = grow.restack(axes.tree, PATTERN, order)
  shallow = grow.restack(params, PATTERN, order)
  blocks = [f"block_{k}/" for k in order]
  half = {n: k for n, k in half.items() if n.startswith((*blocks, "block_0"))}
  names = {n: axes.sizes[n] for n in axes.sizes}
  same(student, grow.take(ws.symmetry.Axes(tree, names, {}), half, shallow))


def test_a_student_of_its_teachers_size_is_the_teacher():
  for hyper in ({}, {"scan": True}):
    params, axes = teacher(**hyper)
    pattern = "blocks" if hyper else PATTERN
    same(grow.inherit(axes, params, axes.sizes, pattern, range(4)), params)
    same(grow.inherit(axes, params, {}), params)


def test_the_students_axes_say_its_sizes():
  params, axes = teacher(heads=8, kv_heads=4, size=2)
  small, small_axes = teacher(width=8, heads=4, size=2, layers=2)
  student = grow.inherit(axes, params, small_axes.sizes, PATTERN, [0, 1])
  assert jax.tree.map(jnp.shape, student) == jax.tree.map(jnp.shape, small)


def test_chosen_units_are_inherited():
  params, axes = teacher()
  chosen = {"block_1/gate": [7, 2, 3]}
  student = grow.inherit(axes, params, chosen, PATTERN, [1])
  np.testing.assert_array_equal(
    student["block_0"]["up"]["kernel"],
    params["block_1"]["up"]["kernel"][:, np.array([7, 2, 3])],
  )


def test_larger_students_are_refused():
  params, axes = teacher()
  with pytest.raises(ValueError, match="13 of 12 'block_0/gate'"):
    grow.inherit(axes, params, {"block_0/gate": 13})
  with pytest.raises(ValueError, match="holds 1 twice"):
    grow.inherit(axes, params, {"block_0/gate": [1, 1]})
  with pytest.raises(ValueError, match="5 of 4 blocks"):
    grow.inherit(axes, params, {}, PATTERN, [0, 1, 2, 3, 3])
  with pytest.raises(ValueError, match="expected both or neither"):
    grow.inherit(axes, params, {}, PATTERN)
  with pytest.raises(ValueError, match="'heads' is unknown"):
    grow.inherit(axes, params, {"heads": 1})
  params, axes = teacher(scan=True)
  layers = next(n for n in axes.sizes if n in axes.pins)
  with pytest.raises(ValueError, match="fixed by scan"):
    grow.inherit(axes, params, {layers: 2})


def features(seed, n=5, d=3, scale=2.0):
  random = np.random.default_rng(seed)
  return (*random.normal(size=(2, n, d)).astype(np.float32), scale)


def reference(student, teacher):
  def rows(features):
    images, texts, scale = (np.float64(v) for v in features)
    logits = scale * images @ texts.T
    return [np.exp(z) / np.exp(z).sum(-1, keepdims=True)
            for z in (logits, logits.T)]  # fmt: skip

  pairs = zip(rows(student), rows(teacher))
  return np.mean([-(t * np.log(s)).sum(-1).mean() for s, t in pairs])


def test_affinity_against_numpy():
  student, teacher = features(0), features(1, d=7, scale=0.5)
  expected = reference(student, teacher)
  for function in (grow.affinity, jax.jit(grow.affinity)):
    np.testing.assert_allclose(function(student, teacher), expected, rtol=1e-5)
  many = jax.vmap(lambda images: grow.affinity((images, *student[1:]), teacher))
  np.testing.assert_allclose(many(student[0][None]), [expected], rtol=1e-5)


def test_an_equal_student_has_no_gradient():
  both = features(2)
  value, gradients = jax.value_and_grad(grow.affinity)(both, both)
  np.testing.assert_allclose(value, reference(both, both), rtol=1e-5)
  for gradient in gradients:
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
  teachers = jax.grad(grow.affinity, 1)(features(3), both)
  assert all((np.asarray(g) == 0).all() for g in teachers)


def test_features_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match="teacher has images"):
    grow.affinity(features(0), (np.ones((5, 3)), np.ones((4, 3)), 1.0))
  with pytest.raises(ValueError, match="5 pairs of the student and 4"):
    grow.affinity(features(0), features(0, n=4))
  with pytest.raises(ValueError, match="student has images"):
    grow.affinity((np.ones(3), np.ones(3), 1.0), features(0))
