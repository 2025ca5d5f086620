"""What studies on images share: splits cut to size, shifts, halves.

>>> import numpy as np
>>> first, rest = halves({"y": np.arange(4)})
>>> rest["y"].tolist()
[2, 3]
"""

from typing import Any

import jax
import optax

from experiments.run import runs
from weightspace import losses
from weightspace.data import corruptions
from weightspace.types import Data


def sgd(learning_rate: Any) -> Any:
  """Return SGD with momentum at a constant rate."""
  return optax.sgd(learning_rate, momentum=0.9)


def problem(run: runs.Run) -> tuple[Any, Any, Any, Any]:
  """Return the splits, cut to size, the model, its loss and its score."""
  splits, model, config = run.data(), run.model(), run.config
  cut = {"train": config.examples, "test": config.test}
  splits = splits._replace(
    **{
      name: jax.tree.map(lambda x, n=n: x[:n], getattr(splits, name))
      for name, n in cut.items()
    }
  )
  loss = losses.of(model.apply, losses.cross_entropy)
  return splits, model, loss, losses.of(model.apply, losses.accuracy)


def shifted(run: runs.Run, data: Data) -> Data:
  """Return the images of a test set under the config's corruption."""
  x = corruptions.corrupt(run.key, data["x"], *run.config.shift)
  return {**data, "x": x}


def halves(data: Data) -> tuple[Data, Data]:
  """Return the first and the second half of the examples."""
  half = len(data["y"]) // 2
  first = jax.tree.map(lambda x: x[:half], data)
  return first, jax.tree.map(lambda x: x[half:], data)
