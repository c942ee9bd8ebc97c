"""Models that differ only in prediction, weighting and proposal: bound, sample quality, gradient noise."""

from vdm.comparisons.modes import Mode
from vdm.comparisons.objectives.measure import compare_objectives
from vdm.comparisons.objectives.settings import ObjectivesSettings

MODE = Mode(ObjectivesSettings, compare_objectives)

__all__ = ["MODE", "ObjectivesSettings", "compare_objectives"]
