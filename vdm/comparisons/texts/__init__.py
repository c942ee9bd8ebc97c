"""Captions on one trained model: how well samples follow them, by guidance, including unseen combinations."""

from vdm.comparisons.modes import Mode
from vdm.comparisons.texts.measure import compare_text
from vdm.comparisons.texts.settings import TextSettings

MODE = Mode(TextSettings, compare_text, of_a_run="text")

__all__ = ["MODE", "TextSettings", "compare_text"]
