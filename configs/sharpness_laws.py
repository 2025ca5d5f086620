"""Sharpness laws: what each measure of sharpness says of the Hessian.

Andriushchenko et al. 2023, "A modern look at the relationship between sharpness
and generalization", https://arxiv.org/abs/2302.07011 (section 3: limits of
average and worst-case sharpness, plain and adaptive, for small rho); Keskar et
al. 2017, Foret et al. 2021 and Kwon et al. 2021 for the measures.  The numbers
aimed at: measured over rho^2 / 2 times the trace, the sum of H_ii w_i^2, and
the top eigenvalue, each within 10 % of 1 at a minimum.

python -m experiments.landscape --config=configs/sharpness_laws.py

Data: scikit-learn's bundled digits.  Time: 88 seconds on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "landscape"
CLAIM = "sharpness-laws"
REGISTERED = {
  "statement": "At a minimum, for small radii rho, average, adaptive and"
  " worst-case sharpness are rho^2 / 2 times the trace, the sum of H_ii w_i^2"
  " and the top eigenvalue of the Hessian: ratios within 10 % of 1.",
  "paper": "Andriushchenko et al. 2023, A modern look at the relationship"
  " between sharpness and generalization, https://arxiv.org/abs/2302.07011",
  "paper_number": None,
  "kind": "identity",
  "statistic": "measured sharpness over what the Hessian predicts: within 0.9"
  " and 1.1",
  "threshold": 0.1,
  "threshold_by": "ours",
  "controls": ("losses of perturbed models against Hessian products",),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "identities, of no size; there ViTs on ImageNet",
  "settings": {"seeds": 5},
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Sharpness and the Hessian",
      "paper": REGISTERED["paper"],
      "study": "laws",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits",
      "examples": 100 if tiny else 1000,
      "model": {
        "name": "mlp",
        "hidden": (8,) if tiny else (16,),
        "activation": "tanh",
      },
      "decay": 1e-2,
      "train": {
        "epochs": 20 if tiny else 4000,
        "batch_size": 1000,
        "learning_rate": 0.1,
        "weight_decay": 0.0,
      },
      "radii": (1e-2, 1.0),
      "places": 3 if tiny else 7,
      "judged": 0 if tiny else 1,
      "draws": 20 if tiny else 1000,
      "probes": 20 if tiny else 1000,
      "steps": 20 if tiny else 80,
      "climb": 10 if tiny else 60,
    }
  )
