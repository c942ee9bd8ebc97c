"""Discrete- and continuous-time models trained alike, and their bounds for each number of time steps T."""

from vdm.comparisons.modes import Mode
from vdm.comparisons.steps.measure import compare_steps
from vdm.comparisons.steps.settings import StepsSettings

MODE = Mode(StepsSettings, compare_steps)

__all__ = ["MODE", "StepsSettings", "compare_steps"]
