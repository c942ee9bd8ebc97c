"""Checks of a sampler's options: what is known before tracing is refused at once, what is traced passes."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import jax
import numpy as np


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Raises ValueError when `value` is no array, which may be traced, and not a number from `low` to `high`."""
    if isinstance(value, jax.Array | np.ndarray):
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        raise ValueError(f"{name}={value!r}: must be a number from {low:.6g} to {high:.6g}")


def check_choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raises ValueError unless `value` is one of `allowed`, of the same type: 1, True and 1.0 are three values."""
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, allowed))}")


def check_count(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a whole number from 1 on."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}={value!r}: must be a whole number, 1 or more")
