"""Random Llamas on disk, and whole processes that merge them, measured.

>>> round(sum(map(math.prod, shapes(300_000_000).values())) / 1e6)
302
"""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

LAYERS, HEADS, WIDTH = 20, 16, 1024  # of 300 million parameters
BF16 = np.dtype(ml_dtypes.bfloat16)
OURS = "from weightspace.cli import command; command.console()"
IMPORTS = (
  "import jax; from weightspace.cli import building, card, estimates;"
  "from weightspace.cli.config import schema;"
  "from weightspace.merge.files import streaming; import yaml;"
  "jax.random.key(0)"
)


class Cost(NamedTuple):
  """What a whole process took."""

  cpu: float  # seconds, of all threads
  wall: float  # seconds
  peak: float  # MiB of resident pages, mapped ones too


def sizes(params: int) -> dict[str, int]:
  """Return the sizes of a Llama of about so many parameters."""
  width = max(64, round(WIDTH * math.sqrt(params / 300e6) / 64) * 64)
  return {
    "hidden_size": width,
    "intermediate_size": width * 11 // 4,
    "vocab_size": width * 125 // 4,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS // 2,
  }


def shapes(params: int) -> dict[str, tuple[int, ...]]:
  """Return the leaves of a Llama of about so many parameters."""
  found = sizes(params)
  width, hidden = found["hidden_size"], found["intermediate_size"]
  inner: dict[str, tuple[int, ...]] = {
    "self_attn.q_proj": (width, width),
    "self_attn.k_proj": (width // 2, width),
    "self_attn.v_proj": (width // 2, width),
    "self_attn.o_proj": (width, width),
    "mlp.gate_proj": (hidden, width),
    "mlp.up_proj": (hidden, width),
    "mlp.down_proj": (width, hidden),
    "input_layernorm": (width,),
    "post_attention_layernorm": (width,),
  }
  ends = (found["vocab_size"], width)
  leaves: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": ends}
  for layer in range(LAYERS):
    at = f"model.layers.{layer}"
    leaves |= {f"{at}.{name}.weight": s for name, s in inner.items()}
  return leaves | {"model.norm.weight": (width,), "lm_head.weight": ends}


def write_models(folder: pathlib.Path, params: int, models: int) -> None:
  """Write a base and fine-tunes in bfloat16, as folders of Hugging Face."""
  from weightspace.checkpoints import writers

  kinds = {name: (shape, BF16) for name, shape in shapes(params).items()}
  config: dict[str, Any] = {"model_type": "llama"}
  config["architectures"] = ["LlamaForCausalLM"]
  config |= sizes(params) | {"torch_dtype": "bfloat16"}
  for number in range(models + 1):
    path = folder / (f"m{number}" if number else "base")
    writer = writers.begin(path, kinds)
    for index, (name, (shape, _)) in enumerate(kinds.items()):
      x = _noise(index, 0, shape) * np.float32(0.02)
      if number:
        x += _noise(index, number, shape) * np.float32(0.002)
      writer.write(name, x.astype(BF16))
    writer.finish({"config.json": json.dumps(config)})


def _noise(index: int, number: int, shape: tuple[int, ...]) -> np.ndarray:
  rng = np.random.default_rng([index, number])
  return rng.standard_normal(shape, np.float32)


def measured(words: list[str], environment: dict[str, str]) -> Cost:
  """Run a whole process.

  Raises:
    ValueError: with what it wrote to its standard error, when it fails.
  """
  began = time.perf_counter()
  log = pathlib.Path(environment["XDG_CACHE_HOME"]) / "stderr"
  with open(log, "wb") as errors, open(os.devnull, "wb") as nothing:
    process = os.posix_spawn(
      words[0],
      words,
      environment,
      file_actions=[
        (os.POSIX_SPAWN_DUP2, nothing.fileno(), 1),
        (os.POSIX_SPAWN_DUP2, errors.fileno(), 2),
      ],
    )
    _, status, used = os.wait4(process, 0)
  wall = time.perf_counter() - began
  if status:
    text = log.read_text(errors="replace")[-2000:]
    raise ValueError(f"{words[0]}: exit {status}: {text}")
  return Cost(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024)


def command(
  who: str, mergekit: str | None, config: pathlib.Path, out: pathlib.Path
) -> list[str]:
  """Return the arguments of a merge; out is removed before."""
  shutil.rmtree(out, ignore_errors=True)
  if who == "weightspace":
    return [sys.executable, "-c", OURS, str(config), str(out), "--quiet"]
  if who == "floor":
    inputs = json.loads(config.with_suffix(".json").read_text())
    return [sys.executable, __file__, "floor", str(out), *inputs]
  program = pathlib.Path(mergekit or sys.executable).parent / "mergekit-yaml"
  more = ["--no-copy-tokenizer", "--no-write-model-card", "--quiet"]
  return [str(program), str(config), str(out), *more]


def imports(who: str, mergekit: str | None) -> list[str]:
  """Return the arguments of a process that only gets ready."""
  if who == "weightspace":
    return [sys.executable, "-c", IMPORTS]
  if who == "floor":
    return [sys.executable, __file__, "ready"]
  program = pathlib.Path(mergekit or sys.executable).parent / "mergekit-yaml"
  return [str(program), "--help"]


def apart(*words: object) -> bytes:
  """Do some work of this file in a process of its own; return what it prints.

  A child's peak memory is at least what its parent had: this one stays small.
  """
  command = [sys.executable, "-m", "benchmarks.stream_work"]
  command += map(str, words)
  root = pathlib.Path(__file__).parents[1]
  done = subprocess.run(command, check=True, cwd=root, stdout=subprocess.PIPE)
  return done.stdout


def floor(out: str, *inputs: str) -> None:
  """Read every input once and write as much as one of them."""
  buffer = bytearray(2**24)
  total = 0
  for path in inputs:
    total = os.path.getsize(path)
    with open(path, "rb", buffering=0) as stream:
      while stream.readinto(buffer):
        pass
  os.makedirs(out)
  with open(os.path.join(out, "written"), "wb", buffering=0) as stream:
    for start in range(0, total, len(buffer)):
      stream.write(memoryview(buffer)[: total - start])
    os.fsync(stream.fileno())


def compare(ours: str, answer: str) -> None:
  """Print the share of entries beyond one ulp of the answer."""
  from weightspace import checkpoints

  one, other = checkpoints.open(ours), checkpoints.open(answer)
  beyond = total = 0
  for name in one.keys():
    x, y = (r.read(name).astype(np.float32) for r in (one, other))
    with np.errstate(divide="ignore"):
      ulp = np.exp2(np.floor(np.log2(np.maximum(abs(x), abs(y)))) - 7)
    y = y.astype(BF16).astype(np.float32)  # the answer, rounded once
    beyond += int((np.abs(x - y) > ulp * 1.001).sum())
    total += x.size
  print(beyond / total)


if __name__ == "__main__":
  work: dict[str, Callable[..., None]] = {"floor": floor, "compare": compare}
  work["write"] = lambda folder, params, models: write_models(
    pathlib.Path(folder), int(params), int(models)
  )
  work["ready"] = lambda: None
  work[sys.argv[1]](*sys.argv[2:])
