# `make train` trains the default, `make verify` and `make test` check the package: on a machine with Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train verify test lint

train: .venv/installed
	$(BIN)/python train.py --config=configs/digits.py --workdir=runs/digits

verify: .venv/installed
	$(BIN)/python -m vdm.verify

test: .venv/installed-dev
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .[dev]
	touch $@ .venv/installed
