"""Panels of planes, paths, spectra and sweeps, on results of probes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightspace as ws
from weightspace import probe

pytest.importorskip("matplotlib")
KEY = jax.random.key(0)


def drawn(panel):
  figure = ws.figures.figure(panel)
  text = ws.figures.svg(figure)
  assert text.startswith("<svg") or "<svg" in text
  return figure.axes[0], figure


def loss(p, x):
  return ((p["w"] - x) ** 2).sum(-1)


A, B, C = ({"w": jnp.array(w)} for w in ([0.0, 0.0], [3.0, 0.0], [1.0, 2.0]))
DATA = jnp.ones((8, 2)) + jax.random.normal(KEY, (8, 2))


def total(p, x):
  return loss({"w": p["w"][None]}, x)


def test_a_plane_with_models_and_a_curve():
  plane = probe.triangle(A, B, C)
  us, vs = np.linspace(-1, 4, 6), np.linspace(-1, 3, 5)
  grid = probe.surface(total, DATA, plane.origin, plane.u, plane.v, us, vs)
  models = {n: plane.coordinates(m) for n, m in zip("abc", (A, B, C))}
  curve = [plane.coordinates(ws.paths.line(A, B)(t))[:2] for t in (0.0, 1.0)]
  for log in (False, True):
    axes, figure = drawn(
      ws.figures.plane(grid, us, vs, models=models, curve=curve, log=log)
    )
    assert [t.get_text() for t in axes.texts] == list("abc")
    assert len(figure.axes) == 2  # a colour bar
  grid = np.array(grid)
  grid[0, 0] = np.inf
  drawn(ws.figures.plane(grid, us, vs))
  drawn(ws.figures.plane(np.ones((2, 2)), [0, 1], [0, 1]))


def test_losses_along_paths_with_intervals():
  line = probe.barrier(total, DATA, A, B, 5, key=KEY)
  summary = probe.summary(ws.paths.line(A, C), total, DATA, 5)
  rows = np.stack([line.losses, line.losses + 1.0])
  axes, _ = drawn(
    ws.figures.path({"line": line, "other": summary, "seeds": rows})
  )
  names = [t.get_text() for t in axes.get_legend().get_texts()]
  assert names[0].startswith("line (barrier") and names[1:] == [
    "other",
    "seeds",
  ]
  styles = {
    (x.get_color(), x.get_linestyle(), x.get_marker()) for x in axes.lines
  }
  assert len(styles) == 3 and len({s[1] for s in styles}) == 3
  assert len(axes.collections) == 1  # the band of the two seeds
  drawn(ws.figures.path([1.0, 2.0, 1.0]))


def test_spectra_and_sweeps():
  density = probe.density(jnp.diag(jnp.arange(5.0)), KEY, 4, 2)
  axes, _ = drawn(ws.figures.spectrum({"start": density, "end": density}))
  assert axes.get_yscale() == "log"
  scales = [0.0, 0.5, 1.0]
  axes, _ = drawn(
    ws.figures.scale_sweep(
      scales, {"sum": [0.5, 0.9, 0.7], "ties": np.ones((3, 3))}
    )
  )
  assert axes.lines[1].get_xdata() == [0.5]


def square(losses):
  return ws.figures.plane(losses, [0, 1], [0, 1])


@pytest.mark.parametrize(
  ("make", "words"),
  [
    (
      lambda: ws.figures.plane(np.ones((2, 3)), [0, 1], [0, 1]),
      "plane: losses",
    ),
    (
      lambda: ws.figures.plane(np.full((2, 2), np.nan), [0, 1], [0, 1]),
      "finite",
    ),
    (lambda: ws.figures.path({}), "path: no results"),
    (lambda: ws.figures.path([1.0, 2.0], ts=[0.0]), "path: 2 losses"),
    (lambda: ws.figures.spectrum({}), "spectrum: no densities"),
    (lambda: ws.figures.scale_sweep([0, 1], {"a": [1.0]}), "scale_sweep: 'a'"),
  ],
)
def test_what_cannot_be_drawn_is_named(make, words):
  with pytest.raises(ValueError, match=words):
    make()
