"""Replicas: NumPy references, three ways to run them, schedules, bad input."""

import pathlib
import re
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import weightspace as ws
from tests import problems
from weightspace import average, losses, models
from weightspace.average.workers import matrices, mixing, replicas, rounds

ROOT = pathlib.Path(__file__).parents[3]
KEY = jax.random.key(0)
M, H, R = 4, 3, 4
METHODS = {
  "fedavg": average.fedavg,
  "fedavg weighted": lambda: average.fedavg(0.5, weights=[1.0, 2.0, 3.0, 4.0]),
  "fedau": lambda: average.fedau(cutoff=3),
  "diloco": average.diloco,
  "heavy ball": lambda: average.diloco(kind="heavy_ball"),
  "noloco": average.noloco,
  "gossip": average.gossip,
  "ring": lambda: average.gossip(average.ring(M), correct_variance=False),
  "alone": average.alone,
}


def quadratic(params, batch):
  """Replica i is drawn to its own target, with a rate of its own leaf."""
  return 0.5 * ((params["w"][None] - batch["y"][:, None, :]) ** 2).sum((1, 2))


def starts(apart=0.0, count=M):
  w = np.random.default_rng(1).normal(size=(count, 2, 3))
  w = w[:1] + apart * (w - w[:1])
  return {"w": jnp.asarray(w, jnp.float32)}


def targets(count=M):
  y = np.random.default_rng(2).normal(size=(count, 1, 3))
  return {"y": y.astype(np.float32)}


def train(method, stack=None, **changes):
  settings = dict(key=KEY, rounds=R, steps=H, batch_size=1)
  settings |= dict(loss=quadratic, tx=optax.sgd(0.1), data=targets())
  settings |= changes
  stack = starts() if stack is None else stack
  return average.replicate(
    settings.pop("loss"), stack, settings.pop("tx"), settings.pop("data"),
    method, **settings,
  )  # fmt: skip


def absences():
  """A schedule with everything in it: absence, lateness, nobody at all."""
  present = np.ones((R, M), bool)
  present[0, 1] = present[2, :2] = present[1] = False
  share = np.ones((R, M))
  share[2, 3] = 0.34  # one step of three
  return average.Schedule(present, share)


def reference(name, stack, schedule):
  """Return the weights after R rounds, in float64, replica by replica."""
  y, w = targets()["y"].astype(float), np.array(stack["w"], float)
  v, interval, closed, missed = np.zeros_like(w), np.ones(M), *np.zeros((2, M))
  for r in range(R):
    p = schedule.present[r]
    done = np.round(schedule.share[r] * H) * p
    pull = (0.9**done)[:, None, None]
    new = y + pull * (w - y)
    change, q = new - w, p.astype(float)
    if name == "noloco":
      mix = average.groups(KEY, r, M) * q * q[:, None]
      mix += np.diag(1 - mix.sum(1))
      near = np.einsum("ij,j...->i...", mix, change)
      pulls = w - np.einsum("ij,j...->i...", mix, w)
      step = 0.5 * v + 0.7 * near - 0.7 * pulls
      v, w = [
        np.where(p[:, None, None], a, b) for a, b in ((step, v), (w + step, w))
      ]
      continue
    if name in ("gossip", "ring"):
      mix = average.ring(M) if name == "ring" else average.groups(KEY, r, M)
      mix = mix * q * q[:, None]
      mix += np.diag(1 - mix.sum(1))
      w = np.einsum("ij,j...->i...", mix, new)
      if name == "gossip":
        wanted = mix @ new.var((1, 2))
        centre = w.mean((1, 2), keepdims=True)
        scale = np.sqrt(wanted / w.var((1, 2)))[:, None, None]
        w = centre + (w - centre) * scale
      continue
    if name == "alone":
      w = new
      continue
    if name == "fedau":
      a, total = interval * q, M
      for i in range(M):
        missed[i] += 1
        if p[i] or missed[i] >= 3:
          closed[i] += 1
          interval[i] += (missed[i] - interval[i]) / closed[i]
          missed[i] = 0
    else:
      a = q * (np.arange(1, M + 1) if "weighted" in name else 1)
      total = a.sum()
    if not p.any():
      continue
    g = -np.einsum("i,i...->...", a, change) / total
    mu = 0.9 if name in ("diloco", "heavy ball") else 0.0
    rate = {"fedavg": 1.0, "fedau": 1.0, "fedavg weighted": 0.5}.get(name, 0.7)
    v = mu * v + g
    w = w - rate * (g + mu * v if name == "diloco" else v)
  return {"w": w}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("full", [True, False])
def test_methods_are_numpys(name, full):
  schedule = average.everyone(R, M) if full else absences()
  apart = float(name in ("noloco", "gossip", "ring", "alone"))
  found = train(METHODS[name](), starts(apart), schedule=schedule)
  problems.close(found.params, reference(name, starts(apart), schedule), 3e-5)
  taken = np.round(schedule.share * H) * schedule.present
  assert (np.isfinite(found.losses).sum(1) == taken).all()


ON_MESH = [("diloco", 4), ("noloco", 4), ("ring", 4), ("fedau", 4)]
ON_MESH += [("gossip", 4), ("fedavg weighted", 2), ("noloco", 2), ("alone", 2)]


@pytest.mark.parametrize(("name", "devices"), ON_MESH)
def test_a_mesh_of_devices_gives_the_same(name, devices):
  mesh = jax.make_mesh(
    (devices,), ("population",), devices=jax.devices()[:devices]
  )
  alone = train(METHODS[name](), starts(0.5), schedule=absences(), rounds=R)
  found = train(METHODS[name](), starts(0.5), schedule=absences(), mesh=mesh)
  problems.close(found.params, alone.params, 2e-6)
  np.testing.assert_allclose(found.losses, alone.losses, rtol=1e-5)
  assert found.sent.tolist() == alone.sent.tolist()


@pytest.mark.parametrize("name", ["noloco", "fedavg", "gossip"])
def test_what_a_program_sends_is_what_is_counted(name):
  """Collectives of the compiled round, from its text."""
  mesh = jax.make_mesh((M,), ("population",), devices=jax.devices()[:M])
  method, stack = METHODS[name](), starts()
  matrix = replicas.topology(method, KEY, 0, M)
  routes = None if matrix is None else mixing.plan(matrix)
  plan = rounds.Plan(
    quadratic, optax.sgd(0.1), method, H, 1, ("w",),
    jax.tree.structure(stack), ("w",), False, mesh, routes,
  )  # fmt: skip
  carry, frozen, data = rounds.begin(plan, stack, targets())
  flags = np.ones(M, bool), np.ones(M)
  given = np.zeros(2, np.uint32), *flags, np.eye(M, dtype=np.float32)
  program = rounds.advance.lower(plan, carry, frozen, data, *given).compile()
  found = average.collectives(program.as_text())
  volume = average.volume(method, stack)
  kind = "all-reduce" if name == "fedavg" else "collective-permute"
  assert found == {kind: volume.mean + volume.mix}
  total = train(method).sent[0]
  assert total == M * sum(found.values())


def test_bytes_of_a_round():
  """Six floats a replica; DiLoCo sends them once, NoLoCo twice, plus flags."""
  assert train(average.diloco()).sent.tolist() == [M * (24 + 8)] * R
  assert train(average.noloco()).sent.tolist() == [M * (48 + 4)] * R
  assert train(average.alone()).sent.tolist() == [0] * R
  schedule = absences()
  sent = train(average.fedavg(), schedule=schedule).sent
  assert sent.tolist() == (32 * schedule.present.sum(1)).tolist()
  sent = train(average.noloco(), schedule=schedule).sent
  for r, here in enumerate(schedule.present):  # both of a pair have to be there
    pairs = np.argwhere(np.triu(average.groups(KEY, r, M), 1))
    assert sent[r] == 2 * 52 * sum(here[i] and here[j] for i, j in pairs)
  assert 0 < sent[2] < sent[3]


def test_noloco_among_all_is_diloco_with_heavy_ball():
  found = train(average.noloco(0.7, 0.5, group=M))
  wanted = train(average.diloco(0.7, 0.5, kind="heavy_ball"))
  problems.close(found.params, wanted.params, 1e-5)


def test_consensus_term_keeps_the_mean_of_replicas():
  """With nothing to learn, NoLoCo and gossip move no mean."""
  flat = lambda params, batch: 0.0 * params["w"].sum()  # noqa: E731
  for method in (average.noloco(), average.gossip(correct_variance=False)):
    found = train(method, starts(1.0), loss=flat, rounds=3)
    mean, start = (x["w"].mean(0) for x in (found.params, starts(1.0)))
    np.testing.assert_allclose(mean, start, atol=1e-6)
    assert average.consensus(found.params) < average.consensus(starts(1.0))


def test_one_pair_with_full_pull_becomes_equal():
  method = average.noloco(1.0, 0.0, consensus=1.0)
  found = train(method, starts(1.0), rounds=1, steps=1).params["w"]
  for i, j in np.argwhere(np.triu(average.groups(KEY, 0, M), 1)):
    np.testing.assert_allclose(found[i], found[j], atol=1e-6)


def test_equal_replicas_on_equal_data_stay_equal():
  data = {"y": np.repeat(targets()["y"][:1], M, 0)}
  for name, make in METHODS.items():
    found = train(make(), data=data).params["w"]
    gap = float(jnp.abs(found - found[:1]).max())
    assert gap < 1e-6, name


def test_outer_optimisers_of_optax():
  by_hand = train(average.diloco(0.3, 0.8))
  given = optax.sgd(0.3, momentum=0.8, nesterov=True)
  problems.close(train(average.fedavg(outer=given)).params, by_hand.params, 0)
  adam = train(average.noloco(outer=optax.adam(0.1)))
  assert np.isfinite(adam.params["w"]).all()


def test_fedau_weighs_by_the_interval():
  """Full participation is FedAvg; a client of every c rounds weighs c."""
  problems.close(
    train(average.fedau()).params, train(average.fedavg()).params, 1e-6
  )
  method = average.fedau(cutoff=None)
  state = method.init(starts())
  present = np.zeros((9, M), np.float32)
  present[:, 0], present[::3, 1] = 1.0, 1.0
  talk = mixing.on_device(jnp.eye(M))
  for row in present:
    state, _ = method.update(state, starts(), starts(), jnp.asarray(row), talk)
  assert state[0].mean[0] == 1.0
  np.testing.assert_allclose(state[0].mean[1], (1 + 3 + 3) / 3)


@pytest.mark.parametrize(("rate", "cutoff"), [(0.5, None), (0.1, 20)])
def test_fedau_estimates_one_over_the_rate(rate, cutoff):
  """E min(interval, K) = (1 - (1 - p)^K) / p, within 5 % of 5,000 rounds."""
  method = average.fedau(cutoff=cutoff)
  start = {"w": jnp.zeros((64, 1))}
  drawn = average.participation(KEY, 800, [rate] * 64).present

  def body(state, row):
    talk = mixing.on_device(jnp.eye(64))
    return method.update(state, start, start, row, talk)[0], None

  rows = jnp.asarray(drawn, jnp.float32)
  state, _ = jax.jit(lambda s: jax.lax.scan(body, s, rows))(method.init(start))
  wanted = (1 - (1 - rate) ** (cutoff or np.inf)) / rate
  np.testing.assert_allclose(state[0].mean.mean(), wanted, rtol=0.05)


def test_only_a_part_is_trained_and_sent():
  """Frozen leaves stay to the bit; the full mask is plain FedAvg."""
  stack = starts() | {"b": jnp.ones((M, 5)), "n": jnp.arange(M)}
  loss = lambda p, batch: quadratic(p, batch) + (p["b"] ** 2).sum()  # noqa: E731
  part = train(average.fedavg(), stack, loss=loss, only="w")
  assert part.params["b"].tolist() == stack["b"].tolist()
  assert part.params["n"].tolist() == [0, 1, 2, 3]
  full = train(average.fedavg(), stack, loss=loss)
  both = train(average.fedavg(), stack, loss=loss, only=["w", "b"])
  problems.close(full.params, both.params, 0, 0)
  payload = (part.sent[0] / M - 8, full.sent[0] / M - 8)
  assert payload == (24, 44)


@pytest.mark.parametrize(
  ("name", "sharded"),
  [("fedavg", False), ("noloco", False), ("gossip", True)],
)
def test_a_replica_that_is_not_finite_is_named_and_left_out(name, sharded):
  """The others go on as if it had been absent; it goes on from its anchor."""
  mesh = None
  if sharded:
    mesh = jax.make_mesh((M,), ("population",), devices=jax.devices()[:M])
  data = targets()
  data["y"][2] = np.nan
  with pytest.warns(UserWarning, match="replica 2 is not finite after round 0"):
    found = train(METHODS[name](), starts(), data=data, mesh=mesh)
  assert found.lost == [(r, 2) for r in range(R)]
  absent = average.everyone(R, M)
  absent.present[:, 2] = False
  wanted = train(METHODS[name](), starts(), schedule=absent)
  problems.close(found.params, wanted.params, 1e-5)
  assert found.sent.tolist() == wanted.sent.tolist()


def test_a_replica_comes_back_with_the_optimiser_of_before():
  """One example of four is NaN: rounds that draw it leave no trace."""
  data = {"y": np.repeat(targets()["y"], 4, 1)}
  data["y"][2, 3] = np.nan
  settings = dict(tx=optax.sgd(0.1, momentum=0.9), data=data, rounds=12)
  with pytest.warns(UserWarning, match="replica 2"):
    found = train(average.fedavg(), steps=1, **settings)
  rounds = [turn for turn, _ in found.lost]
  assert rounds and set(range(rounds[0], 12)) > set(rounds)
  assert np.isfinite(found.params["w"]).all()


@pytest.mark.parametrize("name", ["diloco", "noloco", "gossip"])
def test_narrow_floats_stay_narrow(name):
  stack = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), starts(0.5))
  data = {"y": targets()["y"].astype(ml_dtypes.bfloat16)}
  found = train(METHODS[name](), stack, data=data)
  assert found.params["w"].dtype == ml_dtypes.bfloat16
  wide = train(METHODS[name](), starts(0.5))
  # The inner steps round to 8 bits; the meeting itself does not.
  gap = np.abs(np.asarray(found.params["w"], float) - wide.params["w"])
  assert gap.max() < 0.08


def test_inputs_are_left_as_they_were_and_rounds_are_reported():
  stack, seen = starts(), []
  train(average.noloco(), stack, on_round=lambda r, s: seen.append((r, s)))
  problems.close(stack, starts(), 0, 0)
  assert [r for r, _ in seen] == [1, 2, 3, 4]
  problems.close(seen[-1][1], train(average.noloco()).params, 0, 0)


def test_schedules():
  rates = np.array([0.2, 0.5, 1.0])
  for pattern in ("bernoulli", "markov", "cyclic"):
    drawn = average.participation(KEY, 4000, rates, pattern).present
    np.testing.assert_allclose(drawn.mean(0), rates, atol=0.05)
    again = average.participation(KEY, 4000, rates[:2], pattern).present
    assert (drawn[:, :2] == again).all()  # others do not matter
  gaps = np.diff(np.flatnonzero(
    average.participation(KEY, 100, [0.25], "cyclic").present[:, 0]
  ))  # fmt: skip
  assert (gaps == 4).all()
  moves = average.participation(KEY, 4000, [0.5], "markov", stay=0.95).present
  assert (np.diff(moves[:, 0].astype(int)) != 0).mean() < 0.08
  late = average.stragglers(KEY, average.everyone(500, 4), 0.3, slowest=0.5)
  assert abs((late.share < 1).mean() - 0.3) < 0.05
  assert late.share.min() >= 0.5


@pytest.mark.parametrize("count", [4, 6, 8])
def test_pairs_are_a_tournament(count):
  """Everyone has one partner, and each of the others equally often."""
  seen = np.zeros((count, count))
  for turn in range(100):
    matrix = average.groups(KEY, turn, count)
    matrices.check(matrix, "doubly", "pairs")
    assert (np.count_nonzero(matrix, 0) == 2).all()
    seen += matrix > 0
  assert len({average.groups(KEY, t, count).tobytes() for t in range(100)}) == (
    count - 1
  )
  off = seen[~np.eye(count, dtype=bool)]
  assert off.min() > 0.4 * 100 / (count - 1)
  odd = average.groups(KEY, 0, 5, 2)
  matrices.check(odd, "doubly", "pairs")
  assert np.count_nonzero(odd) == 9


def test_matrices_in_closed_form():
  assert average.spectral_gap(average.complete(5)) == pytest.approx(1.0)
  wanted = 1 - (1 + 2 * np.cos(2 * np.pi / 6)) / 3
  assert average.spectral_gap(average.ring(6)) == pytest.approx(wanted)
  rate = 0.3
  gap = average.spectral_gap(average.sharing(4, rate))
  assert gap == pytest.approx(rate * 4 / 3)
  equal = average.mix(problems.stack(4), average.sharing(4, 3 / 4))
  mean = ws.weighted_mean(problems.stack(4))
  for model in ws.unstack(equal):
    problems.close(model, mean)


def test_mix_is_a_product():
  stack, matrix = problems.stack(3), np.random.default_rng(0).random((3, 3))
  matrix /= matrix.sum(1, keepdims=True)
  wanted = jax.tree.map(lambda x: np.einsum("ij,j...->i...", matrix, x), stack)
  problems.close(average.mix(stack, matrix), wanted)
  problems.close(jax.jit(average.mix)(stack, jnp.asarray(matrix)), wanted)
  problems.close(average.mix(stack, np.eye(3)), stack, 0, 0)
  narrow = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), stack)
  for x in jax.tree.leaves(average.mix(narrow, matrix)):
    assert x.dtype == ml_dtypes.bfloat16
  steps = {"w": jnp.ones(2), "n": jnp.array([3, 4])}
  assert average.mix(steps, np.full((2, 2), 0.5))["n"].tolist() == [3, 4]


WORKER = """
import sys, numpy as np, jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
rank, port, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
from tests.average.workers import test_replicas as here
mesh = jax.make_mesh((4,), ("population",))
found = {}
for name in ("diloco", "noloco", "ring", "fedau"):
  done = here.train(
    here.METHODS[name](), here.starts(0.5), schedule=here.absences(), mesh=mesh
  )
  found[name] = np.asarray(done.params["w"])
np.savez(f"{out}/{rank}.npz", **found)
"""


def test_convolutions_are_fast_in_a_round(monkeypatch):
  """XLA's CPU backend has quick kernels for this order alone in a loop."""
  model = models.build(name="vgg", norm="none", widths=(2, 3), depths=(1, 1))
  x = jnp.ones((2, 3, 4, 4, 3))
  keys = jax.random.split(KEY, 2)
  stack = jax.vmap(lambda key: model.init(key, x[0]))(keys)
  data = {"x": x, "y": jnp.zeros((2, 3), int)}
  loss = losses.of(model.apply, losses.cross_entropy)
  texts, advance = [], rounds.advance

  def seen(*args):
    texts.append(advance.lower(*args).as_text())
    return advance(*args)

  monkeypatch.setattr(rounds, "advance", seen)
  settings = dict(key=KEY, rounds=1, steps=2, batch_size=2)
  average.replicate(
    loss, stack, optax.sgd(0.1), data, average.fedavg(), **settings
  )
  orders = re.findall(r"dim_numbers = (.*?), window", texts[0])
  assert orders == ["[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"] * 5
  groups = set(re.findall(r"group_count = (\d+)", texts[0]))
  assert groups == {"1"}  # of no other replica's


@pytest.mark.slow
def test_two_processes_give_the_same(tmp_path):
  """Two processes of two devices each, talking over loopback (gloo)."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = str(free.getsockname()[1])
  (tmp_path / "worker.py").write_text(WORKER)
  path = f"{ROOT}:{ROOT / 'tests'}"
  env = {"PYTHONPATH": path, "PATH": "", "JAX_PLATFORMS": "cpu"}
  workers = [
    subprocess.Popen(
      [sys.executable, "worker.py", str(rank), port, str(tmp_path)],
      cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True,
    )
    for rank in range(2)
  ]  # fmt: skip
  try:
    said = [worker.communicate(timeout=300)[1] for worker in workers]
  finally:
    for worker in workers:
      worker.kill()
  for worker, text in zip(workers, said):
    assert worker.returncode == 0, text[-3000:]
  both = [np.load(tmp_path / f"{rank}.npz") for rank in range(2)]
  for name in both[0].files:
    alone = train(METHODS[name](), starts(0.5), schedule=absences())
    for found in both:
      np.testing.assert_allclose(found[name], alone.params["w"], rtol=2e-6)


def bad_schedule():
  return average.everyone(R, M + 1)


@pytest.mark.parametrize(
  ("make", "words"),
  [
    (lambda: average.mix(starts(), np.ones((4, 3))), r"\(4, 3\), expected sq"),
    (lambda: average.mix(starts(), np.ones((4, 4))), "row 0 sums to 4"),
    (lambda: average.mix(starts(), np.eye(3)), r"expected \(4, 4\)"),
    (
      lambda: average.mix(starts(), 2 * np.eye(4) - 0.25 * np.ones((4, 4))),
      r"matrix\[0, 1\] is -0.25, expected no negative",
    ),
    (
      lambda: average.mix(starts(), np.eye(4)[[0, 0, 0, 0]], "doubly"),
      "column 0 sums to 4",
    ),
    (
      lambda: average.mix({"w": jnp.array([1.0, jnp.nan])}, np.eye(2)),
      "NaN in 'w' of model 1",
    ),
    (lambda: average.mix(starts(), np.full((4, 4), np.nan)), "is nan"),
    (lambda: average.mix(starts(), np.eye(4), "row"), "stochastic is 'row'"),
    (lambda: average.gossip(np.eye(4)[[0] * 4]), "gossip: column 0 sums to 4"),
    (
      lambda: train(average.gossip(average.ring(3))),
      r"matrix of shape \(3, 3\) for 4 replicas",
    ),
    (lambda: train(average.fedavg(weights=[1.0])), "1 weights for 4 replicas"),
    (lambda: average.fedavg(weights=[0.0, 0.0]), "expected .M. of sum above 0"),
    (lambda: average.fedavg(absent="none"), "absent is 'none'"),
    (lambda: average.fedau(cutoff=0), "cutoff is 0"),
    (lambda: average.diloco(kind="polyak"), "kind is 'polyak'"),
    (lambda: average.noloco(group=1), "group is 1"),
    (lambda: average.noloco(0.0), "noloco: learning_rate 0.0"),
    (lambda: average.noloco(momentum=1.0), "noloco: momentum 1.0"),
    (lambda: average.fedavg(np.nan), "fedavg: learning_rate nan"),
    (lambda: average.fedau(-1.0), "fedau: learning_rate -1.0"),
    (lambda: average.diloco(0.7, -0.1), "diloco: momentum -0.1"),
    (lambda: average.groups(KEY, 0, 4, 5), "size is 5, expected 1 to 4"),
    (lambda: average.sharing(2, 1.5), "rate is 1.5"),
    (
      lambda: average.participation(KEY, 3, [1.0, 0.0]),
      "rate of replica 1 is 0, expected 0 < rate",
    ),
    (lambda: average.participation(KEY, 0, [1.0]), "0 rounds"),
    (lambda: average.participation(KEY, 1, [1.0], "x"), "pattern is 'x'"),
    (
      lambda: average.stragglers(KEY, average.everyone(1, 1), 2.0),
      "chance 2.0",
    ),
    (lambda: train(average.fedavg(), rounds=0), "rounds is 0"),
    (lambda: train(average.fedavg(), steps=0), "steps is 0"),
    (
      lambda: train(average.fedavg(), schedule=bad_schedule()),
      r"shape \(4, 5\), expected \(4, 4\)",
    ),
    (lambda: train(average.fedavg(), only="v*"), r"'v\*' matches no path of w"),
    (
      lambda: train(average.fedavg(), data=targets(3)),
      r"'y' has shape \(3, 1, 3\), expected \[4, N, ...\]",
    ),
    (
      lambda: train(
        average.fedavg(),
        mesh=jax.make_mesh((3,), ("population",), devices=jax.devices()[:3]),
      ),
      "expected an axis 'population' that divides 4",
    ),
    (
      lambda: train(average.fedavg(), {"w": jnp.full((4, 2, 3), jnp.nan)}),
      "NaN in 'w' of model 0",
    ),
  ],
)
def test_bad_input_is_named(make, words):
  with pytest.raises(ValueError, match=words):
    make()


def test_a_consensus_outside_of_the_papers_interval_is_told():
  with pytest.warns(UserWarning, match=r"consensus is 2, outside"):
    average.noloco(consensus=2.0)


CLIENTS = [
  {"x": jnp.full((n, 1), float(value))}
  for n, value in ((2, 1.0), (6, 5.0), (4, -3.0))
]


def towards(params, batch):
  return 0.5 * (params["w"][None] - batch["x"]).sum(1) ** 2


def unequal(data, method, **settings):
  return average.replicate(
    towards, {"w": jnp.zeros((3, 1))}, optax.sgd(1.0), data, method,
    key=jax.random.key(0), rounds=1, steps=1, batch_size=3, **settings,
  ).params["w"].ravel()  # fmt: skip


def test_clients_of_unequal_size_draw_from_their_own_and_weigh_by_it():
  found = unequal(CLIENTS, average.fedavg())
  np.testing.assert_allclose(found, (2 * 1 + 6 * 5 - 4 * 3) / 12, 1e-6)
  padded = {"x": jnp.full((3, 6, 1), jnp.nan)}
  for row, client in enumerate(CLIENTS):
    n = len(client["x"])
    padded["x"] = padded["x"].at[row, :n].set(client["x"])
  again = unequal(padded, average.fedavg(), counts=[2, 6, 4])
  np.testing.assert_array_equal(again, found)
  own = unequal(CLIENTS, average.alone())
  np.testing.assert_allclose(own, [1.0, 5.0, -3.0])
  even = unequal(CLIENTS, average.fedavg(weights=[1.0, 1.0, 1.0]))
  np.testing.assert_allclose(even, 1.0, 1e-6)


def test_sampling_within_a_client_is_even():
  n = [3, 8, 5]
  data = [{"x": jnp.arange(1.0, k + 1)[:, None]} for k in n]

  def seen(params, batch):
    return params["w"][0] * batch["x"][:, 0]  # the gradient is the mean drawn

  found = average.replicate(
    seen, {"w": jnp.zeros((3, 1))}, optax.sgd(1.0), data, average.alone(),
    key=jax.random.key(1), rounds=1, steps=1, batch_size=20000,
  ).params["w"].ravel()  # fmt: skip
  np.testing.assert_allclose(-found, [(k + 1) / 2 for k in n], 0.03)


@pytest.mark.parametrize(
  ("data", "settings", "words"),
  [
    ([*CLIENTS[:2], {"x": jnp.ones((0, 1))}], {}, "client 2 has leading"),
    ([*CLIENTS[:2], {"y": jnp.ones((2, 1))}], {}, "client 2: 'x' is missing"),
    ([*CLIENTS[:2], {"x": jnp.ones((2, 4))}], {}, "client 2: 'x' is"),
    ({"x": jnp.ones((3, 4, 1))}, {"counts": [1, 2, 5]}, "counts: "),
    ({"x": jnp.ones((3, 4, 1))}, {"counts": [1, 2]}, "counts: "),
    ({"x": jnp.ones((3, 4, 1))}, {"counts": [1, 0, 2]}, "counts: "),
  ],
)
def test_sizes_that_do_not_fit_are_named(data, settings, words):
  with pytest.raises(ValueError, match=words):
    unequal(data, average.fedavg(), **settings)
