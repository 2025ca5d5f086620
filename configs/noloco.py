"""NoLoCo and DiLoCo: replicas that meet in pairs, or all, now and then.

"NoLoCo: No-all-reduce low communication training method for large models",
2025, https://arxiv.org/abs/2506.10911, and Douillard et al. 2023, "DiLoCo",
https://arxiv.org/abs/2311.08105: an outer step every H inner steps trains as
well as an all-reduce of every step, and means of random pairs are enough for
it. Eight replicas on an eighth of the data each, Adam inside. Numbers aimed at:
distance of NoLoCo's replicas to their mean below half of that without exchange,
and their test loss within two per cent of DiLoCo's with the heavy ball (0.7,
0.3) of NoLoCo's paper. DiLoCo's own Nesterov (0.7, 0.9) takes longer steps and
is ahead in a longer run.

python -m experiments.replicas --config=configs/noloco.py --data_dir=DIR

Data: MNIST in DIR.  Time: 4 minutes on two busy CPU cores.
"""

import ml_collections

from configs import common

EXPERIMENT = "replicas"
CLAIM = "noloco"
REGISTERED = {
  "statement": "Random pairs that average inside an outer step keep replicas"
  " within half the distance of replicas that never meet, and as good as"
  " DiLoCo's in the setting of NoLoCo's paper within 2 % of test loss.",
  "paper": "NoLoCo, 2025, https://arxiv.org/abs/2506.10911; Douillard et al."
  " 2023, DiLoCo, https://arxiv.org/abs/2311.08105",
  "paper_number": "up to 4 % faster to a loss than DiLoCo",
  "kind": "part of the paper",
  "statistic": "distance to the mean over that of no exchange below 0.5; test"
  " loss over DiLoCo's (heavy ball) below 2 %",
  "threshold": 2.0,
  "threshold_by": "papers.md",
  "controls": (
    "replicas that never meet",
    "all-reduce",
    "DiLoCo with Nesterov, which is not judged",
  ),
  "seeds": 5,
  "data": "one set of images, streams drawn by seed",
}
PAPER_SIZE = {
  "ran": "Llama-like models of 125 million to 6.8 billion parameters; not to be"
  " built here, so that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  return ml_collections.ConfigDict(
    {
      "registered": REGISTERED,
      "title": "Replicas that rarely meet, on digits",
      "paper": REGISTERED["paper"],
      "claim": "noloco",
      "study": "outer",
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "data": "digits" if tiny else "mnist",
      "model": {"name": "mlp", "hidden": (16,) if tiny else (64,)},
      "examples": 200 if tiny else 16_000,
      "test": 100 if tiny else 5_000,
      "replicas": 4 if tiny else 8,
      "rounds": 2 if tiny else 20,
      "steps": 2 if tiny else 25,
      "batch_size": 16 if tiny else 32,
      "rate": 1e-3,
      "heading": "Test loss of the replicas",
    }
  )
