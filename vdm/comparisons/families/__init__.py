"""A VAE, hierarchical VAEs and diffusion models with the same data and budget: bounds, samples, prior holes."""

from vdm.comparisons.families.measure import compare_families
from vdm.comparisons.families.settings import FamiliesSettings
from vdm.comparisons.modes import Mode

MODE = Mode(FamiliesSettings, compare_families)

__all__ = ["MODE", "FamiliesSettings", "compare_families"]
