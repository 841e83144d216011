# Daily commands. Each sets up what it needs on a machine that has only Python 3.11, and is quick the second time.
#
#   make demo          create a system in a temporary folder, run it offline, show and replay its session
#   make test          the whole suite, warnings as errors
#   make lint          style, types, the floors of the house, generated docs
#   make bench         the benchmarks, in their quick form
#   make docs          write the generated pages of docs/
#   make venv          only set up .venv
#   make clean         remove everything that these commands made
#
# All of them install what locks/ says. Before a release, and when a dependency has moved:
#
#   make lock          write locks/ anew, from what pyproject.toml allows
#   make test-newest   the suite on the newest versions that pyproject.toml allows
#   make test-lowest   the suite on the lowest ones
#   make test-adapters   adapters of environments on the real reasoning-gym, gymnasium and textarena
#   make test-verifiers  the adapter of verifiers' tasksets, in a venv with both packages (600 MB)
#   make test-pythons  the suite on each Python of 3.11 to 3.13 that is installed here

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs venv clean lock test-newest test-lowest test-pythons \
	test-adapters test-verifiers

# Without bytecode every start of Python pays for compiling its imports again.
unexport PYTHONDONTWRITEBYTECODE
# Code is taken from this checkout and .venv, never from what the caller's shell points at.
unexport PYTHONPATH
unexport PYTHONHOME

PYTHON ?= python3
export PYTHON
PY := .venv/bin/python
# The demonstration needs little; the suite needs every engine, one of them compiled (four minutes, once).
STAMP := .venv/.stamp
DEV := .venv/.stamp-dev

# An environment whose Python has gone (an upgrade of the system, a moved folder) is made again.
$(shell .venv/bin/python -c pass 2>/dev/null || rm -f $(STAMP) $(DEV))

help:
	@sed -n 's/^#   make /make /p' Makefile

venv: $(DEV)

$(STAMP): pyproject.toml scripts/install.sh locks/local.txt
	@scripts/venv.sh "$(PYTHON)" .venv
	scripts/install.sh .venv local
	@touch $@

$(DEV): pyproject.toml scripts/install.sh locks/dev.txt locks/compiled.txt locks/torch.txt
	@scripts/venv.sh "$(PYTHON)" .venv
	scripts/install.sh .venv dev
	@touch $@ $(STAMP)

demo: $(STAMP)
	@scripts/demo.sh

# What every test writes and prints is searched for the secrets that lllm knew in it.
test: $(DEV)
	SEARCH_SECRETS=1 $(PY) -m pytest -n 2 --dist worksteal

# Every check runs, so that one look shows all there is to mend.
lint: $(DEV)
	@scripts/lint.sh

bench: $(DEV)
	@scripts/bench.sh

docs: $(DEV)
	$(PY) -m docs.generate

lock:
	@scripts/uv.sh
	@.venv-uv/bin/python scripts/lock.py

test-newest:
	@scripts/versions.sh newest

test-lowest:
	@scripts/versions.sh lowest

test-adapters:
	@scripts/adapters.sh games

test-verifiers:
	@scripts/adapters.sh verifiers

test-pythons:
	@scripts/pythons.sh

clean:
	rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +
