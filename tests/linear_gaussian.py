"""Hierarchies of latents that are linear and Gaussian, z₂ → z₁ → x: log p(x), posteriors and bounds in closed form.

Each latent has a direction of x of its own, so that posteriors are of independent values: probabilistic PCA.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vdm import likelihoods
from vdm.predecessors import hierarchy
from vdm.predecessors.latent import LatentModel, LatentNetwork, Observed
from vdm.predecessors.normal import Normal, standard

DIMS, LATENTS = 3, 2
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(DIMS, DIMS)))[0][:, :LATENTS]
SLOPE = np.array([1.5, 0.6])
"""Of x in its directions against z₁."""
NOISE = 0.5
"""Standard deviation of x given z₁."""
B, R = np.array([0.8, -0.5]), np.array([0.6, 0.9])
"""z₁ = B z₂ + R η."""


class Linear(LatentNetwork):
    """Parameters "x": of x given z₁, "z": of z₁ given z₂, "q": of the posteriors."""

    layers: int = 1
    inference: str = "top_down"

    def setup(self) -> None:
        self.of = {name: self.param(name, lambda key, value: value, value) for name, value in self.values().items()}

    def values(self) -> dict[str, Any]:
        """Those to begin with: all posteriors standard normal."""
        names = {1: {"w_x": (LATENTS, DIMS)}, 2: {"w_x": (LATENTS, DIMS), "w_z": (LATENTS, LATENTS)}}[self.layers]
        zeros = {name: jnp.zeros(shape) for name, shape in names.items()}
        second = {"v": jnp.zeros((LATENTS, DIMS)), "log_tau": jnp.zeros(LATENTS)} if self.layers == 2 else {}
        prior = {"b": jnp.asarray(B, jnp.float32), "log_r": jnp.asarray(np.log(R), jnp.float32)}
        decoder = {"w": jnp.asarray(ROTATION * SLOPE, jnp.float32), "log_s": jnp.float32(np.log(NOISE))}
        return decoder | (prior if self.layers == 2 else {}) | zeros | {"log_std": jnp.zeros(LATENTS)} | second

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((LATENTS,),) * self.layers

    @property
    def needs_path(self) -> bool:
        return self.inference == "bottom_up" and self.layers > 1

    def above(self, batch_size: int) -> jax.Array:
        return jnp.zeros((batch_size, LATENTS))

    def prior(self, t: int, state: jax.Array) -> Normal:
        return standard(state) if t == self.layers else normal(self.of["b"][None, :] * state, self.of["log_r"])

    def descend(self, t: int, state: jax.Array, z: jax.Array) -> jax.Array:
        return z

    def observe(self, state: jax.Array) -> Observed:
        center = state @ self.of["w"].T
        return Observed(center, jnp.full_like(center, 2 * self.of["log_s"]))

    def path(self, x: jax.Array, eps: Any, reconstruction: Any) -> hierarchy.Path:
        of, above = self.of, self.above(len(x))

        def first(z: jax.Array | None) -> Normal:
            """q(z₁|x), or q(z₁|z₂, x)."""
            mean = x @ of["w_x"].T
            return normal(mean if z is None else mean + z @ of["w_z"].T, of["log_std"])

        if self.inference == "bottom_up":

            def ascend(t: int, z: jax.Array | None) -> Normal:
                return first(None) if t == 1 else normal(z @ of["w_z"].T, of["log_tau"])

            return hierarchy.bottom_up(ascend, self.prior, self.descend, reconstruction, above, eps)

        def layer(t: int, state: jax.Array) -> tuple[Normal, Normal]:
            if t == 2:
                return normal(x @ of["v"].T, of["log_tau"]), self.prior(t, state)
            return first(state if self.layers == 2 else None), self.prior(t, state)

        return hierarchy.top_down(layer, self.descend, reconstruction, above, eps)


def normal(mean: jax.Array, log_std: jax.Array) -> Normal:
    return Normal(mean, jnp.broadcast_to(log_std, mean.shape))


def model(layers: int = 1, inference: str = "top_down") -> LatentModel:
    return LatentModel(Linear(layers, inference), (DIMS,), likelihoods.REAL)


def variables(model: LatentModel, **given: Any) -> dict[str, Any]:
    """Those at the start, with others in their place."""
    params = model.init(jax.random.key(0))["network"]
    assert set(given) <= set(params)
    return {"network": params | {name: jnp.asarray(value, jnp.float32) for name, value in given.items()}}


def factor(layers: int) -> np.ndarray:
    """F with x = F u for u ~ N(0, I) of all noise: that of z₂, of z₁ and of x."""
    noise = NOISE * np.eye(DIMS)
    if layers == 1:
        return np.hstack([ROTATION * SLOPE, noise])
    return np.hstack([ROTATION * (SLOPE * B), ROTATION * (SLOPE * R), noise])


def log_prob(x: jax.Array, layers: int) -> np.ndarray:
    """log p(x), in float64."""
    covariance = factor(layers) @ factor(layers).T
    return log_normal(np.asarray(x, np.float64), np.zeros(DIMS), covariance)


def log_normal(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    d = x - mean
    quadratic = np.einsum("ni,ij,nj->n", d, np.linalg.inv(covariance), d)
    return -0.5 * (quadratic + np.linalg.slogdet(covariance)[1] + DIMS * np.log(2 * np.pi))


def images(num: int, layers: int = 1, seed: int = 1) -> jax.Array:
    """Draws of p(x)."""
    f = factor(layers)
    return jnp.asarray(np.random.default_rng(seed).normal(size=(num, f.shape[1])) @ f.T, jnp.float32)


def posterior(layers: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(matrix, covariance): p(z|x) = N(matrix x, covariance), z being z₁, or z₁ and then z₂."""
    f = factor(layers)
    eye, none, zero = np.eye(LATENTS), np.zeros((LATENTS, LATENTS)), np.zeros((LATENTS, DIMS))
    chain = np.block([[np.diag(B), np.diag(R), zero], [eye, none, zero]])
    of_z = np.hstack([eye, zero]) if layers == 1 else chain
    matrix = of_z @ f.T @ np.linalg.inv(f @ f.T)
    return matrix, of_z @ of_z.T - matrix @ f @ of_z.T


def exact(layers: int = 1, inference: str = "top_down") -> dict[str, np.ndarray]:
    """The parameters of the posterior that is the model's own."""
    matrix, covariance = posterior(layers)
    if layers == 1:
        return {"w_x": matrix, "log_std": 0.5 * np.log(np.diag(covariance))}
    return factorised(matrix, covariance, inference)


def factorised(matrix: np.ndarray, covariance: np.ndarray, inference: str) -> dict[str, np.ndarray]:
    """Parameters of q(z₁, z₂|x) = N(matrix x, covariance) from the top down, or from the bottom up.

    The latter if z₂ given z₁ does not depend on x.
    """
    one, two = slice(0, LATENTS), slice(LATENTS, None)
    given, other = (two, one) if inference == "top_down" else (one, two)
    slope = covariance[other, given] @ np.linalg.inv(covariance[given, given])
    conditional = covariance[other, other] - slope @ covariance[given, other]
    log_std, of_given = (0.5 * np.log(np.diag(c)) for c in (conditional, covariance[given, given]))
    if inference == "top_down":
        first = {"w_x": matrix[one] - slope @ matrix[two], "w_z": slope, "log_std": log_std}
        return {"v": matrix[two], "log_tau": of_given} | first
    np.testing.assert_allclose(matrix[two], slope @ matrix[one], atol=1e-9)
    return {"w_x": matrix[one], "log_std": of_given, "w_z": slope, "log_tau": log_std}


def design(model: LatentModel) -> list[np.ndarray]:
    """Noise of ±1 in all combinations, (combinations, latents) of each layer: means over it are those over normal
    noise, of what is a polynomial of second degree."""
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=LATENTS * model.num_layers)), np.float32)
    return np.split(signs, model.num_layers, axis=1)


def expected(model: LatentModel, variables: dict[str, Any], x: jax.Array) -> np.ndarray:
    """−ELBO of each x, exactly."""
    eps = design(model)
    num = len(eps[0])
    repeated = jnp.repeat(x, num, axis=0)
    path = jax.jit(model.path)(variables, repeated, [jnp.tile(each, (len(x), 1)) for each in eps])
    return np.asarray(path.bound, np.float64).reshape(len(x), num).mean(axis=1)
