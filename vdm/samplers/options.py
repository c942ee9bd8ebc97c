"""Checks of sampler options: values known before tracing are checked at once, traced values are let through."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import jax
import numpy as np


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Raise ValueError unless `value` is a number from `low` to `high`, or an array, which is not checked."""
    if isinstance(value, jax.Array | np.ndarray):
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        raise ValueError(f"{name}={value!r}: must be a number from {low:.6g} to {high:.6g}")


def check_choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise ValueError unless `value` is one of `allowed` and of the same type: 1, True and 1.0 are all different."""
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, allowed))}")


def check_count(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}={value!r}: must be a whole number, 1 or more")
