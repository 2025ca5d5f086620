"""Pairs of models: the line, a trained curve, the plane of both, and spectra.

For each seed two models are trained from independent starts (or loaded), a
Bezier curve is trained between them, and loss and error are measured along
both; of the first pair also the plane through the ends and the bend, and the
Hessian's spectrum at an end and half-way.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weightspace as ws
from experiments.bench import classifiers, text
from experiments.landscape import panels
from experiments.run import claims, runs
from experiments.run.claims import Claim, Verdict, below, every, said
from weightspace import figures, probe
from weightspace.types import Stack

PLACES = np.linspace(0.0, 1.0, 25)


def measure(run: runs.Run) -> None:
  """Train or load the pairs, train the curves, and log all losses."""
  config = run.config
  model, train, test = classifiers.data(run)
  loss, error = classifiers.risk(model), classifiers.error(model)
  seeds = config.seeds

  def begin() -> Stack:
    if config.models:
      return ws.stack([ws.checkpoints.restore(p) for p in config.models])
    return text.starts(model, train["x"], run.key, 2 * seeds)

  if config.models:
    stack, seeds = begin(), len(config.models) // 2
  else:
    stack = classifiers.fit(
      run, "models", loss, begin, train, settings=config.train, key=run.key
    )
  a, b = (
    jax.tree.map(lambda x, k=k: jnp.asarray(x[k::2]), stack) for k in (0, 1)
  )

  def bend() -> Any:
    key = jax.random.fold_in(run.key, 1)
    found = probe.fit_curves(loss, train, a, b, key, **config.curve)
    return ws.stack([path.points for path in found])

  points = run.once("curves", bend)
  for seed in range(seeds):
    curve = probe.bezier(jax.tree.map(lambda x, s=seed: x[s], points))
    one, two = (jax.tree.map(lambda x, s=seed: x[s], m) for m in (a, b))
    for name, path in {"line": probe.line(one, two), "curve": curve}.items():
      _log(
        run, seed, name, path, {"train": (loss, train), "test": (error, test)}
      )
    if seed == 0:
      _around(run, loss, train, one, two, curve=curve)


def _log(run: runs.Run, seed: int, name: str, path: Any, of: Any) -> None:
  """Log the losses on a path and their barriers."""
  for split, (function, data) in of.items():
    key = jax.random.fold_in(run.key, seed)
    found = probe.barrier_on(
      path, function, data, len(PLACES), key=key, draws=200
    )
    ends = found.intervals or {}
    run.log(
      seed=seed,
      path=name,
      split=split,
      chord=found.chord,
      mean=found.mean,
      connectivity=found.connectivity,
      violation=found.violation,
      low=ends["chord"].low,
      high=ends["chord"].high,
    )
    for place, value in enumerate(found.losses):
      run.log(
        seed=seed, path=name, split=split, place=place, value=float(value)
      )


def _around(
  run: runs.Run, loss: Any, train: Any, one: Any, two: Any, *, curve: Any
) -> None:
  """Keep the plane through the first pair and its bend, and three spectra."""
  config = run.config.plane
  data = jax.tree.map(lambda x: x[: config.examples], train)
  middle = jax.tree.map(lambda x: x[1], curve.points)
  plane = probe.triangle(one, two, middle)
  spots = np.array([plane.coordinates(p)[:2] for p in (one, two, middle)])
  low, high = spots.min(0), spots.max(0)
  edge = 0.2 * (high - low).max()
  us, vs = (
    np.linspace(low[i] - edge, high[i] + edge, config.points[i]) for i in (0, 1)
  )

  def grid() -> Any:
    spanned = _spanned(plane)
    found = probe.surface(loss, data, *spanned, us, vs, mesh=run.mesh)
    places = [plane.coordinates(curve(t))[:2] for t in np.linspace(0, 1, 41)]
    both = {"us": us, "vs": vs, "spots": spots}
    return both | {"grid": np.asarray(found), "curve": np.array(places)}

  def spectra() -> Any:
    line = probe.line(one, two)
    found, key = {}, jax.random.fold_in(run.key, 2)
    spots = {"end": one, "on the curve": curve(0.5), "on the line": line(0.5)}
    for name, params in spots.items():
      operator = probe.hessian(loss, params, data)
      nodes, weights = probe.density(operator, key, config.steps, config.probes)
      top = probe.top_eigenpairs(operator, 1, config.steps, key)[0][0]
      found[name] = {"nodes": nodes, "weights": weights, "top": top[None]}
    return found

  run.once("plane", grid)
  run.once("spectra", spectra)


def _spanned(plane: Any) -> tuple[Any, Any, Any]:
  return plane.origin, plane.u, plane.v


def judge(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: the curve's barrier is far below that of the line."""
  texts, verdicts = [], []
  for split, share, unit in (("train", 0.1, "nats"), ("test", 0.2, "error")):
    line, curve = (
      claims.rows(run, "chord", "path", split=split)[name]
      for name in ("line", "curve")
    )
    both = [said(x, "", 3, signed=False) for x in (line, curve)]
    texts.append(f"{split} barrier ({unit}): line {both[0]}, curve {both[1]}")
    verdicts.append(below(curve - share * line))
  return f"{'; '.join(texts)}, over {len(line)} pairs", every(*verdicts)


def finish(run: runs.Run) -> None:
  """Judge the claim, and write the table and the figures."""
  numbers = claims.table(
    {
      f"{split}, {kind}": claims.rows(run, kind, "path", split=split)
      for split in ("train", "test")
      for kind in ("chord", "mean")
    }
  )
  kept = run.once("plane", dict), run.once("spectra", dict)
  charts = {"connect": _draw(run, kept[0]), "spectrum": _spectra(kept[1])}
  claims.finish(run, Claim(judge), numbers, charts)


def _values(run: runs.Run, name: str, split: str) -> list[list[float]]:
  found = claims.only(run, "value", path=name, split=split)
  seeds = sorted({line["seed"] for line in found})
  return [
    [
      line["value"]
      for line in sorted(found, key=lambda x: x["place"])
      if line["seed"] == seed
    ]
    for seed in seeds
  ]


def _draw(run: runs.Run, kept: Any) -> tuple[Any, str]:
  spots = kept["spots"]
  models = {
    name: tuple(spot) for name, spot in zip(("A", "B", "bend"), spots.tolist())
  }
  straight = spots[:2]
  drawn = figures.figure(
    panels.contour(
      kept["us"],
      kept["vs"],
      kept["grid"],
      models,
      {"line": straight, "curve": kept["curve"]},
      title="The plane of one pair",
    ),
    figures.curves(
      PLACES,
      {n: _values(run, n, "train") for n in ("line", "curve")},
      ("place on the path", "training loss"),
      "Between two models",
    ),
    width=11.0,
    height=4.2,
  )
  caption = (
    "Left: training loss in the plane through two models and the bend of the"
    " curve between them; distances in weight space, the loss on a log scale."
    " Right: training loss on the line and on the curve, mean over pairs and"
    " 95 % band. In the table, barriers above the chord and above the mean of"
    " the ends."
  )
  return drawn, caption


def _spectra(kept: Any) -> tuple[Any, str]:
  found = {name: (x["nodes"], x["weights"]) for name, x in kept.items()}
  tops = {name: float(x["top"][0]) for name, x in kept.items()}
  drawn = figures.figure(
    panels.spectrum(found, tops, "The Hessian of the training loss"),
    width=7.0,
  )
  return drawn, (
    "Spectral density of the Hessian at one end and half-way on both paths, by"
    " stochastic Lanczos quadrature; triangles: top eigenvalues."
  )
