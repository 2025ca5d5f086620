r"""Six parametrizations at equal trained numbers: what to choose.

Ours, a table for users: LoRA (https://arxiv.org/abs/2106.09685), DoRA, the
singular value form of AdaLoRA, MiSS, Bone and Kronecker sums, each at the rate
that is best for it on validation data, on four tasks; accuracy alone and after
TIES has merged the four experts, and the CPU seconds of one training.
`bed=letters` has four tasks of images, `bed=spellings` four of text.

python -m experiments.parametrize --config=configs/parametrizations.py \
  --data_dir=DIR

Data: MNIST, notMNIST and tinyshakespeare in DIR.  Time: six minutes a bed on
two CPU cores.
"""

import ml_collections

from configs import adapters

EXPERIMENT = "parametrize"
REGISTERED = adapters.register(
  statement="A table: accuracy of four experts and of their merge by TIES, six"
  " parametrizations at equal trained numbers.",
  paper="ours; LoRA is Hu et al. 2022, https://arxiv.org/abs/2106.09685",
  kind="ours",
  statistic="mean over tasks, by seed",
  threshold="none",
  threshold_by="ours",
  seeds=3,
)
RATES = (1e-3, 3e-3, 1e-2)
BEDS = ("letters", "spellings")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  words = [word for word in arg.split(",") if word]
  beds = [word for word in words if word.startswith("bed=")]
  rest = ",".join(word for word in words if word not in beds)
  name = beds[0].removeprefix("bed=") if beds else BEDS[0]
  if name not in BEDS or len(beds) > 1:
    raise ValueError(f"argument {beds}: expected bed= one of {', '.join(BEDS)}")
  config = getattr(adapters, name)(rest)
  tiny = config.seeds == 2
  config.update(
    {
      "registered": REGISTERED,
      "title": f"Six parametrizations at equal numbers, {name}",
      "paper": REGISTERED["paper"],
      "claim": "parametrizations",
      "study": "table",
      "scale": 1.0,
      "methods": _methods(name, tiny),
      "tasks": _tasks(config, name, tiny),
      "figure": "accuracy merged (%)",
      "heading": "Mean over tasks, merged",
    }
  )
  config.seeds = 2 if tiny else 3
  config.fresh = ""
  return config


def _methods(name: str, tiny: bool) -> dict[str, dict]:
  """Return six changes of about as many numbers each."""
  rates = RATES[1:2] if tiny else RATES
  low = {"scale": 2.0, "rates": rates}
  # r (in + out) = r' out: letters 784 x 256 and 256 x 256, or the blocks.
  shards = 8 if tiny or name == "spellings" else 12
  blocks = 8 if tiny or name == "spellings" else 16
  return {
    "LoRA": {"kind": "lora", "rank": 4, **low},
    "DoRA": {"kind": "dora", "rank": 4, **low},
    "SVD form": {"kind": "svd", "rank": 4, **low},
    "MiSS": {"kind": "miss", "rank": shards, "rates": rates},
    "Bone": {"kind": "bone", "rank": blocks, "rates": rates},
    "Kronecker": {"kind": "kronecker", "n": 4, "rank": 4, "rates": rates},
  }


def _tasks(config: ml_collections.ConfigDict, name: str, tiny: bool) -> dict:
  count = 2 if tiny else 4
  whole = dict(config.base.task)
  if name == "spellings":
    some = ("no vowels", "upper", "no spaces", "rot13")[:count]
    return {spelling: whole | {"spelling": spelling} for spelling in some}
  turns = (90, 180, 270)[: count - 1]
  tasks = {f"turned {turn}": whole | {"rotate": turn} for turn in turns}
  return tasks | {"letters": dict(config.task)}
