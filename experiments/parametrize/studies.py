"""The studies of this family, by the name that a config gives.

>>> sorted(STUDIES)[:2]
['companded', 'levels']
"""

from experiments.parametrize import (
  levels,
  planted,
  small_data,
  transfer,
  two_bit,
)
from experiments.run.study import Study

STUDIES: dict[str, Study] = {
  "companded": small_data.companded,
  "levels": levels.levels,
  "planted": planted.planted,
  "table": transfer.table,
  "transfer": transfer.transfer,
  "two bits": two_bit.two_bits,
}
