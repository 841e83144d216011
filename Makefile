# Daily commands. Each sets up what it needs on a machine that has only Python 3.11, and is quick the second time.
#
#   make demo    create a system in a temporary folder, run it offline, show and replay its session
#   make test    the whole suite, warnings as errors
#   make lint    style, types, the floors of the house, generated docs
#   make bench   the benchmarks, in their quick form
#   make docs    write the generated pages of docs/
#   make venv    only set up .venv
#   make clean   remove everything that these commands made

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs venv clean

# Without bytecode every start of Python pays for compiling its imports again.
unexport PYTHONDONTWRITEBYTECODE
# Code is taken from this checkout and .venv, never from what the caller's shell points at.
unexport PYTHONPATH
unexport PYTHONHOME

PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.stamp

help:
	@sed -n 's/^#   make /make /p' Makefile

venv: $(STAMP)

$(STAMP): pyproject.toml
	@scripts/venv.sh "$(PYTHON)" .venv
	$(PY) -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	@scripts/demo.sh

test: $(STAMP)
	$(PY) -m pytest -n 2 --dist worksteal

# Every check runs, so that one look shows all there is to mend.
lint: $(STAMP)
	@scripts/lint.sh

bench: $(STAMP)
	@scripts/bench.sh

docs: $(STAMP)
	$(PY) -m docs.generate

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +
