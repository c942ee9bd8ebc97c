"""Variational diffusion models in JAX: schedules, bounds, samplers and training, each checked against a closed form."""

import importlib
from typing import Any

FUNCTIONS = {"open_run": "vdm.runs.open", "train": "vdm.programs.train"}
"""What is to be had from here and lives in a module of its own."""


def __getattr__(name: str) -> Any:
    """`FUNCTIONS` and submodules on first use: `import vdm` alone imports nothing else."""
    if name in FUNCTIONS:
        return getattr(importlib.import_module(FUNCTIONS[name]), name)
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"vdm.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"vdm.{name}":
                raise
    raise AttributeError(f"module 'vdm' has no attribute {name!r}")
