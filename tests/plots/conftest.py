"""Figures as they are before they become pixels."""

from plots.picture import drawn  # noqa: F401
