"""Normal distributions with diagonal covariance, the form of all priors and posteriors of latents."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LOG_2_PI = float(np.log(2 * np.pi))


class Normal(NamedTuple):
    """Independent normal values N(mean, exp(log_std)²); both fields have shape (batch, *dims).

    >>> standard = Normal(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
    >>> standard.log_prob(jnp.zeros((1, 2))).tolist()  # −log 2π
    [-1.8378770351409912]
    """

    mean: Float[Array, "batch *dims"]
    """Mean of each value."""
    log_std: Float[Array, "batch *dims"]
    """Natural logarithm of the standard deviation of each value."""

    def draw(self, eps: Float[Array, "batch *dims"]) -> Float[Array, "batch *dims"]:
        """Return mean + std · ε, the reparameterization of Kingma & Welling (2013)."""
        return self.mean + jnp.exp(self.log_std) * eps

    def log_prob(self, z: Float[Array, "batch *dims"]) -> Float[Array, " batch"]:
        """Return the log density at z in nats, summed over dims."""
        u = (z - self.mean) * jnp.exp(-self.log_std)
        return -jnp.sum(0.5 * jnp.square(u) + self.log_std + 0.5 * LOG_2_PI, axis=range(1, z.ndim))


def standard(like: Float[Array, "batch *dims"]) -> Normal:
    """Return N(0, I) with the shape of `like`."""
    return Normal(jnp.zeros_like(like), jnp.zeros_like(like))


def relative(u: Normal, p: Normal) -> Normal:
    """Return the distribution of mean_p + std_p · u for u of the given distribution: p itself if u is standard normal.

    >>> p = Normal(jnp.ones((1, 1)), jnp.zeros((1, 1)))
    >>> relative(standard(p.mean), p).mean.tolist()
    [[1.0]]
    """
    return Normal(p.mean + jnp.exp(p.log_std) * u.mean, p.log_std + u.log_std)


def kl_of_each(q: Normal, p: Normal) -> Float[Array, "batch *dims"]:
    """Return KL(q ‖ p) of each value in nats: ½ (e^{2δ} − 1 − 2δ) + ½ (μ_q − μ_p)²/σ_p² with δ = log σ_q/σ_p.

    This form is never negative, even in float32 and for q close to p.
    """
    delta = q.log_std - p.log_std
    return 0.5 * (jnp.expm1(2 * delta) - 2 * delta + jnp.square((q.mean - p.mean) * jnp.exp(-p.log_std)))


def kl(q: Normal, p: Normal) -> Float[Array, " batch"]:
    """Return KL(q ‖ p) in nats, summed over dims.

    >>> q = Normal(jnp.ones((1, 1)), jnp.zeros((1, 1)))
    >>> kl(q, standard(q.mean)).tolist()
    [0.5]
    """
    return jnp.sum(kl_of_each(q, p), axis=range(1, q.mean.ndim))
