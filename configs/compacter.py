"""Compacter on letters: Kronecker sums with shared rules, few numbers.

Mahabadi et al. 2021, "Compacter: efficient low-rank hypercomplex adapter
layers", https://arxiv.org/abs/2106.04647: on par with full fine-tuning on GLUE
(T5-base, 0.047 % of the parameters), and above it with few examples.

In small: the change of a kernel is a sum of four Kronecker products of rank
one, whose rules all layers share; it begins at zero (the paper's adapters are
layers of their own).  A network of digits is tuned on 200 and on 2,000 letters
with a fresh head.  The numbers aimed at: under 2 % of the numbers of the body,
and accuracy no more than a point below full fine-tuning, each at a rate chosen
on validation letters.

python -m experiments.parametrize --config=configs/compacter.py --data_dir=DIR

Data: MNIST and notMNIST in DIR.  Time: four minutes on two CPU cores.
"""

import ml_collections

from configs import adapters

EXPERIMENT = "parametrize"
CLAIM = "compacter"
REGISTERED = adapters.register(
  statement="With under 2 % of the body's numbers trained, and the head,"
  " Compacter is within a point of full fine-tuning at 200 and at 2,000"
  " examples.",
  paper="Mahabadi et al. 2021, Compacter, https://arxiv.org/abs/2106.04647",
  paper_number="0.047 % of parameters, on par with full fine-tuning on GLUE",
  kind="part of the paper",
  statistic="mean over seeds of test accuracy, Compacter minus full, in points",
  threshold=-1.0,
  threshold_by="ours",
  controls=("full fine-tuning", "LoRA of rank 1"),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = adapters.letters(arg, width=512)
  tiny = config.seeds == 2
  few = {"kind": "kronecker", "n": 2 if tiny else 4, "shared": True}
  config.update(
    {
      "registered": REGISTERED,
      "title": "Compacter on letters",
      "paper": REGISTERED["paper"],
      "claim": "compacter",
      "examples": (50, 100) if tiny else (200, 2_000),
      "methods": {
        "full": {"kind": "full", "rates": (3e-4, 1e-3)},
        "Compacter": few | {"rates": (3e-3, 1e-2)},
        "LoRA": {
          "kind": "lora",
          "rank": 1,
          "scale": 2.0,
          "rates": (3e-3, 1e-2),
        },
      },
    }
  )
  config.fine.batch_size = 25 if tiny else 50
  return config
