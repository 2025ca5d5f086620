"""The table of many runs as Parquet, where pandas and pyarrow are installed."""

import json

import pytest

from tests import peers
from tests.experiments.collection import test_page as test_collect

pytestmark = pytest.mark.engines
peers.need("pandas", "pyarrow", "scipy", "weightspace")
CODE = """
import json, os, sys
sys.path.insert(0, os.getcwd())
from experiments import collect
collect.collect(sys.argv[1])
import pandas
frame = pandas.read_parquet(sys.argv[1] + "/table.parquet")
print(json.dumps([list(frame.columns), frame["mean / loss"].tolist(),
                  len(frame)]))
"""


def test_the_table_is_parquet_too(tmp_path, monkeypatch):
  monkeypatch.chdir(test_collect.ROOT)
  test_collect.made(tmp_path)
  *said, last = peers.run(CODE, tmp_path).splitlines()
  columns, losses, count = json.loads(last)
  assert count == 6 and losses == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
  assert {"run", "rate", "model.width", "holds", "seconds"} <= set(columns)
  assert "table.csv, table.parquet" in said[0]
