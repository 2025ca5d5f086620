"""OFQ on digits: weights in two bits that do not jump.

Liu et al. 2023, "Oscillation-free quantization for low-bit vision
transformers", https://arxiv.org/abs/2302.02210: a learned scale makes weights
oscillate between levels; a scale that is a statistic of the weights does so
less, and annealing that holds the decided weights less still (2-bit DeiT-T on
ImageNet: 64.33 %, 9.8 points above the state of the art).

In small: a network of digits with hidden layers in two bits.  The numbers aimed
at: jumps back for each weight and step below those with a learned scale of the
same levels, and below again with annealing than with as many more steps at the
same rate.  Accuracy is reported.  At seed 1: 13.9 against 15.6 jumps per 10,000
weight-steps, then 0.1 against 1.6.

python -m experiments.parametrize --config=configs/ofq.py --data_dir=DIR

Data: MNIST in DIR.  Time: three minutes on two CPU cores.
"""

import ml_collections

from configs import adapters, common

EXPERIMENT = "parametrize"
CLAIM = "ofq"
REGISTERED = adapters.register(
  statement="Weights in two bits oscillate less with StatsQ than with a learned"
  " scale, and less still with confidence-guided annealing.",
  paper="Liu et al. 2023, Oscillation-free quantization,"
  " https://arxiv.org/abs/2302.02210",
  paper_number="2-bit DeiT-T 64.33 % on ImageNet",
  kind="part of the paper",
  statistic="mean over seeds of oscillations per 10,000 weight-steps, paired"
  " differences",
  controls=("a learned scale", "as many more steps without annealing"),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  size = 16 if tiny else 128
  batch = 50 if tiny else 100
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Two-bit weights that do not jump",
      "paper": REGISTERED["paper"],
      "claim": "ofq",
      "study": "two bits",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "task": {"data": "digits" if tiny else "mnist"},
      "model": {"name": "mlp", "hidden": (size, size)},
      "adapted": adapters.HIDDEN,
      "bits": 2,
      "examples": 100 if tiny else 10_000,
      "shown": {
        "validation": 50 if tiny else 500,
        "test": 50 if tiny else 2_000,
      },
      "fine": {"epochs": 4 if tiny else 15, "batch_size": batch},
      "rate": 1e-3,
      "anneal": {
        "epochs": 2 if tiny else 5,
        "batch_size": batch,
        "rate": 1e-4,
        "width": 0.005,
      },
      "figure": "jumps per 10,000",
      "heading": "Jumps back, per 10,000 weight-steps",
    }
  )
