"""SALSA on a bandit: the soup of two references, exactly.

"SALSA: soup-based alignment learning for stronger adaptation in RLHF", 2024,
https://arxiv.org/abs/2411.01798: the average of two fine-tuned models as the
reference of the divergence lets the policy earn more. On a bandit the best
policy is known in closed form, so nothing is trained: references and reward are
noisy views of one truth. The numbers aimed at: reward with the soup minus that
with one reference, above zero at equal weight of the divergence, and above the
same for a reward that has nothing to do with the references. Measured: a small
and steady gain, but no smaller one for the unrelated reward: the average of two
noisy references is nearer to the uniform one, and holds back less.

python -m experiments.adapt --config=configs/salsa_bandit.py

Data: none.  Time: 15 seconds on two CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "adapt"
CLAIM = "salsa-bandit"
REGISTERED = {
  "statement": "The exact best policy held to the soup of two references earns"
  " more than those held to one of them, and gains more so than for a reward"
  " that has nothing to do with the references.",
  "paper": "SALSA, 2024, https://arxiv.org/abs/2411.01798",
  "paper_number": None,
  "kind": "part of the paper",
  "statistic": "reward, soup less mean of both single references; the same"
  " less that of an unrelated reward",
  "threshold": 0.0,
  "threshold_by": "paper",
  "controls": ("the same references with an unrelated reward",),
  "seeds": 10,
  "data": "drawn by seed",
}
PAPER_SIZE = {
  "ran": "Llama 2 7B, Mistral 7B and Gemma 2B by RLHF; a bandit has no size",
  "settings": {"bandits": 10000},
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "A soup as reference, on a bandit",
      "paper": REGISTERED["paper"],
      "claim": "salsa_bandit",
      "study": "bandit",
      "seed": mode.seed,
      "seeds": 2 if tiny else 10,
      "bandits": 4 if tiny else 200,
      "arms": 16,
      "noise": 0.7,
      "beta": 0.5,
      "heading": "Expected reward",
    }
  )
