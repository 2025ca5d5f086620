"""MergeBench in small: one harness for every data-free merge, tuned alike.

He et al. 2025, "MergeBench: a benchmark for merging domain-specialized LLMs",
https://arxiv.org/abs/2505.10833, scores methods by what a merged model does on
all tasks, by what it forgets and by what the merge costs.  Here eight experts,
fine-tuned from one base on shifted MNIST and on notMNIST, are merged in sixteen
ways; a base of 48 % on the tasks is as far from its experts as CLIP's in the
papers.  The learning rate of fine-tuning was chosen with other seeds.

A coefficient for each method is chosen from the same 12 on validation images.
What is asked for is registered below.

python -m experiments.merge --config=configs/merge_bench.py --data_dir=DIR

Before registration: tuning gains +0.9 points [+0.4, +1.4] on test images, mean
over 13 methods, and costs 1.8 [0.7, 2.9] on the base's own task; TSV is best,
with 70.8 % of the experts.

Data: MNIST and notMNIST in DIR.  Time: 21 minutes on two CPU cores. `model=vgg`
and `model=vit` take another network, with fewer methods.
"""

from typing import Any

import ml_collections

from configs import common

EXPERIMENT = "merge"
CLAIM = "merge-bench"
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
  "data": "drawn by seed",
}
MODELS = {
  "mlp": {"name": "mlp", "hidden": (256, 256)},
  "vgg": {"name": "vgg", "widths": (8, 16), "depths": (1, 1)},
  "vit": {"name": "vit", "patch": 7, "width": 32, "layers": 2, "heads": 2},
}
MIX = ("rotation", "translation", "zoom", "shear", "gaussian_noise")
TASKS: dict[str, dict[str, Any]] = {
  "letters": {"data": "notmnist"},
  "left": {"data": "mnist", "rotate": 60},
  "right": {"data": "mnist", "rotate": -60},
  "moved": {"data": "mnist", "shift": (0.2, 0.2)},
  "noisy": {"data": "mnist", "corrupt": "impulse_noise", "severity": 5},
  "sheared": {"data": "mnist", "corrupt": "shear", "severity": 5},
  "zoomed": {"data": "mnist", "corrupt": "zoom", "severity": 5},
  "occluded": {"data": "mnist", "corrupt": "occlusion", "severity": 4},
}
# The untuned scales are those that papers or libraries give without validation;
# sums of task vectors have 0.3.
METHODS: dict[str, dict[str, Any]] = {
  "average": {"recipe": "uniform", "scale": 1.0, "tuned": False},
  "model stock": {"recipe": "model_stock", "scale": 1.0, "tuned": False},
  "task arithmetic": {"recipe": "task_arithmetic", "scale": 0.3},
  "TIES": {"recipe": "ties", "scale": 1.0, "options": {"density": 0.2}},
  "DARE": {"recipe": "dare", "scale": 0.3, "options": {"rate": 0.9}},
  "DARE-TIES": {
    "recipe": "dare_ties",
    "scale": 0.3,
    "options": {"rate": 0.8, "density": 0.2},
  },
  "Breadcrumbs": {
    "recipe": "breadcrumbs",
    "scale": 0.3,
    "options": {"keep": 0.143, "top": 0.007},
  },
  "DELLA": {
    "recipe": "della",
    "scale": 0.3,
    "options": {"density": 0.3, "window": 0.2},
  },
  "MagMax": {"recipe": "magmax", "scale": 0.5},
  "SCE": {"recipe": "sce", "scale": 1.0, "options": {"top": 0.5}},
  "PCB": {"recipe": "pcb", "scale": 1.0, "options": {"keep": 0.2}},
  "consensus": {"recipe": "consensus", "scale": 0.3},
  "TSV": {"recipe": "tsv", "scale": 1.0},
  "Iso-C": {"recipe": "iso_c", "scale": 1.0},
  "OptMerge": {"recipe": "optmerge", "scale": 0.3},
  "OPCM": {"recipe": "opcm", "scale": 1.0, "tuned": False},
}
BENCH = (
  *("average", "model stock", "task arithmetic", "TIES", "DARE", "DARE-TIES"),
  *("Breadcrumbs", "DELLA", "MagMax", "SCE", "PCB", "consensus", "TSV"),
  *("Iso-C", "OptMerge", "OPCM"),
)  # the methods of this claim, whatever else METHODS comes to hold
QUICK = ("average", "task arithmetic", "TIES", "DARE", "Breadcrumbs", "TSV")


def of(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
  """Return some of the methods by name."""
  return {name: METHODS[name] for name in names}


def small(tasks: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
  """Return tasks made of the bundled digits, letters being digits askew."""
  found = {}
  for name, task in tasks.items():
    askew = {"rotate": 180} if task["data"] == "notmnist" else {}
    found[name] = task | {"data": "digits"} | askew
  return found


PAPER_SIZE = {
  "ran": "Llama and Gemma models of 2 to 9 billion parameters, five domains;"
  " not to be built here, so that ours is run",
}


@common.sized(PAPER_SIZE)
def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `mode=tiny` runs in seconds and proves nothing."""
  config = bed(arg)
  if len(config.methods) == len(BENCH):
    config.budget = 12
    config.shown.test = 1000
  return config


def smaller(arg: str, tasks: int = 5) -> ml_collections.ConfigDict:
  """Return the bed of the merges that look at data: its first tasks."""
  config = get_config(arg)
  if config.base.task.data == "mnist":
    config.tasks = dict(list(config.tasks.to_dict().items())[:tasks])
    config.base.examples = 10_000
    config.shown.test = 1000
  return config


def bed(arg: str) -> ml_collections.ConfigDict:
  """Return the bed that this config and those of single claims share."""
  mode = common.parse_arg(
    arg, mode=("paper", "tiny"), seed=0, model=tuple(MODELS)
  )
  tiny, quick = mode.mode == "tiny", mode.model != "mlp"
  mix: dict[str, dict[str, int]] = {"clean": {}}
  mix |= {name: {"severity": 3} for name in MIX}
  tasks = dict(list(TASKS.items())[: 6 if quick else None])
  config = {
    "registered": REGISTERED,
    "title": "Merging experts of shifted digits and letters",
    "paper": REGISTERED["paper"],
    "claim": REGISTERED["statement"],
    "judge": "bench",
    "seed": mode.seed,
    "seeds": 5,
    "model": MODELS[mode.model],
    "head": "",
    "base": {
      "task": {"data": "mnist", "mix": mix},
      "examples": 20_000,
      "epochs": 5,
      "batch_size": 100,
      "learning_rate": 1e-3,
    },
    "fine": {
      "examples": 3000,
      "epochs": 5,
      "batch_size": 100,
      "learning_rate": 1e-3 if quick else 1e-4,
    },
    "tasks": tasks,
    "shown": {"validation": 800, "test": 500 if quick else 2000},
    "methods": of(QUICK if quick else BENCH),
    "counts": (len(tasks),),
    "beds": {"bed": {}},
    "probes": (),
    "scales": {"least": 0.1, "most": 4.0},
    "budget": 10 if quick else 20,
  }
  made = ml_collections.ConfigDict(config)
  return shrunk(made) if tiny else made


def shrunk(
  config: ml_collections.ConfigDict, tasks: int = 3
) -> ml_collections.ConfigDict:
  """Return a config of the bed that runs in seconds on the bundled digits."""
  kept = dict(list(config.tasks.to_dict().items())[:tasks])
  config.tasks = small(kept)
  config.base.task.data = "digits"
  config.counts = (tasks,)
  config.methods = of(QUICK[:3])
  config.update({"seeds": 2, "budget": 3})
  config.shown.update({"validation": 50, "test": 50})
  config.base.update({"examples": 300, "epochs": 10, "batch_size": 50})
  config.fine.update({"examples": 200, "epochs": 5, "batch_size": 50})
  config.base.learning_rate = config.fine.learning_rate = 1e-2
  if config.model.name == "mlp":
    config.model.hidden = (16, 16)
  if config.model.name == "vit":
    config.model.patch = 4
  return config
