r"""MergeBench on character language models: six spellings of two texts.

He et al. 2025, "MergeBench: a benchmark for merging domain-specialized LLMs",
https://arxiv.org/abs/2505.10833, in small: a language model of characters is
trained on Shakespeare and fine-tuned on first names and on Shakespeare in
capitals, without vowels, without spaces, reversed, and in rot13.  Accuracy is
of the next character.  The numbers aimed at are those of `merge_bench.py`:
tuned minus untuned at least zero on validation text, exactly, and above zero on
test text, mean over methods.

python -m experiments.merge --config=configs/merge_bench_text.py \
  --data_dir=DIR

Data: text/tinyshakespeare.txt and text/names.txt in DIR.  Time: 21 minutes on
two CPU cores.
"""

import ml_collections

from configs import common, merge_bench

EXPERIMENT = "merge"
CLAIM = "merge-bench-text"
REGISTERED = {
  "statement": "In one harness, tuning a coefficient on validation data raises"
  " test accuracy and keeps more of the base's own task, mean over methods.",
  "paper": "He et al. 2025, MergeBench, https://arxiv.org/abs/2505.10833",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "tuned less untuned, mean over methods: test accuracy, and"
  " accuracy on the base's own task, points",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "on validation data tuning never loses by construction, which is checked",
  ),
  "seeds": 5,
}
SPELLINGS = ("upper", "no vowels", "no spaces", "reversed", "rot13")
NAMES = (
  "average",
  "task arithmetic",
  "TIES",
  "DARE",
  "PCB",
  "OPCM",
)
PAPER_SIZE = {
  "ran": "Llama and Gemma models of 2 to 9 billion parameters, five domains;"
  " not to be built here, so that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs on a frozen text of our own."""
  config = merge_bench.bed(arg)
  tiny = config.seeds == 2
  file = "own" if tiny else "tinyshakespeare.txt"
  length = 16 if tiny else 32
  config.title = "Merging experts of six spellings, character models"
  config.model = {
    "name": "lm",
    "vocab": 96,
    "layers": 1 if tiny else 2,
    "width": 16 if tiny else 64,
    "heads": 2 if tiny else 4,
    "kv_heads": 2,
  }
  whole = {"text": file, "length": length}
  tasks = {name: whole | {"spelling": name} for name in SPELLINGS}
  tasks["names"] = whole | {"text": "own" if tiny else "names.txt"}
  config.base.task = whole
  config.tasks = tasks if not tiny else {n: tasks[n] for n in SPELLINGS[:3]}
  config.counts = (len(config.tasks),)
  config.methods = merge_bench.of(NAMES[: 2 if tiny else None])
  config.fine.learning_rate = config.base.learning_rate = 1e-3
  if not tiny:
    config.update({"budget": 10})
    config.base.update({"examples": 20_000, "epochs": 1, "batch_size": 50})
    config.fine.update({"examples": 2500, "epochs": 1, "batch_size": 50})
    config.shown.update({"validation": 100, "test": 200})
  config.registered = REGISTERED
  return config
