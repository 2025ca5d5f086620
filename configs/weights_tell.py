"""What weights tell of accuracy, across widths.

After Unterthiner et al. 2020, "Predicting neural network accuracy from
weights", https://arxiv.org/abs/2002.11448: statistics of the layers' weights
predict the test accuracy of members of a zoo (R2 above 0.98 on CIFAR-10).  Here
members of several widths, their rates, decays and noise in labels drawn; the
features are those that no reordering of units changes, which this library reads
off the axes.  The numbers aimed at, over seeds: rank correlation with test
accuracy above 0.5 on held-out members and on a width that was not learned from,
and above that of norms and spectra alone.  A network of layers that commute
with reorderings stands beside them.

python -m experiments.generate --config=configs/weights_tell.py

Data: scikit-learn's bundled digits.  Time: three minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "generate"
CLAIM = "weights-tell"
REGISTERED = {
  "statement": "Features that no reordering changes rank networks by test"
  " accuracy from weights alone, also on a width that was not learned from, and"
  " better than norms and spectra.",
  "paper": "Unterthiner et al. 2020, https://arxiv.org/abs/2002.11448",
  "paper_number": "R2 above 0.98 (CIFAR-10)",
  "kind": "ours",
  "statistic": "rank correlation of predicted and measured test accuracy above"
  " 0.5, held out and wider; held out, above that of norms and spectra",
  "threshold": 0.5,
  "threshold_by": "ours",
  "controls": ("norms and spectra alone", "a network of equivariant layers"),
  "seeds": 5,
  "data": "training images, starts and hyper-parameters drawn by seed",
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "What weights tell of accuracy",
      "paper": REGISTERED["paper"],
      "claim": "weights",
      "study": "predict",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits",
      "examples": 100 if tiny else 500,
      "widths": (2, 3) if tiny else (8, 16, 32),
      "members": 9 if tiny else 120,
      "powers": {
        "learning_rate": (-3.5, -0.3),
        "weight_decay": (-5.0, -1.0),
        "flipped": (-2.0, -0.2),
      },
      "epochs": 1 if tiny else 10,
      "batch_size": 50,
      "layers": {
        "channels": 2 if tiny else 16,
        "steps": 3 if tiny else 500,
        "learning_rate": 3e-3,
      },
      "figure": "rank correlation, held out",
    }
  )
