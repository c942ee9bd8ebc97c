"""Captions on one trained model: whether its samples are as they ask, by guidance, and for combinations never seen."""

from vdm.comparisons.modes import Mode
from vdm.comparisons.texts.measure import compare_text
from vdm.comparisons.texts.settings import TextSettings

MODE = Mode(TextSettings, compare_text, of_a_run="text")

__all__ = ["MODE", "TextSettings", "compare_text"]
