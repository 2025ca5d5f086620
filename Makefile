# make demo | test | test-slow | test-engines | lint | lock; PY=python3.12 chooses
# the Python.
PY ?= python3
V := .venv
BIN := $(V)/bin
# A file of tests stays with one worker, which shares its compiled programs.
WORKERS := -n 2 --dist loadfile
export JAX_PLATFORMS ?= cpu
.DEFAULT_GOAL := test

# The stamp names the interpreter, so that another PY makes another .venv.
VERSION := $(shell $(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
STAMP := $(V)/.ok-$(VERSION)

$(STAMP): requirements.lock setup.py
	rm -rf $(V)
	$(PY) -m venv $(V)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Other tools to compare with, in a .venv of their own: they are large, and pull
# in what the library does not need.
E := .venv-engines
ESTAMP := $(E)/.ok-$(VERSION)

$(ESTAMP): requirements.lock setup.py
	rm -rf $(E)
	$(PY) -m venv $(E)
	$(E)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(E)/bin/python -m pip install -q --disable-pip-version-check --no-build-isolation -e '.[engines]'
	touch $@

.PHONY: demo test test-slow engines test-engines lint lock
demo: $(STAMP)
	$(BIN)/python -m experiments.soup --config=configs/model_soups.py

test: $(STAMP)
	$(BIN)/python -m pytest $(WORKERS) -m "not slow and not engines"

test-slow: $(STAMP)
	$(BIN)/python -m pytest $(WORKERS) -m "slow and not engines"

engines: $(ESTAMP)

test-engines: $(ESTAMP)
	$(E)/bin/python -m pytest -m engines

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements.in -o requirements.lock
