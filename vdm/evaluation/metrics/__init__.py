"""Sample metrics, one per file, named in `vdm.parts`; `metric` defines their common interface."""

from vdm.evaluation.metrics.metric import Estimate, Features, Images, Labels, Measure, Metric, Reference
from vdm.evaluation.metrics.moments import Moments

__all__ = ["Estimate", "Features", "Images", "Labels", "Measure", "Metric", "Moments", "Reference"]
