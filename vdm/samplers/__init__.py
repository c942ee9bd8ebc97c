"""Samplers: pairs of pure functions (init, step) over a γ grid, and the one loop that runs them all.

gammas = samplers.grid(gamma, num_steps)
z_0 = samplers.sample(key, denoise, samplers.ddim(eta=0.0), gammas, shape)

All have the marginals q(z_t) of the model in the limit of many steps, but `ddpm("none")`; `SAMPLERS`
has them by name, `parse` reads "dpm_solver_pp(2)".
"""

from collections.abc import Callable

from vdm import parsing
from vdm.samplers import grids
from vdm.samplers.ancestral import ancestral
from vdm.samplers.ddim import ddim
from vdm.samplers.ddpm import ddpm
from vdm.samplers.devices import pmapped
from vdm.samplers.dpm_solver import dpm_solver_pp
from vdm.samplers.edm import euler, heun
from vdm.samplers.grids import grid
from vdm.samplers.latents import invert, is_deterministic, slerp
from vdm.samplers.loop import Run, Sampler, Step, initial_latents, run, sample, sample_from, sample_trajectory
from vdm.samplers.predictor_corrector import predictor_corrector
from vdm.samplers.unipc import unipc

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    f.__name__: f for f in (ancestral, ddpm, ddim, euler, heun, dpm_solver_pp, unipc, predictor_corrector)
}


def parse(text: str) -> Sampler:
    """The sampler that a string names: "ancestral", "ddim(eta=0.5)", "dpm_solver_pp(2)", "ddpm(large)".

    ValueError: see `parsing.call`.
    """
    # Literals as they are: an order is an int, a variance a word.
    return parsing.call(text, SAMPLERS, "sampler", value=lambda literal: literal)


def parse_on_grid(text: str, grid: str = "schedule") -> tuple[str, str]:
    """("heun", "karras") of "heun@karras": the sampler's text and its grid, one of `grids.GRIDS`.

    Without an @ the grid is the one given. ValueError for another grid, and for what `parse` refuses.
    """
    sampler, at, named = text.partition("@")
    name = named if at else grid
    if name not in grids.GRIDS:
        raise ValueError(f"grid={name!r} in {text!r}: must be one of {', '.join(grids.GRIDS)}")
    parse(sampler)
    return sampler, name


def describe() -> dict[str, str]:
    """By name, what each sampler is and where it is from, in one line: the first of its docstring."""
    return {name: (constructor.__doc__ or "").partition("\n")[0] for name, constructor in SAMPLERS.items()}


__all__ = [
    "SAMPLERS",
    "Run",
    "Sampler",
    "Step",
    "ancestral",
    "ddim",
    "ddpm",
    "describe",
    "dpm_solver_pp",
    "euler",
    "grid",
    "grids",
    "heun",
    "initial_latents",
    "invert",
    "is_deterministic",
    "parse",
    "parse_on_grid",
    "pmapped",
    "predictor_corrector",
    "run",
    "sample",
    "sample_from",
    "sample_trajectory",
    "slerp",
    "unipc",
]
