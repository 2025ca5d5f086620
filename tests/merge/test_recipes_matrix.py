"""Every recipe in every way to run it, and the laws that all of them obey.

A new recipe is tested as soon as RECIPES holds it: `derived` says how it is
called, from its signature and what it needs.  One that is called otherwise, or
that has more laws, gets a row in ROWS.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import merge

KEY = jax.random.key(7)
COUNT = 2  # models, where a recipe takes any number
P = jax.sharding.PartitionSpec
# These programs run once each: little is to be gained from optimising them.
quick = functools.partial(
  jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


class Row(NamedTuple):
  """What the matrix has to know of a recipe."""

  hyper: dict[str, Any]  # for all tests but `plain`
  sweep: str | None = None  # the hyper-parameter that is vmapped
  plain: Callable[[int], dict[str, Any]] | None = None  # M equal models: theirs
  least: int = 1  # models that it needs for that law
  most: int = COUNT  # models of all other tests
  base: bool = True
  key: bool = False
  extra: tuple[str, ...] = ()  # other trees that it needs
  order: bool = True  # the order of models does not matter
  stack: bool = False  # a Stack comes back
  zero: str | None = "base"  # what merging M bases gives
  streams: bool = True  # runs leaf by leaf
  statistics: Callable[[int], dict[str, Any]] | None = None  # by M: theirs
  slow: bool = False  # takes more than a second of CPU: not in `make test`


def share(**hyper):
  """The hyper-parameters that make a sum of M equal task vectors one."""
  return lambda count: hyper | {"scale": 1 / count}


def same(**hyper):
  return lambda count: hyper


def equal(count):
  return {"weights": [1.0] * count}


def fishers(count):
  trees = [jax.tree.map(jnp.square, draw(20 + i)) for i in range(count)]
  return {"fisher": ws.stack(trees)}


def grams(count):
  """Gram matrices for the kernel, one per model; the second is singular."""
  rows = [np.random.default_rng(30 + i).normal(size=(9, 4)) for i in range(2)]
  rows[1][:, 0] = 0.0
  leaves = [np.float32(x.T @ x / 9).reshape(4, 1, 4, 1) for x in rows]
  none = jnp.zeros((0,))
  return {
    "gram": [
      {
        "dense": {"kernel": jnp.asarray(leaves[i % 2]), "bias": none},
        "steps": none,
      }
      for i in range(count)
    ]
  }


ROWS = {
  "breadcrumbs": Row(
    {"keep": 0.5, "top": 0.2, "scale": 0.4},
    "scale",
    share(keep=1.0, top=0.0),
    slow=True,
  ),
  "consensus": Row({"scale": 0.4}, "scale", share(agree=0)),
  "dare": Row(
    {"rate": 0.5, "scale": 0.3},
    "scale",
    share(rate=0.0),
    key=True,
    order=False,
    slow=True,
  ),
  "dare_ties": Row(
    {"rate": 0.5, "density": 0.5, "scale": 0.7},
    "scale",
    same(rate=0.0),
    key=True,
    order=False,
    slow=True,
  ),
  "della": Row(
    {"density": 0.5, "window": 0.4, "scale": 0.7},
    "scale",
    same(density=1.0, window=0.0),
    key=True,
    order=False,
    slow=True,
  ),
  "emr": Row({}, None, same(), stack=True, slow=True),
  "fisher": Row(
    {"floor": 0.1},
    "floor",
    same(),
    base=False,
    order=False,
    statistics=fishers,
    slow=True,
  ),
  "iso_c": Row({"scale": 0.7}, "scale"),
  "iso_cts": Row({"scale": 0.7}, "scale", slow=True),
  "karcher": Row({}, None, same(), base=False, slow=True),
  "linear": Row(
    {"weights": [1.0, 3.0]}, "weights", equal, base=False, order=False
  ),
  "magmax": Row({"scale": 0.7}, "scale", same()),
  "model_stock": Row({}, None, same(), least=2, slow=True),
  "multislerp": Row(
    {"weights": [1.0, 3.0]},
    "weights",
    equal,
    base=False,
    order=False,
    slow=True,
  ),
  "nearswap": Row({"t": 0.1}, "t", most=1),
  "norm_matched": Row({}, None, same(), base=False),
  "nuslerp": Row(
    {"weights": [1.0, 3.0]},
    "weights",
    same(),
    least=2,
    most=2,
    base=False,
    order=False,
    slow=True,
  ),
  "opcm": Row({"alpha": 0.9}, "alpha", order=False, streams=False, slow=True),
  "optmerge": Row({"scale": 0.7}, "scale", slow=True),
  "pcb": Row({"keep": 0.3, "scale": 0.7}, "scale", slow=True),
  "ram": Row({"threshold": 0.7, "rescale": 0.5}, "rescale", same(), slow=True),
  "regmean": Row(
    {"offdiag": 0.9},
    "offdiag",
    same(),
    base=False,
    order=False,
    statistics=grams,
    slow=True,
  ),
  "sce": Row({"top": 0.5, "scale": 0.7}, "scale", same(top=1.0), slow=True),
  "slerp": Row(
    {"t": 0.3}, "t", same(t=0.3), least=2, most=2, base=False, order=False
  ),
  "tall": Row({"threshold": 0.4}, "threshold", stack=True),
  "task_arithmetic": Row({"scale": 0.3}, "scale", share()),
  "ties": Row(
    {"density": 0.5, "scale": 0.7}, "scale", same(density=1.0), slow=True
  ),
  "transfer": Row({"scale": 0.7}, "scale", extra=("target",), zero="target"),
  "tsv": Row({"scale": 0.7}, "scale", slow=True),
  "uniform": Row({}, None, same(), base=False),
  "variance_corrected": Row({}, None, same(), base=False),
  "weight_aligned": Row(
    {"path": "dense/kernel", "old": 2}, base=False, stack=True, zero=None
  ),
  "wise_ft": Row({"alpha": 0.3}, "alpha", same(alpha=1.0)),
  "wudi": Row({"scale": 0.7}, "scale", same(), slow=True),
}


def derived(factory):
  """The row of a recipe without one: each hyper-parameter that it needs is 0.5.

  `weights` are one for each model; the first number is the one that is swept.
  """
  hyper = {
    name: [1.0, 3.0] if name == "weights" else 0.5
    for name, parameter in inspect.signature(factory).parameters.items()
    if parameter.default is inspect.Parameter.empty
  }
  needs = factory(**hyper).needs
  return Row(
    hyper,
    next(iter(hyper), None),
    base="base" in needs,
    key="key" in needs,
    extra=tuple(name for name in needs if name not in ("base", "key")),
    order="key" not in needs and "weights" not in hyper,
    zero="base" if "base" in needs else None,
  )


def row(name):
  return ROWS[name] if name in ROWS else derived(merge.RECIPES[name])


NAMES = [
  pytest.param(name, marks=[pytest.mark.slow] * row(name).slow)
  for name in sorted(merge.RECIPES)
]


def draw(seed, *lead, dtype=np.float32):
  rng = np.random.default_rng(seed)
  kernel, bias = (rng.normal(size=(*lead, *s)) for s in ((4, 8), (8,)))
  steps = np.broadcast_to(np.int32(5), lead)
  return {
    "dense": {
      "kernel": jnp.asarray(kernel, dtype),
      "bias": jnp.asarray(bias, dtype),
    },
    "steps": jnp.asarray(steps),
  }


def given(line, base=None, dtype=np.float32, count=None):
  """The keyword arguments that a recipe wants."""
  names = {n: draw(9, dtype=dtype) for n in line.extra}
  if line.base:
    names["base"] = draw(1, dtype=dtype) if base is None else base
  if line.statistics:
    names |= line.statistics(count or line.most)
  return names | ({"key": KEY} if line.key else {})


@functools.cache
def compiled(name):
  """The recipe as one program; its inputs are arguments."""
  recipe = merge.RECIPES[name](**row(name).hyper)
  return quick(lambda stack, names: recipe(stack, **names))


@functools.cache
def expected(name):
  line = row(name)
  return compiled(name)(draw(0, line.most), given(line))


def flat(tree):
  return {n: np.asarray(x, np.float64) for n, x in ws.trees.named(tree).items()}


def close(got, wanted, tolerance=2e-5):
  got, wanted = flat(got), flat(wanted)
  assert got.keys() == wanted.keys()
  for path, x in got.items():
    np.testing.assert_allclose(
      x, wanted[path], atol=tolerance, rtol=tolerance, err_msg=path
    )


def test_every_row_is_of_a_recipe():
  assert set(ROWS) <= set(merge.RECIPES), "a row without a recipe"


@pytest.mark.parametrize(
  "name", ["dare", "linear", "task_arithmetic", "ties", "transfer", "uniform"]
)
def test_a_recipe_without_a_row_is_called_as_one_with_it(name):
  line, own = derived(merge.RECIPES[name]), ROWS[name]
  assert line.hyper.keys() <= own.hyper.keys()
  for field in ("base", "key", "extra", "order", "stack", "streams"):
    assert getattr(line, field) == getattr(own, field), field


@pytest.mark.parametrize("name", NAMES)
def test_called_without_jit_inputs_and_integers_stay(name):
  line = row(name)
  stack, names = draw(0, line.most), given(line)
  got = merge.RECIPES[name](**line.hyper)(stack, **names)
  close(got, expected(name))
  close(stack, draw(0, line.most), 0)
  close(
    {n: x for n, x in names.items() if n != "key"},
    {n: x for n, x in given(line).items() if n != "key"},
    0,
  )
  lead = (line.most,) if line.stack else ()
  for path, x in ws.trees.named(draw(0, *lead)).items():
    y = ws.trees.named(got)[path]
    assert (y.shape, y.dtype) == (x.shape, x.dtype), path
  np.testing.assert_array_equal(got["steps"], 5)
  assert all(np.isfinite(x).all() for x in flat(got).values())


@pytest.mark.parametrize("name", NAMES)
def test_leaf_by_leaf_over_a_list(name):
  line = row(name)
  recipe = merge.RECIPES[name](**line.hyper)
  models = ws.unstack(draw(0, line.most))
  if not line.streams:
    with pytest.raises(ValueError, match="leaf by leaf"):
      merge.run(recipe, models, **given(line))
    return
  got = merge.run(recipe, models, **given(line))
  close(got, expected(name))


@pytest.mark.parametrize("name", NAMES)
def test_sharded_over_models_and_leaves(name):
  line = row(name)
  mesh = jax.make_mesh(
    (2, 4), ("model", "leaf"), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )

  def place(tree, *lead):
    def put(x):
      spec = P(*lead, *[None] * (x.ndim - len(lead) - 1), "leaf")
      spec = spec if x.ndim > len(lead) else P(*lead)
      return jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))

    return jax.tree.map(put, tree)

  stack = place(draw(0, line.most), "model" if line.most > 1 else None)
  whole = {"key", "fisher", "gram"}  # as they come
  names = {n: x if n in whole else place(x) for n, x in given(line).items()}
  close(compiled(name)(stack, names), expected(name))


@pytest.mark.parametrize("name", NAMES)
def test_vmapped_over_a_hyper_parameter(name):
  line = row(name)
  if line.sweep is None:
    pytest.skip("no hyper-parameter to sweep")
  value = jnp.asarray(line.hyper[line.sweep])

  def one(x, stack, names):
    recipe = merge.RECIPES[name](**line.hyper | {line.sweep: x})
    return recipe(stack, **names)

  both = jnp.stack([value, value[..., ::-1] if value.ndim else 0.5 * value])
  swept = quick(jax.vmap(one, in_axes=(0, None, None)))
  first, second = ws.unstack(swept(both, draw(0, line.most), given(line)))
  close(first, expected(name))
  kernels = np.asarray([first["dense"]["kernel"], second["dense"]["kernel"]])
  assert np.abs(kernels[0] - kernels[1]).max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_within_an_ulp_of_float32(name):
  line = row(name)
  stack, names = (
    draw(0, line.most, dtype="bfloat16"),
    given(line, None, "bfloat16"),
  )
  got = compiled(name)(stack, names)

  def widen(x):
    wide = jnp.issubdtype(x.dtype, jnp.floating)
    return x.astype(jnp.float32) if wide else x

  wanted = compiled(name)(*jax.tree.map(widen, (stack, names)))
  for path, x in ws.trees.named(got).items():
    y = ws.trees.named(wanted)[path]
    if path == "steps":
      continue
    assert x.dtype == jnp.bfloat16, path
    ulp = 2.0**-7 * np.abs(np.asarray(y)) + 1e-6
    assert (np.abs(np.asarray(x, np.float32) - y) <= ulp).all(), path


@pytest.mark.parametrize("name", NAMES)
def test_models_in_another_order(name):
  line = row(name)
  if not line.order or line.most == 1:
    pytest.skip("the order of models matters, or there is one")
  order = np.arange(line.most)[::-1]
  turned = jax.tree.map(lambda x: x[order], draw(0, line.most))
  wanted = expected(name)
  if line.stack:
    wanted = jax.tree.map(lambda x: x[order], wanted)
  close(compiled(name)(turned, given(line)), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_models_equal_to_the_base_give_it(name):
  line = row(name)
  if line.zero is None:
    pytest.skip("edits the models themselves")
  names = given(line)
  start = names.get("base", draw(1))
  stack = ws.stack([start] * line.most)
  wanted = names.get("target", start) if line.zero == "target" else start
  wanted = stack if line.stack else wanted
  close(compiled(name)(stack, names), wanted, 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_one_model_or_equal_models_give_the_model(name):
  line = row(name)
  if line.plain is None:
    pytest.skip("no hyper-parameters make it so")
  # Masks cost the most to compile; one number of models is enough for them.
  for count in {line.most if line.key else line.least, line.most}:
    recipe = merge.RECIPES[name](**line.plain(count))
    stack = ws.stack([draw(3)] * count)
    got = quick(lambda s, n, r=recipe: r(s, **n))(
      stack, given(line, count=count)
    )
    close(got, stack if line.stack else draw(3))
