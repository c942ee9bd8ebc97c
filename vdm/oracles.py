"""Data distributions whose diffusion has a closed form: exact denoisers and exact log-densities.

If x is a mixture of Gaussians, so is z_t = α x + σ ε at every γ, and E[ε|z_t] = −σ ∇ log p_t(z_t) (Eq. 4.19 of De Sousa
Ribeiro & Glocker (2024)) is the average of the components' denoisers, weighted by their posterior probabilities. A
model with this denoiser has nothing left to learn, which is what bounds and samplers are tested against (`vdm.verify`).
α² = sigmoid(−γ) and σ² = sigmoid(γ) are written out here, so that a mistake in `gaussian.alpha` or `gaussian.sigma`
cannot cancel.

Everything works in the dtype of z: float32, or float64 under `jax.enable_x64(True)`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import ArrayLike

from vdm import gaussian as process


class Oracle(NamedTuple):
    """A data distribution as pure functions: z and x have shape (batch, *data), γ is a scalar or (batch,)."""

    denoise: Callable[[Array, process.Gamma], Array]
    """(z, γ) -> E[ε|z_t], with the shape of z."""
    log_prob: Callable[[Array], Array]
    """x -> log-density of the data in nats, (batch,)."""
    log_marginal: Callable[[Array, process.Gamma], Array]
    """(z, γ) -> log-density of z_t in nats, (batch,)."""
    sample: Callable[[PRNGKeyArray, int], Array]
    """(key, n) -> n draws of the data, (n, *data)."""
    denoise_component: Callable[[int], Callable[[Array, process.Gamma], Array]]
    """k -> the `denoise` of component k alone: the class-conditional denoiser, if components are classes."""
    log_posterior: Callable[[Array, process.Gamma], Array]
    """(z, γ) -> log p(k|z_t) in nats, (batch, K): the exact classifier of noisy data."""


def gaussian(mean: ArrayLike, cov_diag: ArrayLike) -> Oracle:
    """Gaussian data N(mean, diag(cov_diag)), both of shape (*data): E[ε|z_t] = σ (z − α mean)/(α² cov_diag + σ²).

    Raises ValueError when the shapes differ or a variance is negative.

    >>> oracle = gaussian(mean=[0.0], cov_diag=[1.0])
    >>> round(float(oracle.denoise(jnp.ones((1, 1)), jnp.float32(0.0))[0, 0]), 4)
    0.7071
    """
    mean, cov_diag = _float64("mean", mean), _float64("cov_diag", cov_diag)
    if cov_diag.shape != mean.shape:
        raise ValueError(f"cov_diag has shape {cov_diag.shape}: must be that of mean, {mean.shape}")
    if np.any(cov_diag < 0):
        raise ValueError(f"cov_diag={cov_diag.tolist()}: must be 0 or more")
    return mixture(np.ones(1), mean[None], np.sqrt(cov_diag)[None])


def mixture(weights: ArrayLike, means: ArrayLike, stds: ArrayLike) -> Oracle:
    """Gaussian mixture Σ_k weights_k N(means_k, stds_k²), with data dimensions independent given k.

    `weights` has shape (K,), `means` (K, *data) and `stds` (K,) or (K, *data). A std of 0 makes a point mass, e.g. for
    integer images of known probabilities. `log_prob` is then not a density but the log-probability of each point, and
    −∞ elsewhere; `log_marginal` is a density at every finite γ. Raises ValueError when the weights are not positive or
    do not sum to 1, a std is negative, a value is not finite, or a shape does not fit.

    >>> oracle = mixture(weights=[0.5, 0.5], means=[[-1.0], [1.0]], stds=[0.1, 0.1])
    >>> oracle.sample(jax.random.key(0), 3).shape, oracle.log_prob(jnp.ones((2, 1))).shape
    ((3, 1), (2,))
    """
    weights, means, stds = _float64("weights", weights), _float64("means", means), _float64("stds", stds)
    if weights.ndim != 1 or not np.all(weights > 0) or abs(weights.sum() - 1) > 1e-6:
        raise ValueError(f"weights={weights.tolist()}: must be positive, of shape (K,), with sum 1")
    if means.shape[:1] != weights.shape:
        raise ValueError(f"means has shape {means.shape}: must be ({weights.size}, *data), one mean per weight")
    if stds.shape not in (weights.shape, means.shape):
        raise ValueError(f"stds has shape {stds.shape}: must be {weights.shape} or {means.shape}")
    if np.any(stds < 0):
        raise ValueError(f"stds={stds.tolist()}: must be 0 or more")
    log_weights, data = np.log(weights), means.shape[1:]
    variances = np.broadcast_to(np.square(stds).reshape(stds.shape + (1,) * (means.ndim - stds.ndim)), means.shape)

    def components(z: Array, gamma: process.Gamma) -> tuple[Array, Array, Array]:
        """(log w_k N(z; α m_k, v_k), z − α m_k, v_k), v_k = α² s_k² + σ²: (batch, K) and twice (batch, K, *data)."""
        if z.shape[1:] != data:
            raise ValueError(f"z has shape {z.shape}: must be (batch, *{data})")
        gamma = process.expand(jnp.asarray(gamma, z.dtype), z)[:, None]
        mean, variance = (jnp.asarray(values, z.dtype)[None] for values in (means, variances))
        difference = z[:, None] - jnp.sqrt(jax.nn.sigmoid(-gamma)) * mean
        variance = jax.nn.sigmoid(-gamma) * variance + jax.nn.sigmoid(gamma)
        log_density = jnp.sum(_log_normal(difference, variance), axis=range(2, difference.ndim))
        return jnp.asarray(log_weights, z.dtype)[None] + log_density, difference, variance

    def denoise(z: Float[Array, "batch *data"], gamma: process.Gamma) -> Float[Array, "batch *data"]:
        logits, difference, variance = components(z, gamma)
        share = jax.nn.softmax(logits, axis=1).reshape(logits.shape + (1,) * (z.ndim - 1))
        noise = jnp.sqrt(jax.nn.sigmoid(process.expand(jnp.asarray(gamma, z.dtype), z)))
        return noise * jnp.sum(share * difference / variance, axis=1)

    def log_marginal(z: Float[Array, "batch *data"], gamma: process.Gamma) -> Float[Array, " batch"]:
        return logsumexp(components(z, gamma)[0], axis=1)

    def log_prob(x: Float[Array, "batch *data"]) -> Float[Array, " batch"]:
        return log_marginal(x, -jnp.inf)

    def sample(key: PRNGKeyArray, n: int) -> Float[Array, "n *data"]:
        component_key, noise_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, (n, *data))
        # The dtype is explicit: JAX caches an array that it was traced with, also across enable_x64.
        logits, mean, std = (jnp.asarray(v, noise.dtype) for v in (log_weights, means, np.sqrt(variances)))
        k = jax.random.categorical(component_key, logits, shape=(n,))
        return mean[k] + std[k] * noise

    def denoise_component(k: int) -> Callable[[Array, process.Gamma], Array]:
        if not 0 <= k < weights.size:
            raise ValueError(f"k={k}: must be from 0 to {weights.size - 1}")

        def denoise(z: Float[Array, "batch *data"], gamma: process.Gamma) -> Float[Array, "batch *data"]:
            _, difference, variance = components(z, gamma)
            noise = jnp.sqrt(jax.nn.sigmoid(process.expand(jnp.asarray(gamma, z.dtype), z)))
            return noise * difference[:, k] / variance[:, k]

        return denoise

    def log_posterior(z: Float[Array, "batch *data"], gamma: process.Gamma) -> Float[Array, "batch components"]:
        return jax.nn.log_softmax(components(z, gamma)[0], axis=1)

    return Oracle(denoise, log_prob, log_marginal, sample, denoise_component, log_posterior)


def _log_normal(difference: Array, variance: Array) -> Array:
    """log N(difference; 0, variance); for variance 0 the log-mass, 0 at the point and −∞ elsewhere."""
    positive = jnp.where(variance > 0, variance, 1)
    density = -0.5 * (jnp.square(difference) / positive + jnp.log(2 * np.pi * positive))
    return jnp.where(variance > 0, density, jnp.where(difference == 0, 0.0, -jnp.inf))


def _float64(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name}={array.tolist()}: must be finite")
    return array
