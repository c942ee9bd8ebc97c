"""How much memory a part of a program takes at its peak."""

import contextlib
import resource
import sys
from pathlib import Path

import jax

RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit of `ru_maxrss`."""


def forget_peak() -> None:
    """Lets the process's peak begin anew, where that can be done: on Linux, in /proc."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: jax.Device) -> int:
    """The most that was used of the device's memory, or where it does not say, as a CPU, by the whole process.

    The process's since `forget_peak`, a device's since its start.
    """
    stats = device.memory_stats() or {}
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    return int(stats.get("peak_bytes_in_use", process))
