"""The flow between γ₀ and γ₁: z at one end from z at the other, and log p(z₀)."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import gaussian, predictions
from vdm.bounds import sum_data
from vdm.keys import image_keys
from vdm.predictions import Denoise
from vdm.probability_flow.solver import State, solve


class Solution(NamedTuple):
    """The latents at the other end of the flow."""

    z: Float[Array, "batch *data"]
    num_calls: Integer[Array, " batch"]
    """Number of network calls for each example, including rejected steps."""


class LogLikelihood(NamedTuple):
    """The density of z₀ under the flow, with the latents that it leads to."""

    log_prob: Float[Array, " batch"]
    """log p(z₀) in nats: log N(z₁; 0, I) plus the mean of `divergence`."""
    divergence: Float[Array, "batch estimates"]
    """∫ div f dγ as estimated by each probe, whose spread shows the error of their mean; one value if exact."""
    z_1: Float[Array, "batch *data"]
    num_calls: Integer[Array, " batch"]
    """Number of network calls, each with one tangent per probe, or per data dimension if exact."""


def velocity(denoise: Denoise, z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Float[Array, "batch *data"]:
    """Return dz/dγ = ½ α σ (α ε̂ − σ x̂) of the probability flow; γ is a scalar or has shape (batch,).

    >>> velocity(lambda z, gamma: z, jnp.ones((2, 3)), 0.0).shape
    (2, 3)
    """
    x_hat, eps_hat = predictions.both(denoise)(z, gamma)
    gamma = gaussian.expand(gamma, z)
    alpha, sigma = gaussian.alpha(gamma), gaussian.sigma(gamma)
    return 0.5 * alpha * sigma * (alpha * eps_hat - sigma * x_hat)


def sample(
    denoise: Denoise,
    z_1: Float[Array, "batch *data"],
    gamma_1: ArrayLike,
    gamma_0: ArrayLike,
    tolerance: ArrayLike = 1e-4,
    max_steps: int = 1000,
) -> Solution:
    """Return z₀ at γ₀ on the flow line through z₁ at γ₁, a draw from p(z₀) if z₁ ~ N(0, I). γ₀ and γ₁ are scalars.

    The flow has no preferred direction: with γ₀ and γ₁ exchanged, this is `encode`.

    >>> solution = sample(lambda z, gamma: z, jnp.ones((2, 3)), 4.0, -4.0, tolerance=1e-3)
    >>> solution.z.shape, solution.num_calls.shape
    ((2, 3), (2,))
    """
    (z_0,), num_calls = solve(partial(_velocity, denoise), (z_1,), (), gamma_1, gamma_0, tolerance, max_steps)
    return Solution(z_0, num_calls)


def encode(
    denoise: Denoise,
    z_0: Float[Array, "batch *data"],
    gamma_0: ArrayLike,
    gamma_1: ArrayLike,
    tolerance: ArrayLike = 1e-4,
    max_steps: int = 1000,
) -> Solution:
    """Return z₁ at γ₁ on the flow line through z₀ at γ₀, the inverse of `sample`. γ₀ and γ₁ are scalars."""
    return sample(denoise, z_0, gamma_0, gamma_1, tolerance, max_steps)


def log_likelihood(
    denoise: Denoise,
    z_0: Float[Array, "batch *data"],
    gamma_0: ArrayLike,
    gamma_1: ArrayLike,
    probes: Float[Array, "batch probes *data"] | None = None,
    tolerance: ArrayLike = 1e-4,
    max_steps: int = 1000,
) -> LogLikelihood:
    """Return log p(z₀) in nats, the log-density at γ₀ of what `sample` makes of z₁ ~ N(0, I). γ₀ and γ₁ are scalars.

    Without `probes` the divergence is exact, and every network call has one tangent per data dimension. With them it is
    Hutchinson's estimate, the mean of v·∂f/∂z v over probes v of covariance I (`rademacher`), at one tangent per probe.
    Each probe stays the same along the flow, so log p(z₀) is unbiased.
    """
    start = jnp.zeros((z_0.shape[0], 1 if probes is None else probes.shape[1]), z_0.dtype)
    (z_1, divergence), num_calls = solve(
        partial(_velocity_and_divergence, denoise),
        (z_0, start),
        () if probes is None else probes,
        gamma_0,
        gamma_1,
        tolerance,
        max_steps,
    )
    log_prior = sum_data(-0.5 * (jnp.square(z_1) + np.log(2 * np.pi)))
    return LogLikelihood(log_prior + jnp.mean(divergence, axis=1), divergence, z_1, num_calls)


def rademacher(
    key: PRNGKeyArray, shape: Sequence[int], num_probes: int, first: int | Array = 0
) -> Float[Array, "batch probes *data"]:
    """Draw probes of independent signs ±1 for z of shape `shape` = (batch, *data).

    The probes of image k come from fold_in(key, first + k), like the samplers' noise. Raises ValueError unless
    num_probes ≥ 1.

    >>> rademacher(jax.random.key(0), (2, 3), num_probes=4).shape
    (2, 4, 3)
    """
    if num_probes < 1:
        raise ValueError(f"num_probes={num_probes}: must be 1 or more")
    keys = image_keys(key, shape[0], first)
    return jax.vmap(lambda key: jax.random.rademacher(key, (num_probes, *shape[1:]), jnp.float32))(keys)


def _velocity(denoise: Denoise, z: Array, gamma: Array, _: Any) -> State:
    return (velocity(denoise, z, gamma),)


def _velocity_and_divergence(denoise: Denoise, z: Array, gamma: Array, probes: Any) -> State:
    """(f, div f): the exact divergence (batch, 1) without probes, else the estimates of each probe, (batch, probes)."""
    f, derivative = jax.linearize(lambda z: velocity(denoise, z, gamma), z)

    def quadratic(v: Array) -> Array:
        return sum_data(v * derivative(v))

    if isinstance(probes, tuple):
        # f of an example depends on its own z only, so one basis serves the whole batch.
        basis = jnp.eye(z[0].size, dtype=z.dtype).reshape(-1, 1, *z.shape[1:])
        diagonal = jax.vmap(lambda v: quadratic(jnp.broadcast_to(v, z.shape)), out_axes=1)(basis)
        return f, jnp.sum(diagonal, axis=1, keepdims=True)
    return f, jax.vmap(quadratic, in_axes=1, out_axes=1)(probes)
