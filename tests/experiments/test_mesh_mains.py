"""Experiments on two devices: the numbers of one, up to rounding."""

import importlib

import numpy as np
import pytest

import weightspace as ws
from experiments.run import app, hosts, runs

CONFIGS = {  # one for each main, or each way that one trains or evaluates
  "phases": "phases_digits",
  "merge_variance": "merge_variance",
  "merge": "merge_ties",
  "merge_transfer": "merge_transfer",
  "wise_ft": "wise_ft",
  "data_aware": "regmean",
  "average: runs": "free_lunch",
  "average: folds": "zscl",
  "adapt": "salsa",
  "grow": "grow_mixture",
}


MIXES = ws.merge, "evaluate_mixes"


def lines(name, experiment, mesh, folder):
  """Return what a tiny run logs on a mesh, by what a line is of."""
  config = importlib.import_module(f"configs.{name}").get_config("mode=tiny")
  if name == "phases_digits":  # one cell is enough
    config.widths, config.batches = (8,), (20,)
  main = importlib.import_module(f"experiments.{experiment}.__main__").main
  about = {"experiment": experiment, "name": name, "command": "none"}
  given = config, runs.plain(config.to_dict(), "config"), about, None
  begun = app.begin(folder, *given)._replace(mesh=hosts.mesh(mesh))
  main(begun)
  begun.lock.close()
  return begun.lines


@pytest.mark.slow
@pytest.mark.parametrize("title", CONFIGS)
def test_a_main_is_the_same_on_two_devices(title, tmp_path, monkeypatch):
  name, experiment = CONFIGS[title], title.partition(":")[0]
  used = []  # devices of each call that can be shared out

  def seen(function):
    def call(*args, mesh=None, **more):
      used.append(mesh.size if mesh else 1)
      return function(*args, mesh=mesh, **more)

    return call

  for module, what in ((ws.train, "fit_population"), MIXES):
    monkeypatch.setattr(module, what, seen(getattr(module, what)))
  one, two = (
    lines(name, experiment, {"population": size}, tmp_path / str(size))
    for size in (1, 2)
  )
  half = len(used) // 2
  assert set(used[:half]) == {1} and 2 in used[half:], "the mesh is not used"
  assert one.keys() == two.keys()
  for of, line in one.items():
    for number, value in line.items():
      if isinstance(value, float) and number not in ("seconds", "runtime"):
        np.testing.assert_allclose(
          two[of][number], value, 1e-3, 1e-3, err_msg=of
        )
