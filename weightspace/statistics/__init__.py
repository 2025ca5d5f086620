"""Statistics: folds over data that merges ask for.

Each streams batches through any `apply(params, x)`; its fold's state is a dict
of arrays that can be saved, restored, joined with another part's, and used
later by someone else.

>>> import jax.numpy as jnp
>>> import weightspace as ws
>>> def apply(w, x): return x @ w
>>> found = ws.statistics.fisher(apply, jnp.zeros((1, 2)), jnp.array([[2.0]]))
>>> found.round(4).tolist()
[[1.0, 1.0]]
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.models.batchnorm import batch_norm, population
from weightspace.statistics.activations import moments, moments_fold
from weightspace.statistics.fisher_information import fisher, fisher_fold
from weightspace.statistics.gram_matrices import gram, gram_fold, matrix
from weightspace.statistics.routers import routing, routing_fold

__all__ = [
  "batch_norm",
  "fisher",
  "fisher_fold",
  "gram",
  "gram_fold",
  "matrix",
  "moments",
  "moments_fold",
  "population",
  "routing",
  "routing_fold",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
