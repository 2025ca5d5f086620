"""Laws of sharpness: each measure against the quadratic form that it tends to.

At a minimum, for small rho: average sharpness is rho^2 / 2 tr H, adaptive
average rho^2 / 2 sum_i H_ii w_i^2, worst-case rho^2 / 2 times the top
eigenvalue.  Both sides are measured by different code: losses of perturbed
models on the one, Hessian products on the other.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import classifiers, text
from experiments.landscape import panels
from experiments.run import claims, runs
from experiments.run.claims import Claim, Verdict, every, over, said, within
from weightspace import figures, probe
from weightspace.types import Data, Loss, Params

LAWS = {
  "average": "average: trace",
  "adaptive": "adaptive: trace of wHw",
  "worst": "worst case: top eigenvalue",
}


def penalised(loss: Loss, decay: float) -> Loss:
  """Return the loss with decay / 2 |w|^2, which makes minima strict."""

  def total(params: Params, data: Data) -> jax.Array:
    squares = jax.tree.map(lambda x: (x.astype(jnp.float32) ** 2).sum(), params)
    return loss(params, data) + 0.5 * decay * sum(jax.tree.leaves(squares))

  return total


def measure(run: runs.Run) -> None:
  """Train to a minimum, and log both sides of each law at each radius."""
  config = run.config
  model, train, _ = classifiers.data(run)
  loss = penalised(classifiers.risk(model), config.decay)

  def begin() -> Any:
    return text.starts(model, train["x"], run.key, config.seeds)

  stack = classifiers.fit(
    run, "models", loss, begin, train, settings=config.train, key=run.key
  )
  for seed in range(config.seeds):
    params = jax.tree.map(lambda x, s=seed: jnp.asarray(x[s]), stack)
    key = jax.random.fold_in(run.key, seed)
    slope = jax.grad(lambda p: loss(p, train).mean())(params)
    norm = float(probe.distance(slope, jax.tree.map(jnp.zeros_like, slope)))
    predicted = _predict(loss, train, params, key, config)
    run.log(seed=seed, kind="minimum", gradient=norm, **predicted)
    for place, rho in enumerate(_radii(config)):
      found = _sharpness(loss, train, params, key, rho, config=config)
      for law, value in found.items():
        ratio = value / (0.5 * rho**2 * predicted[law])
        run.log(seed=seed, law=law, place=place, value=value, ratio=ratio)


def _radii(config: Any) -> np.ndarray:
  return np.geomspace(config.radii[0], config.radii[1], config.places)


def _predict(
  loss: Loss, data: Data, params: Params, key: Any, config: Any
) -> dict[str, float]:
  """Return what each sharpness over rho^2 / 2 shall tend to."""
  operator = probe.hessian(loss, params, data)

  def scaled(v: Params) -> Params:
    inner = operator(jax.tree.map(jnp.multiply, params, v))
    return jax.tree.map(jnp.multiply, params, inner)

  by_size = probe.from_function(scaled, params)
  top = probe.top_eigenpairs(operator, 1, config.steps, key)[0][0]
  found = [probe.trace(o, key, config.probes) for o in (operator, by_size)]
  return {
    "average": float(found[0][0]),
    "adaptive": float(found[1][0]),
    "worst": float(top),
    "average_stderr": float(found[0][1]),
    "adaptive_stderr": float(found[1][1]),
  }


def _sharpness(
  loss: Loss, data: Data, params: Params, key: Any, rho: float, *, config: Any
) -> dict[str, float]:
  found = {}
  for law in ("average", "adaptive"):
    value, _ = probe.average_sharpness(
      loss, params, data, key, rho, config.draws, adaptive=law == "adaptive"
    )
    found[law] = float(value)
  found["worst"] = float(
    probe.worst_sharpness(loss, params, data, rho, config.climb, key=key)
  )
  return found


def _ratios(run: runs.Run, law: str, place: int) -> np.ndarray:
  lines = claims.only(run, "ratio", law=law, place=place)
  return np.array([line["ratio"] for line in sorted(lines, key=_seed)])


def _seed(line: dict[str, Any]) -> int:
  return line["seed"]


def judge(run: runs.Run) -> tuple[str, Verdict]:
  """Judge: each measure is within a tenth of what the Hessian predicts."""
  place = run.config.judged
  ratios = {name: _ratios(run, law, place) for law, name in LAWS.items()}
  texts = [f"{n} {said(x, '', 3, signed=False)}" for n, x in ratios.items()]
  measured = (
    f"measured over predicted at rho {_radii(run.config)[place]:.2g}:"
    f" {'; '.join(texts)}, {over(run)}"
  )
  return measured, every(*(within(x, 0.9, 1.1) for x in ratios.values()))


def finish(run: runs.Run) -> None:
  """Judge the claim, and write the table and the figure."""
  numbers = claims.table(
    {
      f"rho {rho:.2g}": {
        name: _ratios(run, law, place) for law, name in LAWS.items()
      }
      for place, rho in enumerate(_radii(run.config))
    }
  )
  claims.finish(run, Claim(judge), numbers, {"laws": _draw(run)})


def _draw(run: runs.Run) -> tuple[Any, str]:
  radii = _radii(run.config)
  places = range(len(radii))
  curves = {
    name: np.stack([_ratios(run, law, place) for place in places], 1)
    for law, name in LAWS.items()
  }
  points = {}
  for law, name in LAWS.items():
    found = claims.only(run, "ratio", law=law)
    values = np.array([line["value"] for line in found])
    ratios = np.array([line["ratio"] for line in found])
    points[name] = values / ratios, values
  drawn = figures.figure(
    panels.scatter(
      points,
      ("predicted by the Hessian", "measured sharpness"),
      "Each seed at each radius",
      log=True,
    ),
    _log_axis(
      figures.curves(
        radii, curves, ("radius rho", "measured / predicted"), "Ratio by radius"
      )
    ),
    width=11.0,
    height=4.0,
  )
  return drawn, (
    "Left: sharpness against rho^2 / 2 times what the Hessian gives, for every"
    " seed and radius. Right: their ratio, mean over seeds and 95 % band: 1"
    " where the loss is quadratic."
  )


def _log_axis(panel: figures.Panel) -> figures.Panel:
  def draw(axes: Any) -> None:
    panel(axes)
    axes.set_xscale("log")
    axes.axhline(1.0, color=figures.INK, lw=0.8, ls=":")

  return draw
