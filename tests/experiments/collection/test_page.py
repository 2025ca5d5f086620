"""Many runs as one table and one page, which works without a network."""

import base64
import csv
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest

from experiments import collect
from experiments.collection import page as collect_page
from experiments.run import collecting, runs
from weightspace import intervals

ROOT = pathlib.Path(__file__).parents[3]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
# A page may not ask for anything; these are what the browser itself would.
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
QUIET += " --disable-background-networking --disable-component-update"
QUIET += " --disable-sync --virtual-time-budget=30000"  # pictures are decoded


# A picture of one point.
DOT = base64.b64decode(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWj"
  "R9awAAAABJRU5ErkJggg=="
)


def made(root: pathlib.Path, count: int = 6) -> pathlib.Path:
  """Write finished runs of a sweep over rate and width."""
  for index in range(count):
    unit = root / f"u{index}"
    about = {"id": f"u{index}", "overrides": {"rate": 0.1 * index}}
    runs.write(unit / "unit.json", runs.dump(about))
    folder = unit / "soup" / "mine-0123"
    config = {"rate": 0.1 * index, "model": {"width": 8 * (index % 2)}}
    runs.write(folder / "config.json", runs.dump(config | {"same": "x"}))
    rng, lines = np.random.default_rng(index), []
    for seed in range(4):
      value = {"seed": seed, "method": "mean", "loss": float(rng.normal())}
      lines.append(json.dumps(value | {"seconds": 1.0}))
    runs.write(folder / "metrics.jsonl", "\n".join(lines) + "\n")
    entry = {"mean": 1.0 + index, "low": 0.5, "high": 2.5, "size": 4}
    result = {
      "experiment": "soup" if index else "wise_ft",
      "title": "A </script> title",
      "holds": None if index == 4 else bool(index % 2),
      "measured": "it is",
      "seconds": 2.0,
      "numbers": {"mean": {"loss": entry}, "size": {"bytes": 12}},
    }
    runs.write(folder / "result.json", runs.dump(result))
    runs.write(folder / "figures" / "loss.png", DOT)
  unfinished = root / "u9" / "soup" / "mine-0123"
  runs.write(unfinished / "config.json", "{}")
  return root


def test_records_have_what_their_runs_left(tmp_path):
  records = collecting.collect(made(tmp_path))
  assert [item["run"] for item in records] == [
    f"u{index}/soup/mine-0123" for index in range(6)
  ]
  first = records[1]
  assert first["overrides"] == {"rate": 0.1}
  assert first["settings"] == {"rate": 0.1, "model.width": 8, "same": "x"}
  assert first["numbers"]["mean / loss"]["mean"] == 2.0
  assert list(first["seeds"]["mean / loss"]) == ["0", "1", "2", "3"]
  assert collecting.differing(records) == ["model.width", "rate"]


def test_the_table_is_tidy(tmp_path, capsys):
  assert collect.main([str(made(tmp_path))]) == 0
  assert "6 runs: table.csv" in capsys.readouterr().out
  with open(tmp_path / "table.csv", newline="") as stream:
    rows = list(csv.DictReader(stream))
  assert len(rows) == 6
  assert rows[2]["rate"] == "0.2" and rows[2]["mean / loss"] == "3.0"
  assert rows[2]["mean / loss (low)"] == "0.5" and rows[2]["holds"] == "False"
  assert rows[2]["size / bytes"] == "12" and "same" not in rows[2]
  assert rows[4]["holds"] == rows[4]["verdict"] == "-"  # nothing claimed
  assert rows[3]["verdict"] == "holds"


def test_collecting_again_replaces_what_was_there(tmp_path):
  made(tmp_path)
  collect.main([str(tmp_path)])
  before = (tmp_path / "index.html").read_text()
  collect.main([str(tmp_path)])
  assert (tmp_path / "index.html").read_text() == before


def test_the_page_refers_to_nothing_outside(tmp_path):
  records = collecting.collect(made(tmp_path))
  text = collect_page.page("a & b", records, tmp_path)
  assert "<title>a &amp; b</title>" in text
  assert not re.search(r"(src|href)=.https?:", text)
  assert text.count("</script>") == 2  # its own two, whatever the data say


def test_figures_lie_in_the_page_while_there_is_room(tmp_path, monkeypatch):
  records = collecting.collect(made(tmp_path))
  assert records[0]["figures"] == ["u0/soup/mine-0123/figures/loss.png"]
  text = collect_page.page("all", records, tmp_path)
  assert text.count("data:image/png") == 6
  monkeypatch.setattr(collect_page, "FIGURES", 2 * len(DOT))
  text = collect_page.page("some", records, tmp_path)
  assert text.count("data:image/png") == 2
  assert text.count("/figures/loss.png") == 4


@pytest.mark.parametrize(
  "argv, said, code",
  [
    ([], "usage", 2),
    (["--help"], "usage", 2),
    (["nowhere"], "nowhere: no folder", 1),
  ],
)
def test_bad_command_lines_are_named(argv, said, code, capsys):
  assert collect.main(argv) == code
  assert said in capsys.readouterr().err


def test_what_cannot_be_read_is_named(tmp_path, capsys):
  assert collect.main([str(tmp_path)]) == 1
  assert "no finished run" in capsys.readouterr().err
  made(tmp_path, 1)
  (tmp_path / "u0/soup/mine-0123/config.json").write_text("{")
  assert collect.main([str(tmp_path)]) == 1
  assert "u0/soup/mine-0123: cannot be read" in capsys.readouterr().err


SCRIPT = """
const said = [];
window.onerror = (message) => said.push(message);
const rows = () => [...document.querySelectorAll("#table tbody tr")];
const first = () => rows().map((tr) => tr.cells[0].textContent);
const type = (id, value) => {
  const at = document.getElementById(id);
  at.value = value;
  at.dispatchEvent(new Event("input"));
};
const found = { all: rows().length };
found.holds = rows().map((tr) => tr.cells[2].textContent).join("|");
type("filter", "verdict=-");
found.unjudged = first();
type("filter", "");
document.querySelector("th[data-column='rate']").click();
document.querySelector("th[data-column='rate']").click();
found.sorted = first();
type("filter", "model.width=8");
found.filtered = first();
type("filter", "");
type("experiment", "wise_ft");
found.experiment = first();
type("experiment", "");
rows()[0].click();
rows()[1].click();
found.compared = document.getElementById("compare").innerText;
found.chosen = document.querySelectorAll("#axes path.chosen").length;
found.lines = document.querySelectorAll("#axes path").length;
found.errors = said;
found.figures = [...document.querySelectorAll("#figures img")];
Promise.all(found.figures.map((img) => img.decode())).then(() => {
  found.figures = found.figures.map((img) => [img.alt, img.naturalWidth]);
  document.title = JSON.stringify(found);
});
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_the_page_sorts_filters_and_compares_in_a_browser(tmp_path):
  records = collecting.collect(made(tmp_path / "runs"))
  text = collect_page.page("a sweep", records, tmp_path / "runs")
  page = tmp_path / "page.html"
  page.write_text(text.replace("</body>", f"<script>{SCRIPT}</script></body>"))
  profile = f"--user-data-dir={tmp_path}/profile"
  command = [BROWSER, *QUIET.split(), profile, "--dump-dom", page.as_uri()]
  done = subprocess.run(command, capture_output=True, text=True, timeout=120)
  title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1]
  found = json.loads(title.replace("&amp;", "&"))
  assert found["errors"] == [] and found["all"] == 6
  assert found["holds"] == ("does not hold|holds|does not hold|holds|-|holds")
  assert [run[:2] for run in found["unjudged"]] == ["u4"]
  assert found["sorted"][0].startswith("u5/") and len(found["sorted"]) == 6
  assert [run[:2] for run in found["filtered"]] == ["u5", "u3", "u1"]
  assert [run[:2] for run in found["experiment"]] == ["u0"]
  assert found["lines"] == 6 and found["chosen"] == 2
  assert found["figures"] == [["loss", 1], ["loss", 1]]
  # The paired interval of the page is that of the library.
  a, b = (list(r["seeds"]["mean / loss"].values()) for r in records[5:3:-1])
  gap = intervals.paired(np.array(b), np.array(a))
  digits = max(0, 1 - int(np.floor(np.log10((gap.high - gap.low) / 2))))
  for number in gap.mean, gap.low, gap.high:
    assert f"{number:.{digits}f}" in found["compared"]
