"""Probes: the loss around points of weight space.

Paths and barriers, planes, trained curves, curvature through one operator
interface, sharpness, similarity, and the phases that they add up to.  A loss is
`loss(params, data)`, one number or one per example; every estimate that is
random comes with its standard error.

>>> import jax, jax.numpy as jnp
>>> from weightspace import probe
>>> def loss(w, a): return 0.5 * w @ a @ w
>>> matrix = jnp.diag(jnp.array([1.0, 4.0]))
>>> operator = probe.hessian(loss, jnp.zeros(2), matrix)
>>> values, _ = probe.top_eigenpairs(operator, 1, 2, jax.random.key(0))
>>> values.round(4).tolist()
[4.0]
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.paths.path import (
  Barrier,
  along,
  barrier,
  barrier_on,
  bezier,
  line,
  polyline,
)
from weightspace.probe.curvature.curvature import (
  empirical_fisher,
  fisher,
  ggn,
  hessian,
)
from weightspace.probe.curvature.gradients import (
  noise_scale,
  noise_scale_of_norms,
)
from weightspace.probe.curvature.lanczos import Ritz, ritz, top_eigenpairs
from weightspace.probe.curvature.matrices import from_function, from_matrix
from weightspace.probe.curvature.operators import Operator
from weightspace.probe.curvature.spectra import density, smooth
from weightspace.probe.curvature.streams import streamed
from weightspace.probe.curvature.traces import trace
from weightspace.probe.functions.differences import (
  cosine,
  disagreement,
  distance,
  js_divergence,
)
from weightspace.probe.functions.similarity import cka, cka_fold
from weightspace.probe.landscape.curve_losses import summary
from weightspace.probe.landscape.curves import fit_curve, fit_curves
from weightspace.probe.landscape.directions import filter_axes, random_direction
from weightspace.probe.landscape.laziness import (
  effective_rank,
  kernel_alignment,
  representation_alignment,
  sign_agreement,
  tangent_kernel,
)
from weightspace.probe.landscape.phases import (
  Phase,
  Rule,
  classify,
  phase,
  rule_of,
)
from weightspace.probe.landscape.planes import Plane, triangle
from weightspace.probe.landscape.profiles import (
  Profile,
  frozen,
  interpolated,
  profile,
  recalibrated,
)
from weightspace.probe.landscape.surfaces import surface
from weightspace.probe.landscape.trajectories import Trajectory, trajectory
from weightspace.probe.sharpness.ascent import worst_sharpness
from weightspace.probe.sharpness.boxes import keskar_sharpness
from weightspace.probe.sharpness.calibration import calibrated, temperature
from weightspace.probe.sharpness.invariance import moved_by, rescale
from weightspace.probe.sharpness.langevin import (
  LearningCoefficient,
  learning_coefficient,
)
from weightspace.probe.sharpness.radial import radial_losses
from weightspace.probe.sharpness.sharpness import (
  average_sharpness,
  sam_sharpness,
)

__all__ = [
  "Barrier",
  "LearningCoefficient",
  "Operator",
  "Phase",
  "Plane",
  "Profile",
  "Ritz",
  "Rule",
  "Trajectory",
  "along",
  "average_sharpness",
  "barrier",
  "barrier_on",
  "bezier",
  "calibrated",
  "cka",
  "cka_fold",
  "classify",
  "cosine",
  "density",
  "disagreement",
  "distance",
  "effective_rank",
  "empirical_fisher",
  "filter_axes",
  "fisher",
  "fit_curve",
  "fit_curves",
  "from_function",
  "from_matrix",
  "frozen",
  "ggn",
  "hessian",
  "interpolated",
  "js_divergence",
  "kernel_alignment",
  "keskar_sharpness",
  "learning_coefficient",
  "line",
  "moved_by",
  "noise_scale",
  "noise_scale_of_norms",
  "phase",
  "polyline",
  "profile",
  "radial_losses",
  "random_direction",
  "recalibrated",
  "representation_alignment",
  "rescale",
  "ritz",
  "rule_of",
  "sam_sharpness",
  "sign_agreement",
  "smooth",
  "streamed",
  "summary",
  "surface",
  "tangent_kernel",
  "temperature",
  "top_eigenpairs",
  "trace",
  "trajectory",
  "triangle",
  "worst_sharpness",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
