"""PowerQuant and NUPES on character models: levels denser around zero.

Yvinec et al. 2023, "PowerQuant", https://arxiv.org/abs/2301.09858, and "NUPES:
non-uniform post-training quantization via power exponent search",
https://arxiv.org/abs/2308.05600: rounding sign(w) |w|^a with a below one loses
less than even levels, and an exponent searched or learned on outputs less
still.

In small: the linear maps of the blocks of a language model of characters.  The
numbers aimed at, in 4 bits: best exponent below one, error of the weights below
0.9 of uniform's, and rise of the test loss not above uniform's with the
exponent that is best on validation text.

python -m experiments.parametrize --config=configs/nupes.py --data_dir=DIR

Data: tinyshakespeare in DIR.  Time: four minutes on two CPU cores.
"""

import ml_collections

from configs import adapters, glm_levels

EXPERIMENT = "parametrize"
CLAIM = "nupes"
REGISTERED = adapters.register(
  statement="In 4 bits the best exponent is below one, its weight error is"
  " below 0.9 of that of even levels, and the loss rises less.",
  paper="Yvinec et al. 2023, NUPES, https://arxiv.org/abs/2308.05600;"
  " PowerQuant, https://arxiv.org/abs/2301.09858",
  kind="part of the paper",
  statistic="mean over seeds of the exponent, of the ratio of errors, and of"
  " the difference of rises",
  threshold=(1.0, 0.9, 0.0),
  threshold_by="papers.md",
  controls=("even levels", "exponent by weights", "exponents learned"),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = glm_levels.bed(arg)
  tiny = config.seeds == 2
  config.update(
    {
      "registered": REGISTERED,
      "title": "Levels along a power",
      "paper": REGISTERED["paper"],
      "claim": "nupes",
      "bits": (4,) if tiny else (4, 3),
      "power_bits": (4,) if tiny else (4, 3),
      "merge_bits": (),
    }
  )
  return config
