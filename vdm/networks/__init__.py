"""Denoising networks: Flax modules that map (z, γ) to a prediction of the noise."""

from vdm.networks.embeddings import fourier_exponents
from vdm.networks.unet import UNet

__all__ = ["UNet", "fourier_exponents"]
