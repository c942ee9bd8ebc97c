"""Plots as PNG files: `runs` for a run, `classes` for classifiers, `theory` for schedules and weightings, `samplers`.

They are drawn with matplotlib's Agg canvas and no global state, so they work on any thread and without a display.
Missing folders are created. `python -m vdm.plots` draws the plots that need no run.
"""

from vdm.plots.classes import confusion
from vdm.plots.runs import estimator_variance, loss, schedule, terms, times, variance

__all__ = ["confusion", "estimator_variance", "loss", "schedule", "terms", "times", "variance"]
