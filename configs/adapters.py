"""Fine-tuning beds of experiments with adapters: letters, and spellings.

Each of them is one of these with a claim, and its own methods.  The base, the
new task's examples and the test sets are drawn anew for each seed.

Data: MNIST, notMNIST and tinyshakespeare in DIR; `mode=tiny` uses bundled
digits and a text of the package's own.
"""

from typing import Any

import ml_collections

from configs import common

HIDDEN = ("Dense_0/kernel", "Dense_1/kernel")


def letters(arg: str, width: int = 256) -> ml_collections.ConfigDict:
  """Return the bed of digits, tuned on letters with a fresh head."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  old = {"data": "digits" if tiny else "mnist"}
  new = {"data": "digits", "rotate": 180} if tiny else {"data": "notmnist"}
  size = 16 if tiny else width
  return ml_collections.ConfigDict(
    {
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "study": "transfer",
      "model": {"name": "mlp", "hidden": (size, size)},
      "base": {
        "task": old,
        "examples": 200 if tiny else 12_000,
        "epochs": 2 if tiny else 5,
        "batch_size": 50 if tiny else 100,
        "learning_rate": 1e-3,
      },
      "task": new,
      "examples": (100,) if tiny else (1_500,),
      "shown": {
        "validation": 50 if tiny else 500,
        "test": 50 if tiny else 2_000,
      },
      "fine": {
        "epochs": 4 if tiny else 32,
        "batch_size": 50 if tiny else 100,
      },
      "adapted": HIDDEN,
      "fresh": "Dense_2",
      "head": size * 10 + 10,
      "figure": "accuracy (%)",
      "heading": "Letters, after fine-tuning",
    }
  )


def spellings(arg: str) -> ml_collections.ConfigDict:
  """Return the bed of a language model, tuned on another spelling."""
  mode = common.parse_arg(arg, mode=("paper", "tiny"), seed=0)
  tiny = mode.mode == "tiny"
  file, length = ("own", 16) if tiny else ("tinyshakespeare.txt", 32)
  whole = {"text": file, "length": length}
  return ml_collections.ConfigDict(
    {
      "seed": mode.seed,
      "seeds": 2 if tiny else 5,
      "study": "transfer",
      "model": {
        "name": "lm",
        "vocab": 96,
        "layers": 1 if tiny else 2,
        "width": 16 if tiny else 48,
        "heads": 2,
        "kv_heads": 1,
      },
      "base": {
        "task": whole,
        "examples": 200 if tiny else 20_000,
        "epochs": 1 if tiny else 2,
        "batch_size": 50,
        "learning_rate": 3e-3,
      },
      "task": {**whole, "spelling": "no vowels"},
      "examples": (100,) if tiny else (2_500,),
      "shown": {
        "validation": 50 if tiny else 200,
        "test": 50 if tiny else 500,
      },
      "fine": {"epochs": 2 if tiny else 4, "batch_size": 50},
      "adapted": ("block*kernel",),
      "fresh": "",
      "figure": "accuracy (%)",
      "heading": "Next characters, after fine-tuning",
    }
  )


def register(**entries: Any) -> dict[str, Any]:
  """Return what a config registers of its claim before it is run.

  >>> register(statement="S", paper="P", kind="ours")["paper_number"] is None
  True
  """
  known = {
    "paper_number": None,
    "kind": "paper",
    "threshold": 0.0,
    "threshold_by": "paper",
    "controls": (),
    "seeds": 5,
    "data": "training and test examples are drawn by seed from one data set",
  }
  return known | entries
