"""REPAIR by depth: deep means of matched networks need their variance back.

Jordan et al. 2023, "REPAIR", https://arxiv.org/abs/2211.08403, the depth sweep:
MNIST MLPs of width 128, matched by activations; test accuracy of the midpoint
matched / matched and repaired, from the authors' result files, 1 + L hidden
layers: L=1 96.8 / 97.5, L=3 93.7 / 96.4, L=5 93.5 / 95.9, L=10 81.2 / 95.3 (50
epochs of 60,000 images).  The number aimed at: REPAIR's gain above zero at
every depth, paired over seeds.

Here 20 epochs of 50,000 images.  (After five epochs of 10,000 the gain of the
second depth was 0.3 points, and its interval held zero.)

python -m experiments.rebasin --config=configs/repair_depth.py --data_dir=DIR

Data: MNIST in DIR.  Time: not measured yet, about half an hour on two CPU
cores.
"""

import ml_collections

from configs import common, rebasin

EXPERIMENT = "rebasin"
CLAIM = "repair-depth"
REGISTERED = {
  "statement": "REPAIR raises the accuracy of the mean of matched MLPs at"
  " every depth.",
  "paper": "Jordan et al. 2023, REPAIR, https://arxiv.org/abs/2211.08403",
  "paper_number": "L=1 96.8 to 97.5, L=3 93.7 to 96.4, L=5 93.5 to 95.9, L=10"
  " 81.2 to 95.3 %",
  "kind": "paper",
  "statistic": "test accuracy of the midpoint, repaired less matched, at every"
  " depth, points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("naive mean",),
  "seeds": 5,
}
PAPER = REGISTERED["paper"]
PAPER_SIZE = {
  "ran": "MLPs of width 128 and up to eleven hidden layers, 60,000 images of"
  " MNIST, 50 epochs",
  "settings": {"examples": 0, "members.epochs": 50},
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on digits in seconds."""
  tiny = common.parse_arg(arg, mode=("paper", "tiny"), seed=0).mode == "tiny"
  config = rebasin.get_config(arg)
  config.update({"title": "REPAIR by depth", "paper": PAPER, "judge": "repair"})
  config.registered = REGISTERED
  config.seeds = 2 if tiny else 5
  config.examples = 200 if tiny else 50_000
  config.members.epochs = 2 if tiny else 20
  config.claim = REGISTERED["statement"]
  config.methods = ("naive", "activations")
  depths, width = ((1, 2), 16) if tiny else ((1, 3, 5, 8), 128)
  cases = {n: (width,) * (n + 1) for n in depths}
  return rebasin.sweep(config, "depth", cases)
