"""Other diffusion processes as rescalings of the variance-preserving one (A.4 of De Sousa Ribeiro & Glocker 2024).

At equal γ = −log SNR all Gaussian processes have the same latent up to a factor, Eq. A.44 and A.45: y = c z with
z = α x + σ ε. So a network of one process can be used in every other, since its x and ε are the same, Eq. A.47. It has
the same continuous-time bound there, and the same deterministic samples, Eq. A.48. Only the quantity that each process
uses as its noise level differs:

    process               y                time                c
    variance exploding    x + s ε          s = e^{γ/2}         1/α
    flow                  (1−t) x + t ε    t = sigmoid(γ/2)    1/(α + σ)

`view` presents a `denoise` of this library to a program that works in such a process; `adopt` makes a `denoise` from a
network trained in one, so that all bounds and samplers work with it:

    velocity = view(denoise, flow(), "u")                # dy/dt = velocity(y, t)
    denoise = adopt(network, variance_exploding(), "x")  # network(y, s) -> x̂

For γ in [−20, 20], c and the time are accurate to one float32 spacing. γ, computed back from the time, is accurate to a
spacing of γ or of 1, whichever is larger, in variance exploding; in flow, only to a few 1e-7/(1−t), because a float32 t
does not resolve its distance from 1 any better. That is 3e-5 at γ = 10 and 3e-3 at γ = 20, and from γ = 33.3 on, t is
1. `vdm.predictions` describes what a prediction leaves undetermined at the ends: an "x" does not determine ε as γ → −∞,
nor an "eps" x as γ → +∞; a "u" determines both everywhere.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vdm import gaussian, predictions
from vdm.predictions import Both, Denoise

KINDS = ("x", "eps", "u")
"""Predictions that have the same value in every process: x, ε and the velocity ε − x.

A score does not: the score of y is −ε/(cσ). Divide it by −1/(cσ), in variance exploding by −1/s, to get an "eps".
"""


class Process(NamedTuple):
    """A process as elementwise functions, each with the shape of its argument."""

    scale: Callable[[ArrayLike], Array]
    """γ -> c > 0, where y = c z = cα x + cσ ε is the process's latent."""
    time: Callable[[ArrayLike], Array]
    """γ -> the process's own measure of noise, increasing in γ."""
    gamma: Callable[[ArrayLike], Array]
    """time -> γ, the inverse of `time`."""


def variance_exploding() -> Process:
    """Variance-exploding process (Song & Ermon 2019): y = x + s ε, with time s = σ/α = e^{γ/2}.

    EDM (Karras et al. 2022) writes σ for s. Its denoiser D(y, s) is of kind "x", and its ODE is dy/ds = (y − D)/s.

    >>> float(variance_exploding().time(0.0))
    1.0
    """
    return Process(
        scale=lambda gamma: 1 / gaussian.alpha(gamma),
        time=lambda gamma: jnp.exp(jnp.asarray(gamma) / 2),
        gamma=lambda time: 2 * jnp.log(jnp.asarray(time)),
    )


def flow() -> Process:
    """Linear interpolation of flow matching and rectified flow (Liu et al. 2023): y = (1−t) x + t ε, Eq. 4.40.

    Data are at t = 0. The velocity of its ODE dy/dt = u(y, t) is of kind "u", Eq. 4.41. For networks whose t runs from
    noise to data (Lipman et al. 2023), pass 1 − t and −u. The path's ends t = 0 and t = 1 are γ = ∓∞; a model only
    covers the interval between the times of its schedule's γ(0) and γ(1).

    >>> float(flow().time(0.0))
    0.5
    """
    return Process(
        scale=lambda gamma: 1 / (gaussian.alpha(gamma) + gaussian.sigma(gamma)),
        time=lambda gamma: jax.nn.sigmoid(jnp.asarray(gamma) / 2),
        gamma=lambda time: 2 * jax.scipy.special.logit(jnp.asarray(time)),
    )


def view(denoise: Denoise, process: Process, kind: str) -> Callable[[Array, gaussian.Gamma], Array]:
    """Return (y, time) -> the prediction of kind `kind` by `denoise` for z = y/c, Eq. A.47; one call of `denoise`.

    `time` is a scalar or (batch,), and the prediction has the shape of y. Raises ValueError for a kind not in `KINDS`.

    >>> velocity = view(lambda z, gamma: 0.5 * z, flow(), "u")
    >>> velocity(jnp.ones((2, 3)), 0.5).shape
    (2, 3)
    """
    _known(kind)
    answer = predictions.both(denoise)

    def network(y: Float[Array, "batch *data"], time: gaussian.Gamma) -> Float[Array, "batch *data"]:
        gamma = process.gamma(time)
        return predictions.compose(*answer(y / gaussian.expand(process.scale(gamma), y), gamma), gamma, kind)

    return network


def adopt(network: Callable[[Array, Array], Array], process: Process, kind: str) -> Both:
    """Return the denoiser of a network function (y, time) -> prediction of kind `kind`, which is given y = c z.

    `time` has the shape of the caller's γ, a scalar or (batch,). Raises ValueError for a kind not in `KINDS`. The
    denoiser raises ValueError if the network's output does not have the shape of y.

    >>> denoise = adopt(lambda y, s: 0 * y, variance_exploding(), "x")
    >>> denoise(jnp.ones((2, 3)), 0.0).x.tolist()[0]
    [0.0, 0.0, 0.0]
    """
    _known(kind)

    def rescaled(z: Array, gamma: Array) -> Array:
        return network(gaussian.expand(process.scale(gamma), z) * z, process.time(gamma))

    return predictions.denoiser(rescaled, kind)


def _known(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: must be one of {', '.join(KINDS)}")
