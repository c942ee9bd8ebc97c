"""Denoising networks: Flax modules that map (z, γ), and a condition, to a prediction such as the noise ε̂."""

from vdm.networks.adm import ADM
from vdm.networks.dit import DiT
from vdm.networks.embeddings import fourier_exponents
from vdm.networks.mlp import MLP
from vdm.networks.unet import UNet

__all__ = ["ADM", "MLP", "DiT", "UNet", "fourier_exponents"]
