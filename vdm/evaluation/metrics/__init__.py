"""Metrics of samples: a file for each, with its name in `vdm.parts`; `metric` says what they have in common."""

from vdm.evaluation.metrics.metric import Estimate, Images, Measure, Metric, reference

__all__ = ["Estimate", "Images", "Measure", "Metric", "reference"]
