"""flax's own BatchNorm, linen and nnx: its statistics measured by one call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import weightspace as ws
from weightspace import models, probe

KEY = jax.random.key(0)
X = 3.0 * jax.random.normal(KEY, (12, 4)) + 1.0
PARTS = [X[:2], X[2:7], X[7:]]


class Net(nn.Module):
  """Two layers of either BatchNorm, under the same names."""

  norm: type = nn.BatchNorm
  train: bool | None = False

  @nn.compact
  def __call__(self, x):
    own = self.norm is models.BatchNorm
    more = {} if own else {"use_running_average": not self.train}
    for name in ("a", "b"):
      x = nn.Dense(5, name=name)(x)
      x = nn.relu(self.norm(name=f"{name}_norm", epsilon=1e-5, **more)(x))
    return x


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("parts", [[X], PARTS])
def test_linen_has_the_statistics_of_our_own_norm(train, parts):
  ours, theirs = Net(models.BatchNorm), Net(nn.BatchNorm, train)
  own, other = models.from_linen(ours), models.from_linen(theirs)
  params = own.init(KEY, X)
  assert jax.tree.structure(other.init(KEY, X)) == jax.tree.structure(params)
  wanted = models.population(own, params, parts)
  found = models.population(other, params, parts)
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
    np.testing.assert_allclose(x, y, 1e-5, 1e-6)
  np.testing.assert_allclose(
    other.apply(params, X, found), own.apply(params, X, wanted), 1e-4, 1e-5
  )
  np.testing.assert_allclose(
    other.apply(params, X), own.apply(params, X), 1e-4, 1e-5
  )
  # They are flax's own collection, and mean the same to it.
  plain = Net(nn.BatchNorm, False).apply(
    {"params": params, "batch_stats": found}, X
  )
  np.testing.assert_allclose(other.apply(params, X, found), plain, 1e-4, 1e-5)


class Two(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    y = nn.Dense(3)(x["a"]) + nn.Dense(3)(x["b"])
    return nn.BatchNorm(use_running_average=not train)(y)


def test_dicts_of_inputs_and_settings_of_the_call():
  x = {"a": X, "b": X[:, :2]}
  model = models.from_linen(Two(), train=False)
  params = model.init(KEY, x)
  parts = [
    jax.tree.map(lambda v, s=s: v[s], x) for s in np.split(np.arange(12), 3)
  ]
  whole = models.population(model, params, [x])["BatchNorm_0"]
  split = models.population(model, params, parts)["BatchNorm_0"]
  np.testing.assert_allclose(split["var"], whole["var"], 1e-5)
  out = model.apply(params, x, {"BatchNorm_0": whole})
  np.testing.assert_allclose(out.mean(0), 0.0, atol=1e-5)
  with pytest.raises(ValueError, match="init: x is"):
    model.init(KEY, {"a": jnp.ones(()), "b": X})


class Twin(nnx.Module):
  def __init__(self, seed):
    rngs = nnx.Rngs(seed)
    self.a = nnx.Linear(4, 5, rngs=rngs)
    self.first = nnx.BatchNorm(5, rngs=rngs)
    self.b = nnx.Linear(5, 2, rngs=rngs)
    self.second = nnx.BatchNorm(2, rngs=rngs)

  def __call__(self, x):
    return self.second(self.b(nnx.relu(self.first(self.a(x)))))


@pytest.mark.parametrize("parts", [[X], PARTS])
@pytest.mark.parametrize("train", [False, True])
def test_nnx_modules_by_one_call(parts, train):
  net = Twin(0)
  net.train() if train else net.eval()
  found = models.nnx_population(net, parts)
  h = net.a(X)
  np.testing.assert_allclose(found.first.mean[...], h.mean(0), 1e-4, 1e-5)
  np.testing.assert_allclose(found.first.var[...], h.var(0), 1e-4, 1e-5)
  y = (h - h.mean(0)[None]) / jnp.sqrt(h.var(0) + net.first.epsilon)[None]
  y = net.b(nnx.relu(y))
  np.testing.assert_allclose(found.second.mean[...], y.mean(0), 1e-4, 1e-5)
  np.testing.assert_allclose(found.second.var[...], y.var(0), 1e-4, 1e-5)
  assert not net.first.mean[...].any()  # the caller's is as it was
  assert type(found.first) is nnx.BatchNorm
  with pytest.raises(ValueError, match="no BatchNorm"):
    models.nnx_population(net.a, parts)
  with pytest.raises(ValueError, match="no batches"):
    models.nnx_population(net, [])


def test_both_ends_of_a_path_have_their_own_statistics():
  nets = [models.nnx_population(Twin(seed), [X]) for seed in (0, 1)]
  for net in nets:
    net.eval()
  apply, a, stats = models.from_nnx(nets[0], statistics=True)
  _, b, others = models.from_nnx(nets[1], statistics=True)
  data = {"x": X, "y": jnp.arange(12) % 2}
  policy = probe.interpolated(stats, others)
  found = probe.profile(
    apply, ws.paths.line(a, b), [data], classes=2, points=3, statistics=policy
  )
  for end, net in zip((0, -1), nets):
    wanted = ws.losses.cross_entropy(net(X), data["y"]).mean()
    np.testing.assert_allclose(found.losses[end], wanted, 1e-4)
