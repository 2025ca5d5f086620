"""TinyCLIP: a student that inherits its teacher's weights trains faster.

Wu et al. 2023, https://arxiv.org/abs/2309.12314: leading units of every axis
and evenly spaced blocks of the teacher are where the student begins. In small:
a residual network of 8 blocks on MNIST at 14 x 14, its students of 4 blocks and
three quarters of the width, distilled on the same batches. The number aimed at:
the steps until the loss of the student from scratch at its end, scratch over
inherited, geometric mean above 1.4 (the abstract: 1.4 to 7.8 times). `inherited
and aligned` takes the units whose weights are largest in place of the leading
ones; reported, not judged.

python -m experiments.grow --config=configs/grow_tinyclip.py --data_dir=DIR

Measured: a ratio of steps of 2.51, its logarithm +0.92 [+0.75, +1.09].

Data: MNIST in DIR.  Time: two minutes on two busy CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "grow"
CLAIM = "tinyclip"
REGISTERED = {
  "statement": "A student that begins as a part of its teacher reaches the"
  " distillation loss of one from scratch in less than 1/1.4 of the steps.",
  "paper": "Wu et al. 2023, TinyCLIP: CLIP Distillation via Affinity"
  " Mimicking and Weight Inheritance, https://arxiv.org/abs/2309.12314",
  "paper_number": "1.4 to 7.8 times faster training (CLIP, YFCC-15M and"
  " LAION-400M)",
  "kind": "part of the paper",
  "statistic": "ln of the ratio of steps to the loss of scratch at its end,"
  " scratch over inherited",
  "threshold": 0.3365,
  "threshold_by": "paper",
  "controls": ("a student from scratch", "units by score"),
  "seeds": 5,
  "data": "images, networks and batches drawn by seed",
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "A student cut out of its teacher, or begun anew",
      "paper": REGISTERED["paper"],
      "claim": "tinyclip",
      "study": "tinyclip",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "pool": 1 if tiny else 2,
      "examples": 240 if tiny else 12_000,
      "test": 100 if tiny else 5_000,
      "teacher": {
        "width": 8 if tiny else 48,
        "hidden": 16 if tiny else 96,
        "blocks": 4 if tiny else 8,
      },
      "student": {
        "width": 4 if tiny else 36,
        "hidden": 8 if tiny else 72,
        "blocks": 2 if tiny else 4,
      },
      "taught": {
        "epochs": 1 if tiny else 8,
        "batch_size": 40 if tiny else 120,
        "learning_rate": 1e-3,
      },
      "distilled": {
        "epochs": 2 if tiny else 8,
        "batch_size": 40 if tiny else 120,
        "learning_rate": 1e-3,
      },
      "window": 4 if tiny else 25,
      "stride": 2 if tiny else 20,
      "figure": "steps to the loss",
      "heading": "Steps to the loss of scratch",
      "curve": ("step", "distillation loss", "Loss over steps"),
    }
  )
