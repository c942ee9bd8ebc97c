"""Feature extractors for metrics, one per file, named in `vdm.parts`."""

from vdm.evaluation.metrics.extractors.extractor import Extractor, eight_bit

__all__ = ["Extractor", "eight_bit"]
