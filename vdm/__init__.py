"""Variational diffusion models in JAX: schedules, bounds, samplers and training, each checked against a closed form.

import vdm

run = vdm.open_run("runs/digits")
denoise = run.model.denoiser(run.variables)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # otherwise type checkers see only the `Any` that `__getattr__` returns
    from vdm.programs.classifier import train_classifier as train_classifier
    from vdm.programs.clip import train_clip as train_clip
    from vdm.programs.train import train as train
    from vdm.runs.classifiers import open_classifier as open_classifier
    from vdm.runs.image_text import open_clip as open_clip
    from vdm.runs.open import open_run as open_run

__version__ = "0.1.0"

FUNCTIONS = {
    "open_classifier": "vdm.runs.classifiers",
    "open_clip": "vdm.runs.image_text",
    "open_run": "vdm.runs.open",
    "train": "vdm.programs.train",
    "train_clip": "vdm.programs.clip",
    "train_classifier": "vdm.programs.classifier",
}
"""Public functions of the package, each with the module that defines it."""

__all__ = [
    "bounds", "classifier", "codec", "composition", "config", "data", "decodings", "evaluation", "gaussian", "guidance",
    "image_text", "inverse", "keys", "likelihoods", "model", "networks", "open_classifier", "open_clip", "open_run",
    "operators", "oracles", "parallel", "parts", "plots", "posteriors", "predictions", "probability_flow",
    "processes", "proposals", "restorations", "runs", "samplers", "schedules", "timesteps", "train",
    "train_classifier", "train_clip", "training", "weightings",
]  # fmt: skip


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import `FUNCTIONS` and submodules on first use, so that `import vdm` alone imports nothing else."""
    if name in FUNCTIONS:
        return getattr(importlib.import_module(FUNCTIONS[name]), name)
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"vdm.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"vdm.{name}":
                raise
    raise AttributeError(f"module 'vdm' has no attribute {name!r}")
