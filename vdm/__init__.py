"""Variational diffusion models in JAX: schedules, bounds, samplers and training, each checked against a closed form."""

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """Submodules on first use: `vdm.model` after `import vdm`, while `import vdm` alone imports nothing."""
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"vdm.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"vdm.{name}":
                raise
    raise AttributeError(f"module 'vdm' has no attribute {name!r}")
