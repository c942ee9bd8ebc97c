"""Denoising networks: Flax modules that map (z, γ) to a prediction of the noise."""

from vdm.networks.unet import UNet, fourier_exponents

__all__ = ["UNet", "fourier_exponents"]
