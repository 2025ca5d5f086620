"""Rich and lazy learning: networks whose recurrent matrix starts at some rank.

A ReLU network reads images row by row.  Its recurrent matrix is replaced by its
truncated SVD, scaled back to the same Frobenius norm, and all networks are
trained alike.  Before and after are compared: the change of that matrix, the
alignment of the last hidden activity, and that of the tangent kernel of that
matrix.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.bench import classifiers
from experiments.run import claims, runs
from experiments.run.claims import (
  Claim,
  Verdict,
  above,
  below,
  every,
  over,
  said,
)
from weightspace import figures, losses, probe
from weightspace.types import Key, Params, Stack

MEASURES = {
  "change": "change of the matrix",
  "representation": "representation alignment",
  "kernel": "tangent kernel alignment",
  "signs": "equal activation signs",
}


def start(
  key: Key, size: int, inputs: int, classes: int, gain: float
) -> Params:
  """Return a network; its recurrent matrix has std gain / sqrt(size)."""
  keys = jax.random.split(key, 3)
  shapes = {
    "into": (inputs, size),
    "again": (size, size),
    "out": (size, classes),
  }
  scales = inputs**-0.5, gain * size**-0.5, size**-0.5
  return {
    name: scale * jax.random.normal(key, shape)
    for key, scale, (name, shape) in zip(keys, scales, shapes.items())
  } | {"bias": jnp.zeros(size), "out_bias": jnp.zeros(classes)}


def hidden(params: Params, x: jax.Array) -> jax.Array:
  """Return the activity [B, size] after the last row of images [B, H, W, C]."""
  x = x.reshape(*x.shape[:2], -1)
  h = jnp.zeros((len(x), len(params["again"])))
  for row in range(x.shape[1]):
    drive = x[:, row] @ params["into"] + params["bias"][None]
    h = jax.nn.relu(drive + h @ params["again"])
  return h


def apply(params: Params, x: jax.Array) -> jax.Array:
  """Return the logits [B, classes]."""
  return hidden(params, x) @ params["out"] + params["out_bias"][None]


def truncate(params: Params, rank: int) -> Params:
  """Return the network with its recurrent matrix cut to a rank, norm kept."""
  whole = np.asarray(params["again"], float)
  left, sizes, right = np.linalg.svd(whole)
  sizes = np.where(np.arange(len(sizes)) < rank, sizes, 0.0)
  cut = (left * sizes) @ right
  cut = cut * np.linalg.norm(whole) / np.linalg.norm(cut)
  return params | {"again": jnp.asarray(cut, jnp.float32)}


def measure(run: runs.Run) -> None:
  """Train all ranks of all seeds in one call; log the measures of each."""
  config = run.config
  splits, ranks = run.data(), list(config.ranks)
  count = config.examples or len(splits.train["y"])
  train = jax.tree.map(lambda x: jnp.asarray(x[:count]), splits.train)
  test = jax.tree.map(jnp.asarray, splits.test)
  loss = losses.of(apply, losses.cross_entropy)
  right = losses.of(apply, losses.accuracy)
  seeds = range(config.seeds)

  def begin() -> Stack:
    width = int(np.prod(train["x"].shape[2:]))
    keys = jax.random.split(run.key, config.seeds)
    whole = [start(key, config.size, width, 10, config.gain) for key in keys]
    return ws.stack([truncate(m, rank) for rank in ranks for m in whole])

  before = begin()
  numbers = [seed for _ in ranks for seed in seeds]
  after = classifiers.fit(
    run,
    "models",
    loss,
    begin,
    train,
    settings=config.train,
    key=run.key,
    seeds=numbers,
  )
  inputs = test["x"][: config.inputs]
  for index, rank in enumerate(ranks):
    for seed in seeds:
      place = index * len(seeds) + seed
      one, two = (
        jax.tree.map(lambda x, m=place: jnp.asarray(x[m]), stack)
        for stack in (before, after)
      )
      found = _compare(one, two, inputs)
      found["loss"] = float(loss(two, train).mean())
      found["accuracy"] = 100 * float(right(two, test).mean())
      run.log(seed=seed, rank=rank, **found)


def _compare(one: Params, two: Params, x: jax.Array) -> dict[str, float]:
  kernels = [p["again"] for p in (one, two)]
  active = [hidden(p, x) for p in (one, two)]
  align = probe.kernel_alignment(apply, one, two, x, only=["again"], full=False)
  return {
    "change": float(jnp.linalg.norm(kernels[1] - kernels[0])),
    "representation": float(probe.representation_alignment(*active)),
    "kernel": float(align),
    "signs": float(probe.sign_agreement(*active)),
    "effective_rank": float(probe.effective_rank(kernels[0])),
  }


def _rows(run: runs.Run, rank: int, name: str) -> np.ndarray:
  return claims.gather(run, name, rank=rank)[:, 0]


def judge(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: from a low rank the matrix changes more, and alignments fall."""
  low, full = run.config.low, max(run.config.ranks)
  texts, verdicts = [], []
  for name in ("change", "representation", "kernel"):
    gap = _rows(run, low, name) - _rows(run, full, name)
    texts.append(f"{MEASURES[name]} {said(gap, '', 3)}")
    verdicts.append(above(gap) if name == "change" else below(gap))
  text = f"rank {low} minus rank {full}: {'; '.join(texts)}, {over(run)}"
  return text, every(*verdicts)


def finish(run: runs.Run) -> None:
  """Judge the claim, and write the table and the figure."""
  ranks = list(run.config.ranks)
  labels = MEASURES | {"loss": "training loss", "accuracy": "test (%)"}
  numbers = claims.table(
    {
      label: {f"rank {rank}": _rows(run, rank, name) for rank in ranks}
      for name, label in labels.items()
    }
  )
  panels = [
    _log_axis(
      figures.curves(
        ranks,
        {label: np.stack([_rows(run, r, name) for r in ranks], 1)},
        ("initial rank", label),
        label[0].upper() + label[1:],
      ),
      ranks,
    )
    for name, label in list(MEASURES.items())[:3]
  ]
  drawn = figures.figure(*panels, width=12.0, height=3.6)
  caption = (
    "Networks whose recurrent matrix starts at a given rank and the same norm:"
    " what training changed, mean over seeds and 95 % band. Lower alignments"
    " are richer learning."
  )
  claims.finish(run, Claim(judge), numbers, {"lazy": (drawn, caption)})


def _log_axis(panel: figures.Panel, ranks: list[int]) -> figures.Panel:
  def draw(axes: Any) -> None:
    panel(axes)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(rank) for rank in ranks])

  return draw
