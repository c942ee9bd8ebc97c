# `make train` trains the default, `make verify` and `make test` check the package, `make quick` the parts that break first: on a machine with Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train verify test quick lint

train: .venv/installed
	$(BIN)/python train.py --config=configs/digits.py --workdir=runs/digits

verify: .venv/installed
	$(BIN)/python -m vdm.verify

test: .venv/installed-dev
	$(BIN)/python -m pytest

# What most changes need: the rooms, the config and its parts, the mathematics and the model.
QUICK := architecture config parts settings gaussian schedules bounds predictions guidance likelihoods timesteps model
quick: .venv/installed-dev
	$(BIN)/python -m pytest $(QUICK:%=tests/test_%.py) tests/training/test_objective.py tests/data/test_folder_images.py

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
