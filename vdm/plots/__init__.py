"""Plots as PNG files: `runs` of a run, `theory` of schedules and weightings, `samplers` of samplers at work.

Drawn with matplotlib's Agg canvas and no global state, so on any thread and without a display. Folders are made where
missing. `python -m vdm.plots` draws those that need no run.
"""

from vdm.plots.runs import estimator_variance, loss, schedule, terms, times, variance

__all__ = ["estimator_variance", "loss", "schedule", "terms", "times", "variance"]
