"""Runs that differ only in their seed, and statistics over them."""

from collections.abc import Sequence

import numpy as np

from vdm.config import Config
from vdm.errors import InputError


def seeds_of(config: Config, num: int) -> range:
    """Return `num` seeds: seed, seed + 1, …. Raises `InputError` if they exceed the range of valid seeds."""
    if config.seed + num > 2**32:
        raise InputError(f"comparison.seeds={num}: with config.seed={config.seed} the last one must be below 2**32")
    return range(config.seed, config.seed + num)


def statistics(values: Sequence[float]) -> tuple[float, float]:
    """Return (mean over seeds, sample standard deviation over seeds, NaN for a single one).

    >>> statistics([1.0, 2.0])[0]
    1.5
    """
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
