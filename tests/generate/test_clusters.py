"""Examples that stand for clusters."""

import numpy as np
import pytest

from weightspace.generate import representatives


def test_each_cluster_has_the_example_nearest_its_mean():
  random = np.random.default_rng(0)
  places = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
  x = np.concatenate([p + random.normal(size=(20, 2)) for p in places])
  expected = []
  for i in range(3):
    rows = x[20 * i : 20 * (i + 1)]
    far = ((rows - rows.mean(0)) ** 2).sum(1)
    expected.append(20 * i + int(far.argmin()))
  assert representatives(x, 3).tolist() == expected


def test_all_of_them_stand_for_themselves():
  x = np.random.default_rng(1).normal(size=(7, 3))
  assert representatives(x, 7).tolist() == list(range(7))
  equal = representatives(np.ones((4, 2)), 3)
  assert len(set(equal.tolist())) == 3


def test_one_is_the_nearest_to_the_mean():
  x = np.array([[0.0], [1.0], [5.0]])
  assert representatives(x, 1).tolist() == [1]


def test_bad_input_is_refused():
  for x, k in ((np.ones((3, 1)), 0), (np.ones((3, 1)), 4), (np.ones(3), 1)):
    with pytest.raises(ValueError, match="1 <= k <= n"):
      representatives(x, k)
  with pytest.raises(ValueError, match="finite"):
    representatives(np.array([[np.nan]]), 1)
