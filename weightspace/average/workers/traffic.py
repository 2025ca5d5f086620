"""Bytes that replicas send: of a method, and of a compiled program.

`volume` reads a method's exchanges off the method itself, by tracing it with an
exchange that counts; `collectives` reads them off the text of the program that
was compiled, whatever made it.

>>> text = "%r = f32[4,2]{1,0} all-reduce(f32[4,2]{1,0} %x), channel_id=1"
>>> collectives(text)
{'all-reduce': 32}
"""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightspace.average.workers import mixing, servers
from weightspace.types import Stack

KINDS = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "collective-permute",
  "all-to-all",
)


class Volume(NamedTuple):
  """Bytes that one replica hands over in a round."""

  mean: int  # to means over all
  mix: int  # to each replica that its matrix sends to


def volume(method: servers.Method, stack: Stack) -> Volume:
  """Return what a method exchanges in a round, for one replica, in bytes.

  Args:
    method: any.
    stack: leaves [M, ...] of what is trained.

  Returns:
    Volume: values and flags, as they are handed to the exchange.

  >>> from weightspace.average.workers import peers
  >>> volume(peers.gossip(correct_variance=False), {"w": jnp.ones((2, 5))})
  Volume(mean=0, mix=24)
  """
  counted = {"mean": 0, "mix": 0}

  def count(kind: str, tree: Any) -> None:
    for x in jax.tree.leaves(tree):
      counted[kind] += x.dtype.itemsize * int(np.prod(x.shape[1:], dtype=int))

  def mean(tree: Any) -> Any:
    count("mean", tree)
    return jax.tree.map(lambda x: x[0], tree)

  def mix(tree: Any, present: jax.Array) -> Any:
    count("mix", (tree, present))
    return tree

  def meet(stack: Stack) -> Stack:
    state = method.init(stack)
    flags = jnp.ones(len(jax.tree.leaves(stack)[0]))
    talk = mixing.Talk(mean, mix)
    return method.update(state, stack, stack, flags, talk)[1]

  jax.eval_shape(meet, stack)
  return Volume(**counted)


def sent(volume: Volume, present: np.ndarray, matrix: np.ndarray) -> int:
  """Return the bytes of a round: of those present, and of their messages.

  >>> sent(Volume(mean=8, mix=0), np.array([True, False]), np.eye(2))
  8
  """
  here = np.asarray(present, bool)
  edges = (np.asarray(matrix) != 0) & here[:, None] & here[None]
  messages = int(edges.sum() - np.diag(edges).sum())
  return int(volume.mean * here.sum() + volume.mix * messages)


def collectives(text: str) -> dict[str, int]:
  """Return the bytes of the operands of each kind of collective in a program.

  Args:
    text: `jitted.lower(...).compile().as_text()`; it is the program of one
      device.

  Returns:
    {kind: bytes that one device hands over, each time the program runs once}.
    A collective inside a loop is counted once.

  >>> collectives("%a = add(f32[2] %x, f32[2] %y)")
  {}
  """
  found: dict[str, int] = {}
  kinds = "|".join(KINDS)
  line_of = re.compile(r"\s*(?:ROOT )?(%?[\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\(")
  shapes: dict[str, int] = {}
  for line in text.splitlines():
    made = line_of.match(line)
    if not made:
      continue
    name, shape, operation = made.groups()
    shapes[name.lstrip("%")] = _bytes(shape)
    kind = operation.removesuffix("-start")
    if not re.fullmatch(kinds, kind):
      continue
    inside = line[made.end() :].split(")")[0]
    size = _bytes(inside)
    if not size:  # operands without their shapes
      operands = re.findall(r"%?([\w.-]+)", inside)
      size = sum(shapes.get(operand, 0) for operand in operands)
    found[kind] = found.get(kind, 0) + size
  return found


def _bytes(text: str) -> int:
  """Return the bytes of all shapes in a piece of HLO.

  >>> _bytes("(f32[4,2]{1,0}, pred[3])")
  35
  """
  total = 0
  for kind, bits, sizes in re.findall(
    r"\b(pred|[a-z]+?)(\d*)\[([\d,]*)\]", text
  ):
    width = 8 if kind == "pred" else int(bits or 0)
    count = np.prod([int(n) for n in sizes.split(",") if n], dtype=int)
    total += width * int(count) // 8
  return total
