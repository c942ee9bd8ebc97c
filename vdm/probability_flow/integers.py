"""Bounds on −log P(x) of integer data by the density of the flow: dequantized by VDM's own q(z₀|x), or uniformly."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from vdm import gaussian, likelihoods
from vdm.bounds import sum_data
from vdm.predictions import Denoise
from vdm.probability_flow.flow import log_likelihood


class DiscreteBound(NamedTuple):
    """A bound on −log P(x) of integer data at one draw of z₀ ~ q(z₀|x), in nats; its mean over draws is the bound.

    −log P(x) = −log ∫ p(x|z₀) p(z₀) dz₀ ≤ E_q[−log p(x|z₀) − log p(z₀) + log q(z₀|x)].
    """

    reconstruction: Float[Array, " batch"]
    """−log p(x|z₀)."""
    latent: Float[Array, " batch"]
    """−log p(z₀)."""
    dequantization: Float[Array, " batch"]
    """log q(z₀|x)."""
    num_calls: Integer[Array, " batch"]

    @property
    def total(self) -> Float[Array, " batch"]:
        """The sum of the three terms."""
        return self.reconstruction + self.latent + self.dequantization


def gaussian_bound(
    denoise: Denoise,
    x: likelihoods.Data,
    eps_0: Float[Array, "batch *data"],
    gamma_0: ArrayLike,
    gamma_1: ArrayLike,
    levels: int,
    probes: Float[Array, "batch probes *data"] | None = None,
    tolerance: ArrayLike = 1e-4,
    max_steps: int = 1000,
) -> DiscreteBound:
    """The bound on −log P(x) with VDM's own q(z₀|x) = N(α₀ x, σ₀²) and decoder p(x|z₀), at z₀ = α₀ x + σ₀ ε₀.

    P(x) = ∫ p(x|z₀) p(z₀) dz₀ is what `sample` and `likelihoods.sample` draw from. Every term is exact at its draw,
    log q(z₀|x) too instead of its mean, the entropy: as −log p(z₀) is near −log q(z₀|x) − log P(x), the noise of the
    two cancels. x has integer values 0 … levels−1; of real x the bound is that on −log p(x).
    """
    z_0 = gaussian.diffuse(likelihoods.encode(x, levels), eps_0, gamma_0)
    log_sigma = 0.5 * jax.nn.log_sigmoid(jnp.asarray(gamma_0))
    log_q = sum_data(-0.5 * (jnp.square(eps_0) + np.log(2 * np.pi)) - log_sigma)
    flow = log_likelihood(denoise, z_0, gamma_0, gamma_1, probes, tolerance, max_steps)
    return DiscreteBound(-likelihoods.log_prob(x, z_0, gamma_0, levels), -flow.log_prob, log_q, flow.num_calls)


def uniform_bound(
    denoise: Denoise,
    x: Integer[Array, "batch *data"],
    u: Float[Array, "batch *data"],
    gamma_0: ArrayLike,
    gamma_1: ArrayLike,
    levels: int,
    probes: Float[Array, "batch probes *data"] | None = None,
    tolerance: ArrayLike = 1e-4,
    max_steps: int = 1000,
) -> DiscreteBound:
    """The bound on −log P(x) by uniform dequantization, at z₀/α₀ = (2 (x + u))/levels − 1 with u ~ U(0, 1).

    Here P(x) is the mass of x's bin under the density of z₀/α₀ (`likelihoods.decode` of it, the outermost bins without
    what lies beyond ±1), another model than that of `gaussian_bound`: the bin decides on x, so that its
    reconstruction is 0, and q(z₀|x) is uniform on α₀ times the bin. Poor where σ₀ is well below the bin's half-width
    1/levels: a model of integer data then has its density around the bins' centres only, and log p(z₀) is far down
    between them. x has integer values 0 … levels−1, of two or more: ValueError.
    """
    likelihoods.check_integers(levels)
    gamma = jnp.asarray(gamma_0, u.dtype)
    z_0 = gaussian.alpha(gamma) * (likelihoods.encode(x, levels) + (2 * u - 1) / levels)
    # z₀ lies on α₀ times a cube of side 2/levels.
    log_q = sum_data(jnp.broadcast_to(-np.log(2 / levels) - 0.5 * jax.nn.log_sigmoid(-gamma), x.shape))
    flow = log_likelihood(denoise, z_0, gamma_0, gamma_1, probes, tolerance, max_steps)
    return DiscreteBound(jnp.zeros_like(log_q), -flow.log_prob, log_q, flow.num_calls)


def importance_weighted(nats: Float[Array, "draws batch"]) -> Float[Array, " batch"]:
    """−log mean exp(−nats) over K draws of `DiscreteBound.total`, whose mean falls with K to −log P(x).

    Burda et al. (2016). A bound for the exact divergence only: Hutchinson's log p(z₀) is unbiased, but its exp is on
    average too large.
    """
    return np.log(nats.shape[0]) - jax.nn.logsumexp(-nats, axis=0)
