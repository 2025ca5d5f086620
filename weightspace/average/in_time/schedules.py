"""Who takes part in which round, and how many steps each gets done.

A schedule is data, drawn beforehand from a key: the same in every process, and
for every method that is compared on it.

>>> schedule = participation(jax.random.key(0), rounds=4, rates=[1.0, 0.5])
>>> schedule.present.shape, schedule.present[:, 0].tolist()
((4, 2), [True, True, True, True])
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from weightspace.types import Key

PATTERNS = ("bernoulli", "markov", "cyclic")


class Schedule(NamedTuple):
  """Rounds R of M replicas."""

  present: np.ndarray  # [R, M] bool: who takes part
  share: np.ndarray  # [R, M]: of the round's steps that each gets done


def everyone(rounds: int, replicas: int) -> Schedule:
  """Return the schedule in which all take part in full.

  >>> everyone(2, 3).present.all().item()
  True
  """
  shape = rounds, replicas
  return Schedule(np.ones(shape, bool), np.ones(shape))


def participation(
  key: Key,
  rounds: int,
  rates: Sequence[float] | np.ndarray,
  pattern: str = "bernoulli",
  stay: float = 0.9,
) -> Schedule:
  """Draw who takes part.

  Args:
    key: of the draws; each replica has a stream of its own.
    rounds: R.
    rates: [M] shares of the rounds that each takes part in, above 0.
    pattern: "bernoulli" (each round by itself), "markov" (replicas drop out and
      come back: present ones stay with probability `stay`, and absent ones
      return as often as the rate wants), or "cyclic" (at the start of each
      period of 1 / rate rounds, from a phase of its own).
    stay: of "markov".

  Returns:
    Schedule.

  Raises:
    ValueError: for another pattern, no rounds, or a rate outside (0, 1], naming
      the replica.

  >>> drawn = participation(jax.random.key(1), 400, [0.25], "markov")
  >>> round(drawn.present.mean().item(), 1) in (0.2, 0.3)
  True

  The three patterns are those of Wang and Ji 2024,
  https://arxiv.org/abs/2306.03401; the transition rates are ours.
  """
  shares = np.asarray(rates, np.float64)
  _check(rounds, shares, pattern)
  columns = []
  for replica, rate in enumerate(shares):
    random = _random(key, replica)
    if pattern == "bernoulli":
      columns.append(random.random(rounds) < rate)
    elif pattern == "cyclic":
      place = np.arange(rounds) * rate + random.random()
      columns.append(np.floor(place + rate) > np.floor(place))
    else:
      columns.append(_markov(random, rounds, rate, stay))
  present = np.stack(columns, 1)
  return Schedule(present, np.ones(present.shape))


def stragglers(
  key: Key, schedule: Schedule, chance: float, slowest: float = 0.0
) -> Schedule:
  """Make replicas late: some get only a share of a round's steps done.

  Args:
    key: of the draws.
    schedule: what it applies to.
    chance: that a replica is late in a round, in [0, 1].
    slowest: the least share that a late one gets done, in [0, 1); the share is
      even between this and 1.

  Returns:
    Schedule.

  Raises:
    ValueError: for numbers out of range.

  >>> late = stragglers(jax.random.key(0), everyone(9, 2), chance=1.0)
  >>> bool((late.share < 1).all())
  True

  Ours.
  """
  if not 0.0 <= chance <= 1.0 or not 0.0 <= slowest < 1.0:
    raise ValueError(
      f"stragglers: chance {chance} and slowest {slowest}, expected 0 to 1"
    )
  share = schedule.share.copy()
  for replica in range(share.shape[1]):
    random = _random(key, replica)
    late = random.random(len(share)) < chance
    done = slowest + (1 - slowest) * random.random(len(share))
    share[:, replica] *= np.where(late, done, 1.0)
  return schedule._replace(share=share)


def _check(rounds: int, rates: np.ndarray, pattern: str) -> None:
  if pattern not in PATTERNS:
    raise ValueError(
      f"participation: pattern is {pattern!r}, expected {PATTERNS}"
    )
  if rounds < 1:
    raise ValueError(f"participation: {rounds} rounds, expected at least 1")
  if rates.ndim != 1 or not len(rates):
    raise ValueError(
      f"participation: rates of shape {rates.shape}, expected [M]"
    )
  bad = np.flatnonzero(~((rates > 0) & (rates <= 1)))
  if len(bad):
    raise ValueError(
      f"participation: the rate of replica {bad[0]} is {rates[bad[0]]:g},"
      " expected 0 < rate <= 1"
    )


def _random(key: Key, replica: int) -> np.random.Generator:
  words = np.asarray(jax.random.key_data(key)).ravel().tolist()
  return np.random.Generator(np.random.Philox([*words, replica]))


def _markov(
  random: np.random.Generator, rounds: int, rate: float, stay: float
) -> np.ndarray:
  back = min(1.0, (1 - stay) * rate / (1 - rate)) if rate < 1 else 1.0
  leave = (1 - rate) / rate * back  # so that the share in the long run is rate
  draws = random.random(rounds + 1)
  present = np.zeros(rounds, bool)
  here = bool(draws[0] < rate)
  for turn in range(rounds):
    present[turn] = here
    here = draws[turn + 1] >= leave if here else draws[turn + 1] < back
  return present
