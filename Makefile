# `make train` trains the default, `make verify` and `make test` check the package, `make quick` the parts that break first: on a machine with Python 3.11 to 3.14 and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train verify test quick lint package docs docs-serve examples floors newest

train: .venv/installed
	$(BIN)/python train.py --config=configs/digits.py --workdir=runs/digits

verify: .venv/installed
	$(BIN)/python -m vdm.verify

test: .venv/installed-dev
	$(BIN)/python -m pytest

# What most changes need: the rooms, the config and its parts, the mathematics and the model.
quick: .venv/installed-dev
	$(BIN)/python -m pytest @tests/quick.txt

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

package: .venv/installed-dev
	bash .ci/package $(BIN)/python

# The documentation site, into site/; docs-serve shows it at http://127.0.0.1:8000 and rebuilds what you change.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-serve: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

# For a schedule: the whole suite with everything at its floor, and at its newest.
floors:
	bash .ci/releases lowest-direct "$$(bash .ci/pythons | head -n 1)"

newest:
	bash .ci/releases highest "$$(bash .ci/pythons | tail -n 1)"

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .[dev]
	touch $@ .venv/installed

.venv/installed-docs: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .[docs]
	touch $@ .venv/installed

# The worked examples at full size, with the seconds of each; VDM_EXAMPLES=small runs them in seconds.
examples: .venv/installed-dev
	$(BIN)/python -m docs_hooks.examples
