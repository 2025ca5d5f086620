"""GLM-130B's weight quantisation on character models: 8 bits free, 4 cheap.

Zeng et al. 2023, "GLM-130B: an open bilingual pre-trained model",
https://arxiv.org/abs/2210.02414: linear maps rounded to 4 bits with one scale
for each output, without any training, cost little (perplexity on WikiText-103
10.76, 10.76 in 8 bits, 11.05 in 4).

In small: the linear maps of the blocks of a language model of characters.  The
numbers aimed at: rise of the test loss under 0.1 % in 8 bits, under 3 % in 4
(the paper's 4 bits cost 1.1 % of its loss).  Beside it, not judged: experts
merged and then rounded, against rounded and then merged.

python -m experiments.parametrize --config=configs/glm_levels.py --data_dir=DIR

Data: tinyshakespeare in DIR.  Time: four minutes on two CPU cores.
"""

import ml_collections

from configs import adapters

EXPERIMENT = "parametrize"
CLAIM = "glm-levels"
REGISTERED = adapters.register(
  statement="Linear maps in 8 bits, a scale for each output, raise the loss by"
  " less than 0.1 %, and in 4 bits by less than 3 %.",
  paper="Zeng et al. 2023, GLM-130B, https://arxiv.org/abs/2210.02414",
  paper_number="perplexity 10.759, 10.763 (INT8), 11.046 (INT4)",
  statistic="mean over seeds of the relative rise of the test loss, in percent",
  threshold=(0.1, 3.0),
  threshold_by="papers.md",
  controls=("3 bits",),
)


def bed(arg: str) -> ml_collections.ConfigDict:
  """Return the bed of models that are rounded."""
  config = adapters.spellings(arg)
  tiny = config.seeds == 2
  whole = dict(config.base.task)
  some = ("no vowels", "upper") if tiny else ("no vowels", "upper", "no spaces")
  config.update(
    {
      "study": "levels",
      "bits": (8, 4) if tiny else (8, 4, 3),
      "power_bits": (),
      "merge_bits": (4,) if tiny else (8, 4),
      "steps": 3 if tiny else 40,
      "tasks": {name: whole | {"spelling": name} for name in some},
      "full": {"kind": "full", "rates": (1e-3,)},
      "figure": "rise of the loss (%)",
      "heading": "Test loss, over that of the model as it is",
    }
  )
  config.base.examples = 200 if tiny else 20_000
  config.base.epochs = 1 if tiny else 3
  config.fine.examples = 100 if tiny else 2_000
  config.fine.epochs = 1 if tiny else 2
  return config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = bed(arg)
  config.update(
    {
      "registered": REGISTERED,
      "title": "Language models in few bits",
      "paper": REGISTERED["paper"],
      "claim": "glm_levels",
    }
  )
  return config
