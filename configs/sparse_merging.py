"""Densities for merging that ask the data: does it help TIES and DARE?

Layer-adaptive pruning (Xu et al. 2023, https://arxiv.org/abs/2308.10438) splits
a sparsity over layers by what it does to the outputs.  TIES and DARE trim or
drop task vectors by one share for all leaves, or by one threshold; here the
split of each task vector comes from its own distortion curves on a few hundred
images without labels.  Ours: no paper claims it.

Four experts of digits that are turned or mirrored, tuned from one base, are
merged at equal numbers of kept entries; the scale of each merge is tuned for
each seed on held-out images.  The number aimed at: TIES with allocated
densities above TIES with one density a leaf and with a global threshold, at all
densities; DARE is reported.  A first look at seed 1, five seeds: at 5 % +1.7
points [-0.5, +3.8] over equal and +1.9 [-0.4, +4.2] over global densities, at
20 % -0.4 [-3.1, +2.4] and +1.6 [-0.3, +3.4]; nothing for DARE.

python -m experiments.sparse --config=configs/sparse_merging.py --data_dir=DIR

Data: MNIST in DIR.  Time: three minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "sparse"
CLAIM = "sparse-merging"
REGISTERED = {
  "statement": "TIES on task vectors whose densities by leaf come from"
  " their distortion curves merges four experts into a more"
  " accurate model than with one density for every leaf and"
  " than with a global threshold, at 5 and at 20 % of the"
  " entries.",
  "paper": "ours, after Xu et al. 2023,"
  " https://arxiv.org/abs/2308.10438, and Yadav et al. 2023,"
  " TIES-Merging, https://arxiv.org/abs/2306.01708",
  "paper_number": None,
  "kind": "ours",
  "statistic": "mean test accuracy over four tasks, allocated less equal"
  " and less global, points",
  "threshold": 0.0,
  "threshold_by": "ours",
  "controls": (
    "one density a leaf",
    "a global threshold",
    "DARE with the same counts",
  ),
  "seeds": 10,
  "data": "training and test images drawn by seed",
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "paper": REGISTERED["paper"],
      "seed": mode.seed,
      "title": "Densities of task vectors that ask the data",
      "claim": "merging",
      "study": "merging",
      "seeds": 2 if tiny else 10,
      "data": "digits" if tiny else "mnist",
      "pool": not tiny,
      "model": {"name": "mlp", "hidden": (16, 16) if tiny else (128, 128)},
      "examples": 300 if tiny else 6_000,
      "test": 100 if tiny else 2_000,
      "held": 50 if tiny else 1_000,
      "base": {
        "epochs": 2 if tiny else 8,
        "batch_size": 50 if tiny else 100,
        "learning_rate": 1e-3,
      },
      "fine": {
        "epochs": 2 if tiny else 5,
        "batch_size": 50 if tiny else 100,
        "learning_rate": 1e-3,
      },
      "calibration": 50 if tiny else 256,
      "amounts": 11 if tiny else 101,
      "densities": (0.2,) if tiny else (0.05, 0.2),
      "scales": (0.5, 1.0) if tiny else (0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0),
      "heading": "Accuracy over tasks",
    }
  )
