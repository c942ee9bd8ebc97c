"""Samplers as pairs of pure functions (init, step) over a γ grid, and the one loop that runs them all.

    gammas = samplers.grid(gamma, num_steps)
    z_0 = samplers.sample(key, denoise, samplers.ddim(eta=0.0), gammas, shape)

In the limit of many steps, every sampler except `ddpm("none")` has the model's marginals q(z_t).
"""

from vdm.samplers import grids
from vdm.samplers.ancestral import ancestral
from vdm.samplers.ddim import ddim
from vdm.samplers.ddpm import ddpm
from vdm.samplers.devices import pmapped
from vdm.samplers.dpm_solver import dpm_solver_pp
from vdm.samplers.edm import euler, heun
from vdm.samplers.grids import grid
from vdm.samplers.latents import invert, is_deterministic, noised, slerp
from vdm.samplers.loop import (
    Moments,
    Run,
    Sampler,
    Step,
    initial_latents,
    of_moments,
    run,
    sample,
    sample_from,
    sample_trajectory,
)
from vdm.samplers.predictor_corrector import predictor_corrector
from vdm.samplers.repaint import repaint
from vdm.samplers.shifted import shifted
from vdm.samplers.unipc import unipc

__all__ = [
    "Moments",
    "Run",
    "Sampler",
    "Step",
    "ancestral",
    "ddim",
    "ddpm",
    "dpm_solver_pp",
    "euler",
    "grid",
    "grids",
    "heun",
    "initial_latents",
    "invert",
    "is_deterministic",
    "noised",
    "of_moments",
    "pmapped",
    "predictor_corrector",
    "repaint",
    "run",
    "sample",
    "sample_from",
    "sample_trajectory",
    "shifted",
    "slerp",
    "unipc",
]
