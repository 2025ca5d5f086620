"""The studies by name.

>>> sorted(STUDIES)
['consistent', 'diverse', 'follow', 'predict', 'radial', 'zoo']
"""

from experiments.generate import (
  diverse,
  follow,
  predict,
  radial,
  teachers,
  zoo,
)
from experiments.run.study import Study

STUDIES: dict[str, Study] = {
  "consistent": teachers.study,
  "diverse": diverse.study,
  "follow": follow.study,
  "predict": predict.study,
  "radial": radial.study,
  "zoo": zoo.study,
}
