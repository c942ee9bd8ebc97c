"""The cases to measure: the paper's networks on one device."""

import copy
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from vdm.config import Config

ROOT = Path(__file__).resolve().parents[2]
PRECISIONS = ("bfloat16", "tf32", "float32")
"""Fastest first."""

BATCH_SIZE = {"cifar10": 128, "imagenet64": 8}
"""Images per device: the whole batch for CIFAR-10, and the share of one of 16 devices for ImageNet64."""


def config_of(case: str, precision: str, small: bool, **network: Any) -> Config:
    """Return the config of this name for one device in the given precision, at toy size if `small`."""
    config: Config = runpy.run_path(str(ROOT / "configs" / f"{case}.py"))["get_config"]()
    config.training.batch_size = 2 if small else BATCH_SIZE[case]
    if small:
        network = {"channels": 8, "depth": 1} | {name: n for name, n in network.items() if name != "depth"}
        config.data.shape = (8, 8, 3)
    return in_precision(replace(config, network=replace(config.network, **network)), precision)


def in_precision(config: Config, precision: str) -> Config:
    """Return the config with everything computed in `precision`."""
    config = copy.deepcopy(config)
    config.training.precision = config.evaluation.precision = config.sampling.precision = precision
    return config


def room() -> int | None:
    """Return the bytes of the first device's memory that a program may use; None if unknown."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
