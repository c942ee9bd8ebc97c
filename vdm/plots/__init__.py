"""Plots as PNG files: `runs` of one run or several, `objectives` of schedules and weightings, `samplers` of samplers.

Drawn with matplotlib's Agg canvas and no global state, so on any thread and without a display. Folders are made where
missing. `python -m vdm.plots` draws those that need no run.
"""

from vdm.plots.runs import comparison, estimator_variance, loss, schedule, terms, times, variance
from vdm.plots.samplers import quality

__all__ = ["comparison", "estimator_variance", "loss", "quality", "schedule", "terms", "times", "variance"]
