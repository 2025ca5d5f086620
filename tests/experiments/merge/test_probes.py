"""Probes of the bed, and the small mains beside it, on drawn models."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import weightspace as ws
from experiments.bench import task_vectors
from experiments.merge import (
  patch_claims,
  patches,
  probe_judges,
  probes,
)
from experiments.merge_transfer import results
from experiments.merge_variance import results as merge_variance_results
from experiments.run import app
from experiments.run.claims import gather
from experiments.run.verdicts import WORDS
from weightspace import losses, trees

KEY = jax.random.key(0)


def begin(tmp_path, **changes):
  about = {"experiment": "merge", "name": "n", "command": "c"}
  config = ml_collections.ConfigDict(
    {
      "seed": 0,
      "seeds": 1,
      "head": "",
      "shown": {"validation": 20, "test": 40},
      "base": {"task": {"data": "digits"}},
      "tasks": {name: {"data": "digits"} for name in "abc"},
      "methods": {
        "Breadcrumbs": {
          "recipe": "breadcrumbs",
          "scale": 0.3,
          "options": {"keep": (0.4, 0.8), "top": 0.1},
        },
        "OPCM": {"recipe": "opcm", "options": {"alpha": 0.5}},
      },
    }
  )
  config.update(changes)
  return app.begin(tmp_path, config, config.to_dict(), about, None)


@pytest.fixture
def run(tmp_path):
  begun = begin(tmp_path)
  yield begun
  begun.lock.close()


def bed(run, count=3):
  """A base and experts around it, none of them trained."""
  model = ws.models.build("mlp", hidden=(12,))
  x = jnp.ones((1, 8, 8, 1))
  base = model.init(KEY, x)
  leaves, structure = jax.tree.flatten(base)
  keys = jax.random.split(KEY, (count, len(leaves)))
  experts = [
    jax.tree.unflatten(
      structure,
      [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, row)],
    )
    for row in keys
  ]
  loss = losses.of(model.apply, losses.cross_entropy)
  score = losses.of(model.apply, losses.accuracy)
  first = ws.stack([base]), ws.stack([ws.stack(experts)])
  return task_vectors.Bed("bed", run, model, loss, score, *first)


@pytest.mark.slow
def test_dropping_nothing_leaves_all(run, monkeypatch):
  monkeypatch.setattr(probes, "RATES", (0.0, 0.1, 0.9))
  run.config.tasks = {"a": {"data": "digits"}}
  probes.drop(bed(run, count=1), 0)
  found = gather(run, "normalised", rate="0")
  np.testing.assert_allclose(found, 100.0)
  deltas = gather(run, "normalised", dropped="deltas")
  assert deltas.shape == (1, len(probes.RATES))
  judged, holds = probe_judges.dare(run)
  assert "90 % of task vectors" in judged and holds.word in WORDS


def test_breadcrumbs_keeps_its_share_of_every_row(run):
  made = bed(run)
  probes.kept(made, 0)
  assert (gather(run, "wrong") == 0).all()
  norm = gather(run, "norm kept")
  assert ((norm > 0) & (norm < 100)).all()


def test_a_wrong_count_of_breadcrumbs_shows(run, monkeypatch):
  monkeypatch.setattr(
    ws.merge, "breadcrumbs", lambda **_: ws.merge.task_arithmetic(1.0)
  )
  probes.kept(bed(run), 0)
  assert gather(run, "wrong").max() > 0


@pytest.mark.slow
def test_as_many_basis_vectors_as_models_lose_nothing(run):
  probes.reversible(bed(run), 0)
  errors = gather(run, "error")[0]
  assert (np.diff(errors) < 0).all() and errors[-1] < 1e-10
  assert gather(run, "mismatch").max() < 1e-5
  last, whole = (
    gather(run, "accuracy", adapted=name) for name in ("RMM, p = 3", "adapters")
  )
  np.testing.assert_allclose(last, whole, atol=1e-3)
  stored = gather(run, "stored")[0]
  # p (r + M) / (r M) with M = 3 and ranks 12 (784 x 12) and 10 (12 x 10).
  assert stored[2] == pytest.approx(3 * stored[0], rel=1e-6)


def test_adapters_of_full_rank_are_the_task_vector():
  delta = {"w": jax.random.normal(KEY, (9, 5))}
  factors = probes._factors(delta)
  assert factors["w_a"].shape == (9, 5)
  product = probes._product(factors)
  np.testing.assert_allclose(product["w"], delta["w"], atol=1e-5)


def test_opcm_is_orthogonal_and_constant(run):
  probes.continual(bed(run), 0)
  size = gather(run, "bytes")[0]
  assert len(size) == 3 and len(set(size)) == 1
  assert gather(run, "overlap").max() < 1e-5
  np.testing.assert_allclose(gather(run, "length"), 1.0, atol=1e-5)


def test_the_interaction_loss_starts_at_the_sum_and_falls(run, monkeypatch):
  monkeypatch.setattr(probes, "STEPS", (1, 5))
  probes.descent(bed(run), 0)
  loss = gather(run, "interaction")[0]
  assert loss[0] == 1.0 and (np.diff(loss) < 0).all()


def test_signatures_of_scale_zero_are_the_clean_model(tmp_path):
  names = [f"{kind}, {group}" for kind in ("clean", "dark") for group in "ab"]
  tasks = {name: {"data": "digits"} for name in names}
  run = begin(tmp_path, shallow=("Dense_0/*",))
  run.config.tasks = tasks
  made = bed(run, count=4)
  patches.signatures(made, 0)
  run.lock.close()
  clean = jax.tree.map(lambda x: x[0, 1], made.experts)
  data = task_vectors.sets(made, 0, "test")["dark, b"]
  want = 100 * float(made.score(clean, data).mean())
  found = gather(run, "corrupted", scale="0", split="test")
  np.testing.assert_allclose(found, want, atol=1e-3)
  cosine = gather(run, "cosine")
  assert (np.abs(cosine) <= 1 + 1e-6).all() and cosine.shape == (1, 2)


def test_cosines_tell_one_corruption_from_two(run):
  for a in "xy":
    for b in "xy":
      run.log(
        seed=0, corruption=a, other=b, layers="all layers", cosine=float(a == b)
      )
  same, other = patch_claims.cosines(run, "all layers")
  assert same.tolist() == [1.0] and other.tolist() == [0.0]


def test_aligning_evens_norms_and_moves_nothing_else(tmp_path):
  run = begin(tmp_path, classifier="Dense_1/kernel")
  run.config.base.task = {"data": "digits", "classes": (0, 1, 2, 3, 4)}
  run.config.tasks = {"new": {"data": "digits"}}
  patches.aligned(bed(run, count=1), 0)
  run.lock.close()
  before, after = (
    gather(run, "norms", aligned=state)[0, 0] for state in ("before", "aligned")
  )
  assert abs(after - 1) < 1e-5 < abs(before - 1)
  assert gather(run, "moved")[0, 0] == 0.0


def test_transfer_is_measured_with_its_barrier(tmp_path):
  run = begin(tmp_path)
  run.config.task = {"data": "digits"}
  model = ws.models.build("mlp", hidden=(8,))
  x = jnp.ones((1, 8, 8, 1))
  old, source, other, target = (
    ws.stack([model.init(k, x)]) for k in jax.random.split(KEY, 4)
  )
  rows = {
    "same": (old, source, old, source),
    "far": (old, source, other, target),
  }
  for name, stacks in rows.items():
    results.measure(run, model, name, stacks)
  run.lock.close()
  lines = {x["version"]: x for x in run.lines.values()}
  same = lines["same"]
  assert same["distance"] == 0.0 and abs(same["barrier"]) < 1e-4
  assert same["transferred"] == pytest.approx(same["fine-tuned"])
  assert lines["far"]["distance"] > 1.0


def test_partners_end_at_one_average():
  stack = {"w": jnp.arange(4.0)[:, None] * jnp.ones((1, 3))}
  found = merge_variance_results._averaged(stack, "plain", KEY)["w"]
  assert found.shape == (4, 3)
  values, counts = np.unique(np.asarray(found[:, 0]), return_counts=True)
  assert (counts % 2 == 0).all() and values.sum() * 2 / len(values) == 3.0


def test_the_variance_of_means_is_a_share_and_is_mended(run):
  model = ws.models.build("mlp", hidden=(64,))
  keys = jax.random.split(KEY, 4)
  stack = ws.stack([model.init(k, jnp.ones((1, 8, 8, 1))) for k in keys])
  run.config.counts = (4,)
  merge_variance_results.measure_starts(run, stack, 0)
  (line,) = run.lines.values()
  assert line["ratio"] == pytest.approx(0.25, rel=0.05)
  assert line["corrected"] == pytest.approx(1.0, abs=1e-5)
  kernels = [x for x in jax.tree.leaves(trees.named(stack)) if x.ndim == 3]
  want = np.mean([np.var(np.asarray(x), (1, 2)).mean() for x in kernels])
  assert merge_variance_results._variance(stack) == pytest.approx(
    want, rel=1e-4
  )
