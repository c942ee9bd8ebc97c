"""Peak memory use of a part of a program."""

import contextlib
import resource
import sys
from pathlib import Path

import jax

RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes per unit of `ru_maxrss`."""


def forget_peak() -> None:
    """Reset the process's peak memory, where that is possible (on Linux, through /proc)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: jax.Device) -> int:
    """Return the peak use of the device's memory or, if it does not report it (CPUs), of the whole process's memory.

    The process's peak counts from `forget_peak`, a device's from the start of the program.
    """
    stats = device.memory_stats() or {}
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    return int(stats.get("peak_bytes_in_use", process))
