"""A VAE, hierarchical VAEs and diffusion models on the same data and budget: bounds, samples, holes."""

from vdm.comparisons.families.measure import compare_families
from vdm.comparisons.families.settings import FamiliesSettings
from vdm.comparisons.modes import Mode

MODE = Mode(FamiliesSettings, compare_families)

__all__ = ["MODE", "FamiliesSettings", "compare_families"]
