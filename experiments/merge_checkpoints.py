"""Merge checkpoints into a new one: by flags, by a YAML file, or on a mesh.

  python -m experiments.merge_checkpoints --out=merged \\
    --config.recipe=ties --config.parameters='{density: 0.2, scale: 1.0}' \\
    --config.models=a,b,c --config.base_model=base
  python -m experiments.merge_checkpoints --out=merged --yaml=merge.yml

`merge_method` has mergekit's conventions and `recipe` those of the papers.  The
inputs are folders of Hugging Face, safetensors, Orbax or npz.  With
`--mesh=data=8` the merge runs on all devices and is saved by Orbax; on a pod
every host runs the same command with `--distributed`.
"""

import shlex
import sys
from typing import Any

import absl.app
from absl import flags
from ml_collections import config_dict, config_flags

from weightspace.cli import command

KEYS = "merge_method recipe models base_model parameters dtype out_dtype"
KEYS += " tokenizer_source chat_template search"
_CONFIG = config_flags.DEFINE_config_dict(
  "config", config_dict.create(**dict.fromkeys(KEYS.split(), ""))
)
_YAML = flags.DEFINE_string("yaml", None, "A configuration file, instead.")
_OUT = flags.DEFINE_string("out", None, "A new folder.", required=True)
_PLAIN = {
  "max_memory": "Bytes to stay below, such as 4GB.",
  "seed": "Of random masks.",
  "shard_size": "Largest shard, such as 5GB.",
  "mesh": "Merge on all devices: axes such as data=8.",
}
_SWITCHES = {
  "dry_run": "Print the plan, merge nothing.",
  "report": "Write what the merge did to each leaf.",
  "distributed": "Join the other hosts of a pod first.",
}
for _name, _help in _PLAIN.items():
  flags.DEFINE_string(_name, None, _help)
for _name, _help in _SWITCHES.items():
  flags.DEFINE_bool(_name, False, _help)


def configuration() -> tuple[dict[str, Any], str]:
  """Return the configuration, and the text of it."""
  import yaml

  if _YAML.value:
    with open(_YAML.value, encoding="utf-8") as stream:
      text = stream.read()
    return dict(command.load(text, _YAML.value)), text
  found = {key: value for key, value in _CONFIG.value.items() if value}
  names = [name for name in found.pop("models", "").split(",") if name]
  found["models"] = [{"model": name} for name in names]
  found.setdefault("parameters", "{}")
  for key in {"parameters", "search"} & set(found):
    found[key] = command.load(found[key], f"--config.{key}")
  return found, yaml.safe_dump(found)


def main(_: list[str]) -> None:
  """Merge, with the options of `weightspace-merge`."""
  values = flags.FLAGS
  given = [(name, values[name].value) for name in _PLAIN]
  words = [f"--{n}={x}".replace("_", "-", 1) for n, x in given if x is not None]
  words += [f"--{n.replace('_', '-')}" for n in _SWITCHES if values[n].value]
  options = command.parser().parse_args(["config", _OUT.value, *words])
  own = ["python", "-m", "experiments.merge_checkpoints", *sys.argv[1:]]
  sys.exit(command.guarded(configuration, shlex.join(own), options))


if __name__ == "__main__":
  absl.app.run(main)
