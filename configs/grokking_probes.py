"""Grokking: what probes see between memorisation and generalisation.

Power et al. 2022, "Grokking: generalization beyond overfitting on small
algorithmic datasets", https://arxiv.org/abs/2201.02177: on modular addition
test accuracy rises long after training accuracy is perfect.  Probed: weight
norm, effective rank of the first layer, local learning coefficient (Lau et al.
2023, https://arxiv.org/abs/2308.12108), top eigenvalue.  The numbers aimed at:
three times the steps or more between the two, and a learning coefficient that
falls meanwhile, over seeds.  The length of training was chosen at seed 7: with
10 checkpoints three of five seeds were still rising at 93 %.

python -m experiments.landscape --config=configs/grokking_probes.py

Data: made here.  Time: 8 minutes on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "landscape"
CLAIM = "grokking-probes"
REGISTERED = {
  "statement": "On modular addition test accuracy passes 95 % after at least"
  " three times the steps at which training accuracy passes 99 % (grokking),"
  " and from there to here the local learning coefficient of the training loss"
  " falls.",
  "paper": "Power et al. 2022, Grokking: generalization beyond overfitting on"
  " small algorithmic datasets, https://arxiv.org/abs/2201.02177",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "steps to 95 % test accuracy over steps to 99 % training"
  " accuracy; learning coefficient, generalised less memorised",
  "threshold": 3.0,
  "threshold_by": "ours",
  "controls": ("weight norm and rank, which rise here",),
  "seeds": 5,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "modular arithmetic at p = 97",
  "settings": {
    "modulus": 97,
    "model.classes": 97,
    "share": 0.5,
    "train.every": 2000,
  },
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Probes of grokking on modular addition",
      "paper": REGISTERED["paper"],
      "study": "grokking",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "modulus": 7 if tiny else 31,
      "share": 0.6,
      "model": {
        "name": "mlp",
        "hidden": (16,) if tiny else (128,),
        "classes": 7 if tiny else 31,
      },
      "train": {
        "learning_rate": 3e-3,
        "decay": 1.0,
        "every": 10 if tiny else 500,
        "checkpoints": 3 if tiny else 24,
      },
      "steps": 6 if tiny else 20,
      "langevin": {
        "step_size": 1e-4,
        "chains": 2 if tiny else 3,
        "draws": 5 if tiny else 100,
        "burn_in": 2 if tiny else 100,
        "localization": 100.0,
      },
    }
  )
