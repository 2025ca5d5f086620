"""AdaLoRA on planted ranks: the budget goes where the change is.

Zhang et al. 2023, "AdaLoRA: adaptive budget allocation for parameter-efficient
fine-tuning", https://arxiv.org/abs/2303.10512: at equal budget, ranks dealt out
by importance are better than equal ranks (DeBERTa on GLUE, 0.3 M parameters:
86.4 against 85.3 in the mean for LoRA).

In small: a teacher differs from a base of four layers by changes of rank 8, 4,
2 and 0; a student is tuned from the base on its outputs with 14 ranks in all.
The numbers aimed at: rank correlation with the planted ranks above 0.8, and a
test loss below that of equal ranks.  At seed 1: correlation 0.99, and a
sixteenth of the loss.

python -m experiments.parametrize --config=configs/adalora.py

Time: one minute on two CPU cores.
"""

import ml_collections

from configs import adapters, common

EXPERIMENT = "parametrize"
CLAIM = "adalora"
REGISTERED = adapters.register(
  statement="AdaLoRA finds planted ranks (rank correlation above 0.8), and its"
  " test loss is below that of LoRA with equal ranks at equal budget.",
  paper="Zhang et al. 2023, AdaLoRA, https://arxiv.org/abs/2303.10512",
  paper_number="86.4 against 85.3, mean over GLUE at 0.3 M parameters",
  kind="part of the paper",
  statistic="mean over seeds of Spearman's rank correlation; of the log ratio"
  " of test losses",
  threshold=0.8,
  threshold_by="papers.md",
  controls=("LoRA with equal ranks",),
  seeds=10,
  data="bases, teachers and inputs are drawn by seed",
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "AdaLoRA on planted ranks",
      "paper": REGISTERED["paper"],
      "claim": "adalora",
      "study": "planted",
      "seed": mode.seed,
      "seeds": 2 if tiny else 10,
      "width": 16 if tiny else 64,
      "ranks": (4, 2, 1, 0) if tiny else (8, 4, 2, 0),
      "most": 4 if tiny else 8,
      "size": 1.0,
      "examples": 128 if tiny else 2_048,
      "test": 128 if tiny else 2_048,
      "fine": {
        "epochs": 4 if tiny else 64,
        "batch_size": 32 if tiny else 64,
      },
      "rates": {"adalora": 1e-2, "lora": 1e-2},
      "heading": "Test loss",
    }
  )
