"""Adaptive averaging between a model and its reward policy.

Lin et al. 2024, "Mitigating the alignment tax of RLHF",
https://arxiv.org/abs/2309.06256: with the mean ratio fixed, a ratio for each
third of the depth keeps more reward at no more tax than one ratio.  Here the
policy is a character model tuned for a fixed reward (the chance of one in five
characters), the tax is what it loses in likelihood of text, and ratios maximise
the likelihood of answers of the policy itself, as in the paper.  The number
aimed at, at three mean ratios: likelihood of text minus that of one ratio at
the same reward, above zero.

python -m experiments.data_aware --config=configs/ama.py --data_dir=DIR

Data: tinyshakespeare in DIR.  Time: 17 minutes on two CPU cores.
"""

import ml_collections

from configs import characters, common

EXPERIMENT = "data_aware"
CLAIM = "ama"
REGISTERED = {
  "statement": "At the same reward, ratios by part keep more likelihood of"
  " text than one ratio.",
  "paper": "Lin et al. 2024, Mitigating the alignment tax of RLHF,"
  " https://arxiv.org/abs/2309.06256",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "likelihood of text, ratios by part less one ratio at the same"
  " reward, at three mean ratios, nats",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("one ratio",),
  "seeds": 5,
}
PAPER_SIZE = {
  "ran": "OpenLLaMA 3B and Mistral 7B by RLHF; not to be built here, so that"
  " ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = characters.tuned(arg)
  tiny = config.data == "source"
  config.update(
    {
      "registered": REGISTERED,
      "title": "Adaptive averaging between a model and its reward policy",
      "paper": REGISTERED["paper"],
      "claim": "ama",
      "study": "tax",
      "pull": 10.0,
      "parts": 3,
      "steps": 5 if tiny else 60,
      "ratios": 5 if tiny else 11,
      "means": (0.2, 0.4, 0.6),
      "trade": ("reward (%)", "log-likelihood"),
      "heading": "Reward",
    }
  )
  return config
