"""Weights as data, and data from weights.

A population is a Stack; as a matrix it can be modelled, and samples of the
model are models again.  A training trajectory is a Stack too, which synthetic
data can be made to follow.

>>> import jax.numpy as jnp
>>> from weightspace import generate
>>> rows, unflatten = generate.flatten({"w": jnp.array([[1.0], [3.0]])})
>>> unflatten(rows.mean(0))["w"].tolist()
[2.0]
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.generate.accuracy_prediction import Predictor, fit_predictor
from weightspace.generate.clusters import representatives
from weightspace.generate.consistency import consistency_loss, pseudo_huber
from weightspace.generate.equivariant_layers import (
  Layer,
  equivariant,
  invariant,
)
from weightspace.generate.expert_trajectories import (
  balance,
  gradient_penalty,
  loss_factor,
  step_lengths,
  trajectory_distance,
)
from weightspace.generate.flattening import Basis, basis, flatten
from weightspace.generate.inner_steps import matching_loss
from weightspace.generate.latent_diffusion import Diffusion, ddpm
from weightspace.generate.latent_gaussian import (
  Gaussian,
  conditional_gaussian,
)
from weightspace.generate.noise_levels import (
  karras_levels,
  level_count,
  lognormal_shares,
)
from weightspace.generate.selection import Best, best_of
from weightspace.generate.statistics_matching import (
  statistics_gap,
  synthesise,
)
from weightspace.generate.trajectory_matching import Matched, match
from weightspace.generate.unit_pieces import channels, read, write
from weightspace.generate.weight_ascent import directed_ascent
from weightspace.generate.weight_features import feature_names, features
from weightspace.generate.zoos import Zoo, load_zoo, save_zoo, zoo

__all__ = [
  "Basis",
  "Best",
  "Diffusion",
  "Gaussian",
  "Layer",
  "Matched",
  "Predictor",
  "Zoo",
  "balance",
  "basis",
  "best_of",
  "channels",
  "conditional_gaussian",
  "consistency_loss",
  "ddpm",
  "directed_ascent",
  "equivariant",
  "feature_names",
  "features",
  "fit_predictor",
  "flatten",
  "gradient_penalty",
  "invariant",
  "karras_levels",
  "level_count",
  "load_zoo",
  "lognormal_shares",
  "loss_factor",
  "match",
  "matching_loss",
  "pseudo_huber",
  "read",
  "representatives",
  "save_zoo",
  "statistics_gap",
  "step_lengths",
  "synthesise",
  "trajectory_distance",
  "write",
  "zoo",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
