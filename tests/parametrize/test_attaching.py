"""Changes put on, taken off, merged and unmerged."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import matrix_views
from weightspace import parametrize as p

MAKES = {
  "lora": p.lora(2, alpha=8.0),
  "svd_lora": p.svd_lora(2, alpha=8.0),
  "miss": p.miss(2),
  "bone": p.bone(2),
  "kronecker": p.kronecker(2, rank=1),
  "vera": p.vera(2, jax.random.key(3)),
  "dora": p.dora(2),
}
UNDONE = [name for name in MAKES if name != "dora"]


def params():
  rng = np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), "float32")

  return {
    "dense": {"kernel": normal(4, 6), "bias": normal(6)},
    "conv": {"kernel": normal(3, 2, 2, 4)},
    "attention": {"query": {"kernel": normal(8, 2, 4)}},
    "blocks": {"mlp": {"kernel": normal(3, 4, 6)}},
  }


VIEW = matrix_views.scanned("blocks")


def put(name, tree=None, move=0.1):
  """Return a tree with changes that are no longer zero."""
  tree = params() if tree is None else tree
  made = p.attach(tree, "*kernel", MAKES[name], jax.random.key(0), view=VIEW)
  apart = p.changes(made)
  rng = np.random.default_rng(1)

  def moved(x, trains):
    if not trains:
      return x
    return x + jnp.asarray(move * rng.normal(size=x.shape), x.dtype)

  apart = jax.tree.map(moved, apart, p.trainable(apart))
  return p.with_changes(tree, apart, view=VIEW)


def same(a, b, **tolerance):
  a, b = ws.trees.named(a), ws.trees.named(b)
  assert a.keys() == b.keys()
  for path, x in a.items():
    np.testing.assert_allclose(x, b[path], err_msg=path, **tolerance)


@pytest.mark.parametrize("name", MAKES)
def test_a_new_change_leaves_every_kernel_as_it_is(name):
  tree = p.attach(
    params(), "*kernel", MAKES[name], jax.random.key(0), view=VIEW
  )
  same(p.value(tree), params(), atol=0)
  shapes = jax.tree.map(jnp.shape, p.value(tree))
  assert shapes == jax.tree.map(jnp.shape, params())


@pytest.mark.parametrize("name", MAKES)
def test_detach_gives_the_very_kernels_back(name):
  tree = put(name)
  moved = ws.trees.named(p.value(tree))
  for path, x in ws.trees.named(params()).items():
    assert (path.endswith("bias")) == bool((moved[path] == x).all()), path
  same(p.detach(tree), params(), atol=0)


@pytest.mark.parametrize("name", UNDONE)
def test_unmerge_undoes_merge(name):
  tree = put(name)
  merged = p.merge(tree)
  same(p.value(merged), p.value(tree), atol=1e-6)
  assert p.merge(merged)["dense"]["kernel"].base is (
    merged["dense"]["kernel"].base
  )
  back = p.unmerge(merged)
  same(p.value(back), p.value(tree), rtol=1e-5, atol=1e-5)
  same(p.detach(back), params(), rtol=1e-5, atol=1e-5)
  same(p.detach(merged), params(), rtol=1e-5, atol=1e-5)
  assert p.unmerge(tree)["dense"]["kernel"] is tree["dense"]["kernel"]


def test_dora_cannot_be_unmerged():
  with pytest.raises(ValueError, match=r"'attention/query/kernel'.*dora"):
    p.unmerge(p.merge(put("dora")))


def test_changes_apart_are_put_back():
  tree = put("lora")
  apart = p.changes(tree)
  assert sorted(apart) == [
    "attention/query/kernel",
    "blocks/mlp/kernel",
    "conv/kernel",
    "dense/kernel",
  ]
  whole = p.with_changes(p.detach(tree), apart, view=VIEW)
  same(p.value(whole), p.value(tree), atol=0)
  nested = {"dense": {"kernel": apart["dense/kernel"]}}
  some = p.value(p.with_changes(params(), nested))
  same(some["dense"], p.value(tree)["dense"], atol=0)
  same(some["conv"], params()["conv"], atol=0)


def test_views_say_what_is_in_and_out():
  tree = p.attach(params(), "*kernel", p.lora(2), jax.random.key(0), view=VIEW)
  shapes = {path: one.a.shape for path, one in p.changes(tree).items()}
  assert shapes == {
    "attention/query/kernel": (8, 2),
    "blocks/mlp/kernel": (3, 4, 2),
    "conv/kernel": (12, 2),
    "dense/kernel": (4, 2),
  }


@pytest.mark.parametrize("name", MAKES)
def test_scanned_layers_are_layers_by_themselves(name):
  tree = put(
    name, {"blocks": {"mlp": {"kernel": params()["blocks"]["mlp"]["kernel"]}}}
  )
  one = tree["blocks"]["mlp"]["kernel"]
  whole = one.value()
  for layer in range(3):
    part = jax.tree.map(
      lambda x, i=layer: x[i] if jnp.shape(x)[:1] == (3,) else x, one
    )
    np.testing.assert_allclose(part.value(), whole[layer], atol=1e-6)


def test_each_path_draws_by_itself():
  key = jax.random.key(0)
  two = {"a": jnp.ones((4, 4)), "b": jnp.ones((4, 4))}
  tree = p.attach(two, "*", p.lora(2), key)
  assert (tree["a"].change.a != tree["b"].change.a).any()
  alone = p.attach({"b": two["b"]}, "b", p.lora(2), key)
  np.testing.assert_array_equal(alone["b"].change.a, tree["b"].change.a)


def test_a_change_of_a_coarse_base():
  coarse = p.attach(params(), "*kernel", p.quantised(8))
  tree = p.attach(coarse, "*kernel", p.lora(2), jax.random.key(0))
  same(p.value(tree), p.value(coarse), atol=0)
  assert p.is_leaf(p.detach(tree)["dense"]["kernel"])
  same(p.value(p.detach(tree)), p.value(coarse), atol=0)
  with pytest.raises(
    ValueError, match=r"'attention/query/kernel'.*the base is a"
  ):
    p.merge(tree)


def test_two_changes_lie_on_each_other():
  first = put(
    "miss", {"w": params()["dense"]["kernel"], "kernel": jnp.ones((4, 4))}
  )
  both = p.attach(first, "kernel", p.lora(1), jax.random.key(0))
  same(p.value(both), p.value(first), atol=0)
  same(p.detach(both), p.detach(first), atol=0)


@flax.struct.dataclass
class Grown:
  """A change of somebody else's, without an inverse."""

  by: jax.Array

  def value_of(self, kernel):
    return kernel * self.by


def test_changes_of_others():
  tree = p.attach({"w": jnp.ones((2, 2))}, "w", lambda key, x: Grown(3.0))
  assert p.value(tree)["w"].tolist() == [[3.0, 3.0], [3.0, 3.0]]
  with pytest.raises(ValueError, match=r"'w'.*Grown has no kernel_of"):
    p.unmerge(p.merge(tree))


@pytest.mark.parametrize(
  ("pattern", "make", "message"),
  [
    ("nope", p.lora(2), "'nope' fits no path.*attention/query/kernel"),
    (["*kernel", "no"], p.lora(2), "'no' fits no path"),
    ("*bias", p.lora(2), r"'dense/bias'.*lora: the kernel is \(6,\)"),
    ("dense/kernel", p.lora(5), "'dense/kernel'.*rank is 5, expected 1 to 4"),
    (
      "dense/kernel",
      p.bone(4),
      "r is 4, expected a divisor of 4 and of 6",
    ),
    ("dense/kernel", p.kronecker(3), "'dense/kernel'.*n is 3"),
    ("dense/kernel", p.miss(5), "'dense/kernel'.*r is 5, expected 1 to 4"),
    ("dense/kernel", lambda key, x: x, "'dense/kernel'.*Array.*expected a"),
    (
      "dense/kernel",
      lambda k, x: p.Miss(jnp.ones((2, 5))),
      r"expected \[in, 5\]",
    ),
    ("dense/kernel", lambda k, x: p.Masked(x[:2], x[:2] > 0), "new leaf is"),
  ],
)
def test_what_attach_refuses(pattern, make, message):
  with pytest.raises(ValueError, match=message):
    p.attach(params(), pattern, make, jax.random.key(0))


@pytest.mark.parametrize("name", ["lora", "svd_lora", "dora", "kronecker"])
def test_a_change_that_is_drawn_needs_a_key(name):
  with pytest.raises(ValueError, match=r"'dense/kernel'.*expected key="):
    p.attach(params(), "dense/kernel", MAKES[name])


def test_with_changes_refuses_other_paths():
  one = p.Miss(jnp.ones((2, 6)))
  with pytest.raises(ValueError, match="'dense/kernl' is not in the tree"):
    p.with_changes(params(), {"dense/kernl": one})
  with pytest.raises(ValueError, match=r"'conv/kernel'.*expected \[in, 6\]"):
    p.with_changes(params(), {"conv/kernel": one})
