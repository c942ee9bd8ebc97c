"""Gaussian mixtures with full covariances, and their posteriors given y = A x + noise: again Gaussian mixtures.

These are the closed forms that restorations (`vdm.inverse`) are tested against. Parameters are float64 numpy arrays.
`oracle` turns a mixture into a data distribution like those of `vdm.oracles`, so that the exact denoiser of x given z
and y is

    oracle(given(data, matrix(operator), y, std)).denoise
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from vdm import gaussian as process
from vdm.operators import Operator
from vdm.oracles import Oracle


class Mixture(NamedTuple):
    """Gaussian mixture Σ_k weights_k N(means_k, covariances_k) of x, which has D values in total."""

    weights: Float[np.ndarray, " K"]
    means: Float[np.ndarray, "K *data"]
    covariances: Float[np.ndarray, "K D D"]

    @property
    def mean(self) -> Float[np.ndarray, " D"]:
        """Mean of the whole mixture."""
        return np.asarray(self.weights @ self.means.reshape(len(self.means), -1))

    @property
    def covariance(self) -> Float[np.ndarray, "D D"]:
        """Covariance of the whole mixture."""
        apart = self.means.reshape(len(self.means), -1) - self.mean
        within = np.einsum("k,kij->ij", self.weights, self.covariances)
        return np.asarray(within + np.einsum("k,ki,kj->ij", self.weights, apart, apart))


def gaussian(mean: Float[np.ndarray, "*data"], covariance: Float[np.ndarray, "D D"]) -> Mixture:
    """Gaussian N(mean, covariance), as a mixture of one component.

    >>> gaussian(np.zeros(2), np.eye(2)).covariance.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return Mixture(np.ones(1), np.asarray(mean, np.float64)[None], np.asarray(covariance, np.float64)[None])


def matrix(operator: Operator) -> Float[np.ndarray, "M D"]:
    """Return A as a matrix, by applying the operator to each unit vector."""
    size = int(np.prod(operator.shape))
    columns = operator.apply(jnp.eye(size).reshape(size, *operator.shape))
    return np.asarray(columns, np.float64).reshape(size, -1).T


def given(
    data: Mixture, matrix: Float[np.ndarray, "M D"], y: Float[np.ndarray, " M"], std: float | Float[np.ndarray, " M"]
) -> Mixture:
    """Return p(x|y) for y = A x + std ε: the mixture of each component's posterior, weighted by its density of y.

    Rows of A that are 0 carry no information and are left out, also where `std` is 0.

    >>> left = given(gaussian(np.zeros(1), np.eye(1)), np.eye(1), np.ones(1), std=1.0)
    >>> left.mean.tolist(), left.covariance.tolist()
    ([0.5], [[0.5]])
    """
    tells = np.any(matrix != 0, axis=1)
    a, y = matrix[tells], np.asarray(y, np.float64)[tells]
    noise = np.diag(np.broadcast_to(np.square(std), tells.shape)[tells])
    means, covariances, logs = [], [], []
    for weight, mean, covariance in zip(data.weights, data.means, data.covariances, strict=True):
        of_y, r = a @ covariance @ a.T + noise, y - a @ mean.ravel()
        gain = np.linalg.solve(of_y, a @ covariance).T
        means.append(mean + (gain @ r).reshape(mean.shape))
        # Joseph form, which stays symmetric positive semidefinite.
        rest = np.eye(len(covariance)) - gain @ a
        covariances.append(rest @ covariance @ rest.T + gain @ noise @ gain.T)
        logs.append(np.log(weight) - 0.5 * (r @ np.linalg.solve(of_y, r) + np.linalg.slogdet(of_y)[1]))
    weights = np.exp(np.array(logs) - np.max(logs))
    return Mixture(weights / weights.sum(), np.stack(means), np.stack(covariances))


def oracle(data: Mixture) -> Oracle:
    """Return the data distribution with its exact denoiser and log-densities; z and x are (batch, *data).

    >>> round(float(oracle(gaussian(np.zeros(2), np.eye(2))).denoise(jnp.ones((1, 2)), 0.0)[0, 0]), 4)
    0.7071
    """
    shape, num = data.means.shape[1:], len(data.weights)
    variances, bases = np.linalg.eigh(data.covariances)
    variances = np.maximum(variances, 0)

    def components(z: Array, gamma: process.Gamma) -> tuple[Array, Array, Array]:
        """(log w_k N(z), z − α m_k in the eigenbasis of k, its variances): (batch, K) and twice (batch, K, D)."""
        mean, var, basis, log_weight = (
            jnp.asarray(part, z.dtype) for part in (data.means, variances, bases, np.log(data.weights))
        )
        at = process.expand(jnp.asarray(gamma, z.dtype), z.reshape(len(z), -1))[:, None]
        difference = z.reshape(len(z), 1, -1) - jnp.sqrt(jax.nn.sigmoid(-at)) * mean.reshape(1, num, -1)
        turned = jnp.einsum("kij,bki->bkj", basis, difference, precision="highest")
        var = jax.nn.sigmoid(-at) * var[None] + jax.nn.sigmoid(at)
        logs = -0.5 * jnp.sum(jnp.square(turned) / var + jnp.log(2 * np.pi * var), axis=2)
        return log_weight[None] + logs, turned, var

    def noise_of(z: Array, gamma: process.Gamma, share: Array) -> Array:
        """E[ε|z_t] for the given probabilities of the components, (batch, K)."""
        _, turned, var = components(z, gamma)
        basis = jnp.asarray(bases, z.dtype)
        each = jnp.einsum("kij,bkj->bki", basis, turned / var, precision="highest")
        mixed = jnp.sum(share[:, :, None] * each, axis=1).reshape(z.shape)
        return jnp.sqrt(jax.nn.sigmoid(process.expand(jnp.asarray(gamma, z.dtype), z))) * mixed

    def denoise(z: Float[Array, "batch *data"], gamma: process.Gamma) -> Float[Array, "batch *data"]:
        return noise_of(z, gamma, jax.nn.softmax(components(z, gamma)[0], axis=1))

    def log_marginal(z: Float[Array, "batch *data"], gamma: process.Gamma) -> Float[Array, " batch"]:
        return logsumexp(components(z, gamma)[0], axis=1)

    def log_prob(x: Float[Array, "batch *data"]) -> Float[Array, " batch"]:
        return log_marginal(x, -jnp.inf)

    def sample(key: PRNGKeyArray, n: int) -> Float[Array, "n *data"]:
        component_key, noise_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, (n, variances.shape[1]))
        mean, std, basis, log_weight = (
            jnp.asarray(part, noise.dtype) for part in (data.means, np.sqrt(variances), bases, np.log(data.weights))
        )
        k = jax.random.categorical(component_key, log_weight, shape=(n,))
        turned = jnp.einsum("bij,bj->bi", basis[k], std[k] * noise, precision="highest")
        return mean[k] + turned.reshape(n, *shape)

    def denoise_component(k: int) -> Callable[[Array, process.Gamma], Array]:
        if not 0 <= k < num:
            raise ValueError(f"k={k}: must be from 0 to {num - 1}")
        return lambda z, gamma: noise_of(z, gamma, jnp.zeros((len(z), num), z.dtype).at[:, k].set(1))

    def log_posterior(z: Float[Array, "batch *data"], gamma: process.Gamma) -> Float[Array, "batch components"]:
        return jax.nn.log_softmax(components(z, gamma)[0], axis=1)

    return Oracle(denoise, log_prob, log_marginal, sample, denoise_component, log_posterior)
