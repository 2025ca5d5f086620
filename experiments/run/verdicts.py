"""What a run may say of its claim: over a single seed nothing is judged.

One value says nothing of its spread, so its interval is the whole line, on
which every comparison fails.  That is no finding against a claim: it is none.

>>> settle("+0.30 points [-inf, +inf] over 1 seeds", False, [{"seed": 0}])
('+0.30 points over one seed; one seed gives no interval: not judged', None)
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

ENDLESS = re.compile(r"\s*\[[-+]?inf, [-+]?inf\]")
COUNTED = re.compile(r"\bover 1 (seed|pair)s\b")


def settle(
  measured: str, holds: bool | None, lines: Iterable[Mapping[str, Any]]
) -> tuple[str, bool | None]:
  """Return what was measured, and what is judged of it, if anything.

  Args:
    measured: what a judge found, in words; infinite ends of an interval say
      that it is of a single value.
    holds: what the judge made of it; None where it made nothing of it.
    lines: what the run logged, some of it with a seed.

  Returns:
    (measured, holds): as given where all intervals are of several values, and
    several seeds were run.

  >>> settle("+0.30 [+0.10, +0.50]", True, [{"seed": 0}, {"seed": 1}])
  ('+0.30 [+0.10, +0.50]', True)
  """
  found = COUNTED.sub(r"over one \1", ENDLESS.sub("", measured))
  seeds = {line["seed"] for line in lines if "seed" in line}
  alone = len(seeds) == 1
  if holds is None:
    return found, None
  if not alone and not ENDLESS.search(measured):
    return measured, holds
  what = "seed" if alone else "value"
  return f"{found}; one {what} gives no interval: not judged", None
