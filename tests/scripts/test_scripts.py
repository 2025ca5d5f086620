"""A wheel works where no checkout is: the library, its commands, its data."""

import os
import pathlib
import subprocess
import sys

import pytest

import weightspace as ws

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(words, folder, **env):
  environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  return subprocess.run(
    words, cwd=folder, env=environment | env, capture_output=True, text=True
  )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
  """Build the sdist and from it the wheel; install that into a folder."""
  folder = tmp_path_factory.mktemp("release")
  code = (
    "import os, sys; from setuptools import build_meta as b;"
    "os.chdir(sys.argv[1]); print(b.build_sdist(sys.argv[2]))"
  )
  tree = folder / "checkout"
  names = run(["git", "ls-files", "-co", "--exclude-standard"], ROOT).stdout
  for name in names.split():
    if (ROOT / name).is_file() and not name.startswith("tests/"):
      (tree / name).parent.mkdir(parents=True, exist_ok=True)
      (tree / name).write_bytes((ROOT / name).read_bytes())
  made = run([sys.executable, "-c", code, str(tree), str(folder)], folder)
  assert made.returncode == 0, made.stderr
  source = folder / made.stdout.split()[-1]
  pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
  quiet = ["-q", "--no-deps", "--no-build-isolation"]
  done = run([*pip, "wheel", *quiet, "-w", str(folder), str(source)], folder)
  assert done.returncode == 0, done.stderr
  wheel = next(folder.glob("*.whl"))
  assert f"-{ws.__version__}-" in wheel.name
  at = folder / "site"
  done = run([*pip, "install", *quiet, "--target", str(at), str(wheel)], folder)
  assert done.returncode == 0, done.stderr
  return at


def command(site, name, *words):
  """Run a console script of the installed wheel in a folder of its own."""
  folder = site.parent / "elsewhere"
  folder.mkdir(exist_ok=True)
  path = str(site / "bin" / name)
  return run([sys.executable, path, *words], folder, PYTHONPATH=str(site))


def test_nothing_but_its_own_name_is_installed(site):
  names = {p.name.partition("-")[0] for p in site.iterdir()}
  assert names == {"weightspace", "bin"}, names


def test_the_demo_runs(site):
  config = site / "weightspace" / "scripts" / "configs" / "model_soups.py"
  done = command(site, "weightspace-demo", f"--config={config}:mode=tiny")
  assert done.returncode == 0, done.stderr
  assert "report.html" in done.stdout
  assert (site.parent / "elsewhere" / "runs" / "soup").is_dir()


def test_a_claim_runs(site):
  done = command(
    site, "weightspace-reproduce", "soups-uniform", "--mode=tiny", "--out=t.md"
  )
  assert done.returncode == 0, (done.stdout, done.stderr)
  assert "soups-uniform" in done.stdout


def test_the_merge_says_what_it_wants(site):
  done = command(site, "weightspace-merge")
  assert done.returncode == 2 and "config, output" in done.stderr


def test_one_version_everywhere():
  citation = (ROOT / "CITATION.cff").read_text()
  assert f"\nversion: {ws.__version__}\n" in citation
  assert f"\n## {ws.__version__}" in (ROOT / "CHANGELOG.md").read_text()
