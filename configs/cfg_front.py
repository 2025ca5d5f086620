"""A front of quality and diversity by interpolation.

Cideron et al. 2024, "Diversity-rewarded CFG distillation",
https://arxiv.org/abs/2410.06084: between a policy distilled from a guided
teacher and one that is rewarded for diversity too, interpolated weights trade
quality for diversity better than a straight line. Here the teacher is a
character model whose logits are sharpened against those without context,
quality is minus the divergence from it and diversity the entropy of the next
character. What is asked for is registered below.

python -m experiments.data_aware --config=configs/cfg_front.py --data_dir=DIR

Data: tinyshakespeare in DIR.  Time: 9 minutes on two CPU cores.
"""

import ml_collections

from configs import characters, common

EXPERIMENT = "data_aware"
CLAIM = "cfg"
REGISTERED = {
  "statement": "Between a policy tuned for quality and one tuned for diversity"
  " too, every mix lies above the line between them, and higher than on a way"
  " of equal length in a random direction.",
  "paper": "Cideron et al. 2024, Diversity-rewarded CFG distillation,"
  " https://arxiv.org/abs/2410.06084",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "least height of the mixes above the line between the ends,"
  " over the range; the same less that of a random direction",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("a random direction of equal length, leaf by leaf",),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "MusicLM, by distillation and reinforcement; not to be built here, so"
  " that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = characters.tuned(arg)
  tiny = config.data == "source"
  config.update(
    {
      "registered": REGISTERED,
      "title": "A front of quality and diversity by interpolation",
      "paper": REGISTERED["paper"],
      "claim": "cfg",
      "study": "diversity",
      "guidance": 2.0,
      "weight": 1.0,
      "points": 5 if tiny else 11,
      "curve": ("share of the diverse policy", "above", "Above the chord"),
      "heading": "Furthest above the chord",
    }
  )
  return config
