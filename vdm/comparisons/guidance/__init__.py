"""Guidance on one trained conditional model: quality, class accuracy and diversity of samples by guidance scale."""

from vdm.comparisons.guidance.measure import compare_guidance
from vdm.comparisons.guidance.settings import GuidanceSettings
from vdm.comparisons.modes import Mode

MODE = Mode(GuidanceSettings, compare_guidance, of_a_run="guidance")

__all__ = ["MODE", "GuidanceSettings", "compare_guidance"]
