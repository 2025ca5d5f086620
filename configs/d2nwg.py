"""Weights sampled by diffusion, for classes that no network was trained on.

Soro et al. 2024, "Diffusion-based neural network weights generation",
https://arxiv.org/abs/2402.18153: networks are encoded, a diffusion conditioned
on the data set is trained on the codes, and samples are networks that work
without training, also on data sets that the zoo has not.  Here 256 networks of
1,210 parameters, each trained on six to nine of the ten digits; the code is an
exact basis of 128 directions, of which the diffusion models the first 32, and
the condition is which digits.  Three zoos: members from one start, from starts
of their own, and these with their units in one order, which is what weights as
data need and what this library has.  The numbers aimed at, for
members from one start over seeds: round trip within half a point; samples for
unseen classes more than 20 points above untrained networks; the best of 64 by
validation images not below the zoo's mean.

python -m experiments.generate --config=configs/d2nwg.py

Data: scikit-learn's bundled digits.  Time: four minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "generate"
CLAIM = "d2nwg"
REGISTERED = {
  "statement": "A diffusion over the weights of networks trained on subsets of"
  " classes samples networks that work on subsets that none was trained on, the"
  " best of 64 as well as the zoo.",
  "paper": "Soro et al. 2024, D2NWG, https://arxiv.org/abs/2402.18153",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "members of one start: accuracy after encoding and decoding at"
  " least -0.5 points; samples for unseen classes more than 20 points above"
  " untrained networks; the best of 64 not below the mean of the zoo",
  "threshold": "-0.5, 20 and 0 points",
  "threshold_by": "papers.md",
  "controls": (
    "a conditional Gaussian in place of the diffusion",
    "independent starts, with and without one order of units",
    "the best is chosen on validation images",
  ),
  "seeds": 5,
  "data": "training images, subsets of classes and starts drawn by seed",
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Weights sampled by diffusion",
      "paper": REGISTERED["paper"],
      "claim": "d2nwg",
      "study": "zoo",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits",
      "model": {"name": "mlp", "hidden": (4,) if tiny else (16,)},
      "sizes": (6, 7, 8, 9),
      "members": 12 if tiny else 256,
      "unseen": 2 if tiny else 16,
      "examples": 50 if tiny else 500,
      "epochs": 1 if tiny else 20,
      "batch_size": 50,
      "learning_rate": 0.1,
      "directions": 4 if tiny else 128,
      "modelled": 2 if tiny else 32,
      "samples": 2 if tiny else 64,
      "diffusion": {
        "steps": 5 if tiny else 100,
        "width": 8 if tiny else 256,
        "epochs": 1 if tiny else 750,
        "batch_size": 12 if tiny else 64,
        "learning_rate": 5e-3,
      },
      "heading": "Networks sampled for unseen classes",
    }
  )
