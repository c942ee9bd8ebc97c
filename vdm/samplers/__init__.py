"""Samplers: pairs of pure functions (init, step) over a γ grid, and the one loop that runs them all.

gammas = samplers.grid(gamma, num_steps)
z_0 = samplers.sample(key, denoise, samplers.ancestral(), gammas, shape)
"""

from vdm.samplers import clipping, grids
from vdm.samplers.ancestral import ancestral
from vdm.samplers.grids import grid
from vdm.samplers.loop import Sampler, Step, initial_latents, sample, sample_trajectory

__all__ = [
    "Sampler",
    "Step",
    "ancestral",
    "clipping",
    "grid",
    "grids",
    "initial_latents",
    "sample",
    "sample_trajectory",
]
