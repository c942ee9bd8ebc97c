"""A trained model as a lossless codec: its rate for each T, compared with its bound and with classical coders."""

from vdm.comparisons.codecs.measure import compare_codecs
from vdm.comparisons.codecs.settings import CodecsSettings
from vdm.comparisons.modes import Mode

MODE = Mode(CodecsSettings, compare_codecs, of_a_run="codecs")

__all__ = ["MODE", "CodecsSettings", "compare_codecs"]
