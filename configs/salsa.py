"""SALSA on a language model: a rewarded policy held to a soup.

"SALSA: soup-based alignment learning for stronger adaptation in RLHF", 2024,
https://arxiv.org/abs/2411.01798. Three character models are fine-tuned from one
base. The policy starts from the first, and is held to it, or to the average of
the first two, at equal weight of the divergence. Its reward is fixed: the
log-probability that the third gives to a character, as a reward model gives
high marks to what good models say. Expectations are exact sums over the next
character, along given text. What is asked for is registered below. Where the
paper's policy starts could not be checked.

With `--config.reward=table` the reward is one for a random share of the
characters, whatever the text. Such a reward knows nothing that an average could
know better, and there the soup earns no more.

python -m experiments.adapt --config=configs/salsa.py --data_dir=DIR

Data: tinyshakespeare in DIR.  Time: 2 minutes on two CPU cores.
"""

import ml_collections

from configs import characters, common

EXPERIMENT = "adapt"
CLAIM = "salsa"
REGISTERED = {
  "statement": "At one weight of the divergence, a policy held to the soup of"
  " two fine-tuned models earns more and goes further from its reference than"
  " one held to a single model.",
  "paper": "SALSA, 2024, https://arxiv.org/abs/2411.01798",
  "paper_number": None,
  "kind": "paper",
  "statistic": "reward, held to the soup less held to one model",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": (
    "divergence from the reference",
    "test loss",
  ),
  "seeds": 10,
}
PAPER_SIZE = {
  "ran": "Llama 2 7B, Mistral 7B and Gemma 2B by RLHF; not to be built here, so"
  " that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = characters.bed(arg)
  tiny = config.data == "source"
  config.update(
    {
      "registered": REGISTERED,
      "title": "A soup as reference, on a character model",
      "paper": REGISTERED["paper"],
      "claim": "salsa",
      "study": "policy",
      "seeds": 2 if tiny else 10,
      "examples": 200 if tiny else 2_500,
      "prompts": 40 if tiny else 600,
      "slow": 3e-3,
      "beta": 0.5,
      "reward": "model",
      "rewarded": 0.3,
      "base": {"epochs": 1 if tiny else 8, "batch_size": 40 if tiny else 64},
      "fine": {"epochs": 1 if tiny else 3, "batch_size": 40 if tiny else 64},
      "align": {"epochs": 2 if tiny else 15, "batch_size": 20 if tiny else 60},
      "heading": "Expected reward of the next character",
    }
  )
  return config
