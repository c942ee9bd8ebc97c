"""Metrics of samples: a file for each, with its name in `vdm.parts`; `metric` says what they have in common."""

from vdm.evaluation.metrics.metric import Estimate, Features, Images, Labels, Measure, Metric, Reference
from vdm.evaluation.metrics.moments import Moments

__all__ = ["Estimate", "Features", "Images", "Labels", "Measure", "Metric", "Moments", "Reference"]
