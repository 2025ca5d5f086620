"""Nearest neighbours under masks: a plain reference, chance, bad input."""

import numpy as np
import pytest

from weightspace import sparse

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 90)
X = RANDOM.normal(size=(90, 4)) + 3 * np.eye(4)[LABELS]


def reference(rows, labels, first, neighbours):
  right = 0
  for row, label in zip(rows[first:], labels[first:]):
    distance = ((rows[:first] - row) ** 2).sum(1)
    near = labels[:first][np.argsort(distance, kind="stable")[:neighbours]]
    votes = [(near == kind).sum() for kind in np.unique(labels)]
    right += np.unique(labels)[int(np.argmax(votes))] == label
  return right / (len(rows) - first)


@pytest.mark.parametrize("neighbours", [1, 7, 100])
def test_accuracies_are_the_references(neighbours):
  masks = [np.array(m) for m in ([1, 1, 1, 1], [0, 0, 0, 1], [1, 1, 0, 0])]
  found = sparse.similar(lambda m: X * m, LABELS, masks, neighbours=neighbours)
  wanted = [reference(X * m, LABELS, 59, min(neighbours, 59)) for m in masks]
  np.testing.assert_allclose(found.accuracy, wanted)
  assert found.best == int(np.argmax(wanted))


def test_labels_need_not_be_counted_from_zero():
  found = sparse.similar(lambda m: X, 7 * LABELS + 2, [None], neighbours=5)
  same = sparse.similar(lambda m: X, LABELS, [None], neighbours=5)
  np.testing.assert_array_equal(found.accuracy, same.accuracy)


def test_nothing_is_like_it_where_neighbours_know_no_more_than_chance():
  """Half of the rest are told right where all features are equal: chance."""
  labels = np.array([0, 0, 1, 0, 1])
  found = sparse.similar(
    lambda m: np.zeros((5, 2)), labels, [None], neighbours=3, share=0.6
  )
  assert found.accuracy.tolist() == [0.5] and found.best is None


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: sparse.similar(lambda m: X, LABELS, []), "0 masks"),
    (lambda: sparse.similar(lambda m: X, LABELS, [0], share=1.0), "90 of 90"),
    (lambda: sparse.similar(lambda m: X, LABELS, [0], neighbours=0), "0 neigh"),
    (lambda: sparse.similar(lambda m: X[:9], LABELS, [0]), r"\(9, 4\)"),
    (lambda: sparse.similar(lambda m: X * np.nan, LABELS, [0]), "finite"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
