"""What is measured: the paper's networks on one device."""

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
"""Images a device: all of CIFAR-10's batch; of ImageNet64's what one of 16 devices has."""


def config_of(case: str, precision: str, small: bool, **network: Any) -> Config:
    """The config of this name computed in a precision on one device; at toy size if `small`."""
    config: Config = runpy.run_path(str(ROOT / "configs" / f"{case}.py"))["get_config"]()
    config.training.batch_size = 2 if small else BATCH_SIZE[case]
    if small:
        network = {"channels": 8, "depth": 1} | {name: n for name, n in network.items() if name != "depth"}
        config.data.shape = (8, 8, 3)
    return in_precision(replace(config, network=replace(config.network, **network)), precision)


def in_precision(config: Config, precision: str) -> Config:
    """The config with everything computed in `precision`."""
    config = copy.deepcopy(config)
    config.training.precision = config.evaluation.precision = config.sampling.precision = precision
    return config


def room() -> int | None:
    """Bytes of the first device that a program may use; None where that is not known."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
