"""The diagonal Fisher information against gradients, one example at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from tests import problems
from weightspace import checkpoints
from weightspace.statistics import squares

KEY = jax.random.key(0)


def convolve(params, x):
  """A strided convolution, a dense layer, and a weight that is used twice."""
  y = jax.lax.conv_general_dilated(
    x, params["k"], (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  y = jax.nn.relu(y + params["b"][None, None, None])
  y = jnp.tanh(y.reshape(len(x), -1) @ params["w"].T)
  return jnp.tanh(y @ params["twice"]) @ params["twice"]


CONVOLUTION = {"k": (3, 2, 2, 3), "b": (3,), "w": (4, 24), "twice": (4, 4)}
LM = ws.models.build("lm", vocab=5, layers=2, width=8, heads=2, kv_heads=1)
SCANNED = ws.models.build(
  "lm", vocab=5, layers=2, width=8, heads=2, kv_heads=1, scan=True, tied=False
)
TOKENS = jax.random.randint(KEY, (4, 3), 0, 5)
CASES = {
  "dense": (problems.apply, problems.tree(0), problems.data(6)["x"]),
  "convolution": (
    convolve,
    problems.tree(1, CONVOLUTION),
    jax.random.normal(KEY, (3, 4, 4, 2)),
  ),
  "lm": (LM.apply, LM.init(KEY, TOKENS), TOKENS),
  "scanned": (SCANNED.apply, SCANNED.init(KEY, TOKENS), TOKENS),
}


def reference(apply, params, x, weigh):
  """Square the gradient of each example and label: weigh(log p) are shares."""
  total = jax.tree.map(np.zeros_like, params)
  for one in x:

    def logs(params, one=one):
      return jax.nn.log_softmax(apply(params, one[None])[0])

    rows = jax.jit(jax.jacrev(logs))(params)
    shares = weigh(logs(params))
    for_all = jax.tree.map(
      lambda r, w=shares: (
        (r**2 * w.reshape(w.shape + (1,) * (r.ndim - w.ndim)))
        .reshape(-1, *r.shape[w.ndim :])
        .sum(0)
      ),
      rows,
    )
    total = jax.tree.map(np.add, total, for_all)
  return jax.tree.map(lambda t: t / len(x), total)


@pytest.mark.parametrize("name", CASES)
def test_exact_is_the_expectation_over_labels_of_squared_gradients(name):
  apply, params, x = CASES[name]
  got = ws.statistics.fisher(apply, params, x, tokens="sum")
  problems.close(got, reference(apply, params, x, jnp.exp), 1e-4, 1e-7)


@pytest.mark.parametrize("name", CASES)
def test_empirical_has_the_gradient_of_the_labels(name):
  apply, params, x = CASES[name]
  labels = jnp.zeros(apply(params, x).shape[:-1], jnp.int32)

  def log(params, one):
    return jax.nn.log_softmax(apply(params, one[None])[0])[..., 0].sum()

  rows = jax.vmap(jax.grad(log), (None, 0))(params, x)
  wanted = jax.tree.map(lambda r: (r**2).mean(0), rows)
  data = {"x": x, "y": labels}
  got = ws.statistics.fisher(
    apply, params, data, kind="empirical", tokens="sum"
  )
  problems.close(got, wanted, 1e-4, 1e-7)


def test_softmax_regression_has_a_closed_form():
  w, x = problems.tree(0, (3, 4)), problems.tree(1, (5, 3))
  p = np.asarray(jax.nn.softmax(x @ w))
  wanted = (x[:, :, None] ** 2 * (p * (1 - p))[:, None]).mean(0)
  got = ws.statistics.fisher(lambda w, x: x @ w, w, jnp.asarray(x))
  np.testing.assert_allclose(got, wanted, 1e-5)


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
def test_batches_of_any_size_give_one_answer(kind):
  apply, params, _ = CASES["dense"]
  data = problems.data(12)
  whole = ws.statistics.fisher(apply, params, data, kind, KEY)
  parts = [
    jax.tree.map(lambda x, s=s: x[s], data)
    for s in (slice(0, 1), slice(1, 6), slice(6, 12))
  ]
  streamed = ws.statistics.fisher(apply, params, iter(parts), kind, KEY)
  problems.close(streamed, whole, 1e-5, 1e-8)
  pair = ws.statistics.fisher(apply, params, (data["x"], data["y"]), kind, KEY)
  problems.close(pair, whole, 0, 0)


def test_small_memory_gives_the_same(monkeypatch):
  apply, params, x = CASES["convolution"]
  whole = ws.statistics.fisher(apply, params, x)
  from weightspace.statistics import fisher_information

  monkeypatch.setattr(fisher_information, "MEMORY", 1)
  fisher_information._most.cache_clear()
  # A gradient is a sum over 16 positions of sums of 3 x 3 x 2 products.
  problems.sums_agree(ws.statistics.fisher(apply, params, x), whole, 16 * 18)
  fisher_information._most.cache_clear()


def test_sampled_labels_follow_the_model():
  apply, params, x = CASES["dense"]
  exact = ws.statistics.fisher(apply, params, x)
  drawn = ws.statistics.fisher(apply, params, x, "sampled", KEY, samples=4000)
  problems.close(drawn, exact, 0.1, 0.02)


def test_both_sums_of_squares_agree():
  x = problems.tree(0, (3, 2, 4, 5)).astype(np.float32)
  g = problems.tree(1, (3, 6, 2, 4, 7)).astype(np.float32)
  wanted = (np.einsum("nbti,nrbto->nrbio", x, g) ** 2).sum((0, 1))
  for way in (squares._by_pairs, squares._direct):
    np.testing.assert_allclose(
      way(jnp.asarray(x), jnp.asarray(g)), wanted, 1e-4
    )


def test_states_are_saved_restored_and_joined(tmp_path):
  apply, params, _ = CASES["dense"]
  data = problems.data(12)
  fold = ws.statistics.fisher_fold(apply, params)
  a, b = (
    jax.tree.map(lambda x, s=s: x[s], data) for s in (slice(5), slice(5, 12))
  )
  checkpoints.save(tmp_path / "a.safetensors", fold.update(fold.init(a), a))
  state = checkpoints.restore(tmp_path / "a.safetensors")
  joined = fold.merge(state, fold.update(fold.init(b), b))
  whole = ws.statistics.fisher(apply, params, data)
  problems.close(fold.value(joined), whole, 1e-5, 1e-8)
  problems.close(fold.value(fold.update(state, b)), whole, 1e-5, 1e-8)


def test_bfloat16_parameters_and_integer_leaves():
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), CASES["dense"][1])
  x = CASES["dense"][2]

  def apply(held, x):
    return problems.apply(held["model"], x)

  got = ws.statistics.fisher(apply, {"model": params, "step": jnp.int32(3)}, x)
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), params)
  problems.close(got["model"], ws.statistics.fisher(problems.apply, wide, x))
  assert float(got["step"]) == 0.0


def test_sharded_examples_give_the_same():
  apply, params, _ = CASES["dense"]
  x = problems.data(16)["x"]
  mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  got = ws.statistics.fisher(apply, params, jax.device_put(x, rows))
  problems.close(got, ws.statistics.fisher(apply, params, x), 1e-5, 1e-8)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"kind": "true"}, "kind is 'true', expected one of"),
    ({"kind": "sampled"}, "kind='sampled' needs key="),
    ({"kind": "sampled", "key": KEY, "samples": 0}, "samples is 0"),
    ({"kind": "empirical", "data": jnp.ones((2, 3))}, "needs labels y"),
    (
      {"kind": "empirical", "data": (jnp.ones((2, 3)), jnp.array([0, 2]))},
      "label 2, expected 0 to 1",
    ),
    (
      {"kind": "empirical", "data": (jnp.ones((2, 3)), jnp.ones(2))},
      "labels are .* float32, expected whole",
    ),
    ({"data": (jnp.ones((2, 3)), jnp.ones(3))}, "labels .* for 2 inputs"),
    ({"data": jnp.ones((0, 3))}, "no examples"),
    ({"data": []}, "no examples"),
    ({"data": {"y": jnp.ones(2)}}, "a batch has .*'y'.*, expected 'x'"),
    ({"data": 3.0}, "data are a float"),
    ({"apply": lambda p, x: x[:, 0]}, r"apply gave \(2,\)"),
    ({"params": {"gain": jnp.nan}}, "fisher: params: NaN in 'gain'"),
  ],
)
def test_bad_input_is_named(change, message):
  given = {"apply": problems.apply, "params": problems.tree(0)}
  given |= {"data": jnp.ones((2, 3))} | change
  with pytest.raises(ValueError, match=message):
    ws.statistics.fisher(**given)
