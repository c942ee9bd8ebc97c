"""What makes features of images, for metrics to compare: a file for each, with its name in `vdm.parts`."""

from vdm.evaluation.metrics.extractors.extractor import Extractor, eight_bit

__all__ = ["Extractor", "eight_bit"]
