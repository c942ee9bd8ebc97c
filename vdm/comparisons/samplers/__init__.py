"""Samplers on one trained model: sample quality for each number of network calls."""

from vdm.comparisons.modes import Mode
from vdm.comparisons.samplers.measure import compare_samplers
from vdm.comparisons.samplers.settings import SamplersSettings

MODE = Mode(SamplersSettings, compare_samplers, of_a_run="samplers")

__all__ = ["MODE", "SamplersSettings", "compare_samplers"]
