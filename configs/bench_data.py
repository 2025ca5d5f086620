"""MergeBench in small: the merges that look at data.

He et al. 2025, "MergeBench: a benchmark for merging domain-specialized LLMs",
https://arxiv.org/abs/2505.10833, has data-free and data-aware merges in one
harness.  Here the second half: Fisher, RegMean and RegMean++ from 256 training
images a task, AdaMerging from validation images without and aTLAS with their
labels, which the others use to choose one of 20 coefficients.  The number aimed
at: these merges minus tuned task arithmetic, mean over methods, above zero.

python -m experiments.data_aware --config=configs/bench_data.py --data_dir=DIR

Data: MNIST and notMNIST in DIR.  Time: not measured yet.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "data_aware"
CLAIM = "bench-data"
REGISTERED = {
  "statement": "Merges that look at data beat tuned task arithmetic, mean over"
  " methods.",
  "paper": "He et al. 2025, MergeBench, https://arxiv.org/abs/2505.10833",
  "paper_number": "AdaMerging 82.6, RegMean 82.4, task arithmetic 68.0 % (CLIP"
  " ViT-B/32)",
  "kind": "ours",
  "statistic": "mean over methods of tuned test accuracy less task"
  " arithmetic's, points",
  "threshold": 0.0,
  "threshold_by": "ours",
  "controls": (
    "each method, with its own interval",
    "AdaMerging at the rate and the steps of its code",
  ),
  "seeds": 5,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "Llama and Gemma models of 2 to 9 billion parameters; not to be built"
  " here, so that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = merge_bench.smaller(arg)
  tiny = config.base.task.data == "digits"
  config.update(
    {
      "registered": REGISTERED,
      "title": "MergeBench in small: the merges that look at data",
      "paper": REGISTERED["paper"],
      "claim": "bench",
      "study": "methods",
      "seen": 64 if tiny else 256,
      "learned": ("task", "leaf"),
      # As in AdaMerging's code.
      "adamerging": {"steps": 5 if tiny else 500, "rate": 1e-3},
      "epochs": 1 if tiny else 10,
      "rate": 1e-2,
      "heading": "Mean accuracy over tasks, tuned",
    }
  )
  return config
