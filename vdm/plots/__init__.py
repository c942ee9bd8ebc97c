"""Plots as PNG files: `runs` of a run, `classes` of classifications, `theory` of schedules and weightings, `samplers`.

Drawn with matplotlib's Agg canvas and no global state, so on any thread and without a display. Folders are made where
missing. `python -m vdm.plots` draws those that need no run.
"""

from vdm.plots.classes import confusion
from vdm.plots.runs import estimator_variance, loss, schedule, terms, times, variance

__all__ = ["confusion", "estimator_variance", "loss", "schedule", "terms", "times", "variance"]
