"""Every judge says each of its verdicts, and seldom holds at the null."""

import numpy as np
import pytest

from experiments import reproduce
from experiments.run.verdicts import FAILS, HOLDS, OPEN
from tests.experiments import judges
from tests.experiments.judges import beds, networks, studies

CASES = studies.CASES | beds.CASES | networks.CASES
# Claims whose verdict rests on what is true or false of the numbers alone.
TRUE_OR_FALSE = {"merge-rmm"}
# Numbers that judges compare exactly elsewhere, but not here.
NOISY = {"sharpness-laws": {"ratio"}}


def judged(name, k, random, noise=0.01):
  judge, config = judges.judge(reproduce.CLAIMS[name])
  exact = judges.EXACT - NOISY.get(name, set())
  lines = CASES[name](k, config)
  return judge(judges.run(lines, config, random, noise, exact))


def test_every_claim_of_these_families_has_a_case():
  """Those of a grid of phases are tested by their trends."""
  families = {reproduce.CLAIMS[name].experiment for name in CASES}
  for claim in reproduce.CLAIMS.values():
    assert claim.experiment not in families or claim.name in CASES


@pytest.mark.parametrize("k", [1, -1])
@pytest.mark.parametrize("name", CASES)
def test_a_judge_tells_an_effect_from_its_reverse(name, k):
  measured, verdict = judged(name, k, np.random.default_rng(3))
  assert verdict.word == (HOLDS if k > 0 else FAILS), measured
  assert 0.0 <= verdict.p <= 1.0 and "[" in measured


@pytest.mark.parametrize("name", sorted(set(CASES) - TRUE_OR_FALSE))
def test_a_judge_leaves_the_null_undecided(name):
  """By chance a comparison at its bound may fail: of nine most do not."""
  random = np.random.default_rng(3)
  words = [judged(name, 0, random)[1].word for _ in range(9)]
  assert words.count(OPEN) > 4, words


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_at_the_null_few_hold(name):
  """Of 400 simulations at most 2.5 %, within three standard errors."""
  random = np.random.default_rng(0)
  held = [bool(judged(name, 0, random)[1]) for _ in range(400)]
  assert np.mean(held) <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 400)
