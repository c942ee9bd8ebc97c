"""Ways to restore an image, as `--method` names them: `repaint(10)`, `mmps(iterations=5)`.

A `Restoration` changes the denoiser of a run, or its sampler, so that samples agree with a measurement y = A x + noise.
The mathematics is in `vdm.inverse` and `vdm.samplers.repaint`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from vdm import inverse, samplers
from vdm.inverse import Measurement
from vdm.predictions import Denoise
from vdm.samplers import Sampler, options


def _same_denoiser(denoise: Denoise, measurement: Measurement, gammas: Array) -> Denoise:
    return denoise


def _same_sampler(sampler: Sampler, measurement: Measurement, gammas: Array) -> Sampler:
    return sampler


def _any(measurement: Measurement) -> None:
    return None


class Restoration(NamedTuple):
    """How samples are made to agree with a measurement; `gammas` is the run's noise grid, from γ(1) to γ(0).

    No method reproduces known pixels of the decoded image exactly (`repaint` does so for z₀ only). If pixels are known
    without noise, put them back afterwards.
    """

    denoiser: Callable[[Denoise, Measurement, Array], Denoise] = _same_denoiser
    """(denoise, measurement, gammas) -> the denoiser to sample with."""
    sampler: Callable[[Sampler, Measurement, Array], Sampler] = _same_sampler
    """(sampler, measurement, gammas) -> the sampler to sample with."""
    check: Callable[[Measurement], None] = _any
    """Raises ValueError for a measurement that this method cannot handle."""
    gradients: int = 0
    """Maximum number of gradients per network call; the number of calls per step depends on the `sampler`."""


def dps(scale: float = 1.0) -> Restoration:
    """Diffusion posterior sampling (Chung et al. 2023): see `inverse.dps`. Raises ValueError for a scale out of range.

    >>> dps(0.5).gradients
    1
    """
    options.check_range("scale", scale, 0.0, MOST)
    return Restoration(_led(partial(inverse.dps, scale=np.float32(scale))), gradients=1)


def pigdm(prior_var: float = 1.0) -> Restoration:
    """ΠGDM (Song et al. 2023) for data of variance `prior_var`: see `inverse.pigdm`.

    Raises ValueError for a variance out of range.

    >>> pigdm(prior_var=0.25).gradients
    1
    """
    options.check_range("prior_var", prior_var, 1e-6, MOST)
    return Restoration(_led(partial(inverse.pigdm, prior_var=np.float32(prior_var))), gradients=1)


def proximal(prior_var: float = 1.0) -> Restoration:
    """Projection to the nearest image that fits (DiffPIR, Zhu et al. 2023), without gradients: see `inverse.proximal`.

    `prior_var` is the variance of the data. Raises ValueError if it is out of range.

    >>> proximal().gradients
    0
    """
    options.check_range("prior_var", prior_var, 1e-6, MOST)

    def denoiser(denoise: Denoise, measurement: Measurement, gammas: Array) -> Denoise:
        return inverse.proximal(denoise, measurement, np.float32(prior_var))

    return Restoration(denoiser)


def mmps(iterations: int = 3) -> Restoration:
    """Moment matching (Rozet et al. 2024): see `inverse.moment_matching`. Raises ValueError unless iterations ≥ 1.

    >>> mmps(iterations=5).gradients
    5
    """
    options.check_count("iterations", iterations)
    return Restoration(_led(partial(inverse.moment_matching, iterations=iterations)), gradients=iterations)


def repaint(resampling: int = 10) -> Restoration:
    """RePaint (Lugmayr et al. 2022), for operators that only pick values: see `samplers.repaint`.

    Measured values are kept as they are, including their noise. Raises ValueError unless resampling ≥ 1.

    >>> from vdm import operators
    >>> known = Measurement(operators.mask(jnp.array([True, False])), jnp.ones((1, 2)))
    >>> repaint(10).sampler(samplers.ddim(), known, jnp.linspace(5.0, -5.0, 11)).calls
    10
    """
    options.check_count("resampling", resampling)

    def sampler(sampler: Sampler, measurement: Measurement, gammas: Array) -> Sampler:
        return samplers.repaint(sampler, measurement.y, _known(measurement), resampling, gammas[-1])

    def check(measurement: Measurement) -> None:
        _known(measurement)

    return Restoration(sampler=sampler, check=check)


MOST = 1000.0
"""Largest value of a scale or variance."""


def _led(method: Callable[..., Denoise]) -> Callable[[Denoise, Measurement, Array], Denoise]:
    """Apply `method`, with the highest finite noise level of the grid as `gamma_1`."""

    def denoiser(denoise: Denoise, measurement: Measurement, gammas: Array) -> Denoise:
        return method(denoise, measurement, gamma_1=jnp.where(jnp.isinf(gammas[0]), gammas[1], gammas[0]))

    return denoiser


def _known(measurement: Measurement) -> Array:
    if measurement.operator.known is None:
        raise ValueError("the operator mixes values; must be one that only picks some, such as a mask")
    return measurement.operator.known
