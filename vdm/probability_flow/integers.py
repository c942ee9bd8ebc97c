"""Bounds on −log P(x) of integer data from the density of the flow, by VDM's own q(z₀|x) or uniform dequantization."""

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
    """Terms of the bound on −log P(x) of integer data at one draw of z₀ ~ q(z₀|x), in nats; average them over draws.

    −log P(x) = −log ∫ p(x|z₀) p(z₀) dz₀ ≤ E_q[−log p(x|z₀) − log p(z₀) + log q(z₀|x)].
    """

    reconstruction: Float[Array, " batch"]
    """The reconstruction term −log p(x|z₀)."""
    latent: Float[Array, " batch"]
    """The density term −log p(z₀)."""
    dequantization: Float[Array, " batch"]
    """The dequantization term log q(z₀|x)."""
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
    """Bound −log P(x) with VDM's own q(z₀|x) = N(α₀ x, σ₀²) and decoder p(x|z₀), at z₀ = α₀ x + σ₀ ε₀.

    P(x) = ∫ p(x|z₀) p(z₀) dz₀ is the distribution that `sample` followed by `likelihoods.sample` draws from. Every term
    is evaluated at the draw, log q(z₀|x) too, instead of its mean, the negative entropy: as −log p(z₀) is close to
    −log q(z₀|x) − log P(x), the noise of the two terms cancels. x has integer values 0 … levels−1; for real x the bound
    is one on −log p(x).
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
    """Bound −log P(x) by uniform dequantization, at z₀/α₀ = (2 (x + u))/levels − 1 with u ~ U(0, 1).

    Here P(x) is the mass of x's bin under the density of z₀/α₀ (that of `likelihoods.decode`, where the outermost bins
    lack what lies beyond ±1). This is a different model from that of `gaussian_bound`: the bin determines x, so the
    reconstruction term is 0, and q(z₀|x) is uniform on α₀ times the bin. The bound is poor if σ₀ is well below the
    half-width 1/levels of a bin: the density of a model of integer data is then concentrated around the centers of the
    bins, and log p(z₀) is very low between them. x has integer values 0 … levels−1. Raises ValueError for fewer than
    two levels.
    """
    likelihoods.check_integers(levels)
    gamma = jnp.asarray(gamma_0, u.dtype)
    z_0 = gaussian.alpha(gamma) * (likelihoods.encode(x, levels) + (2 * u - 1) / levels)
    # z₀ lies in a cube of side 2 α₀/levels.
    log_q = sum_data(jnp.broadcast_to(-np.log(2 / levels) - 0.5 * jax.nn.log_sigmoid(-gamma), x.shape))
    flow = log_likelihood(denoise, z_0, gamma_0, gamma_1, probes, tolerance, max_steps)
    return DiscreteBound(jnp.zeros_like(log_q), -flow.log_prob, log_q, flow.num_calls)


def importance_weighted(nats: Float[Array, "draws batch"]) -> Float[Array, " batch"]:
    """Return −log mean exp(−nats) over K draws of `DiscreteBound.total`; its mean falls to −log P(x) as K grows.

    See Burda et al. (2016). This is a bound for the exact divergence only: Hutchinson's estimate of log p(z₀) is
    unbiased, but its exponential is too large on average.

    >>> importance_weighted(jnp.full((5, 2), 3.0)).tolist()
    [3.0, 3.0]
    """
    return np.log(nats.shape[0]) - jax.nn.logsumexp(-nats, axis=0)
