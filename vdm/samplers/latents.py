"""Latents of given images, by adding noise or by inverting a deterministic sampler, and interpolation between them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vdm import gaussian
from vdm.predictions import Denoise, Prediction
from vdm.samplers.ddim import ddim
from vdm.samplers.loop import Sampler, initial_latents, sample_from


def noised(
    key: PRNGKeyArray, x: Float[Array, "batch *data"], gamma: gaussian.Gamma, first: int | Array = 0
) -> Float[Array, "batch *data"]:
    """Return z = α x + σ ε of given images at γ, the start of SDEdit (Meng et al. 2022).

    Continue with `sample_from` on a grid that starts at γ: see `grids.until`. ε is that of `initial_latents`, where
    image `first` + k has its own key; at γ = ∞ the result is z₁.

    >>> noised(jax.random.key(0), jnp.ones((2, 3)), -jnp.inf).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    return gaussian.diffuse(x, initial_latents(key, x.shape, first)[1], gamma)


def invert(
    denoise: Denoise, z_0: Float[Array, "batch *data"], gammas: Float[Array, " points"], sampler: Sampler | None = None
) -> Float[Array, "batch *data"]:
    """Return the z₁ of data z₀ by running a deterministic sampler, by default `ddim(0)`, up the grid (Wang, §4.2).

    `gammas` is the grid for sampling, from γ(1) to γ(0), and z₀ is at γ(0): α₀ x, plus noise σ₀ ε if the model should
    see inputs like those of its training. `sample_from` maps z₁ back to z₀ up to the solver's error, O(1/T) for DDIM.
    Every sampler of this package that draws nothing can be inverted, except `ddpm("none")`, which does not solve the
    ODE; only `ddim` can go up to γ = ∞. Raises ValueError as `run` does.

    >>> invert(lambda z, gamma: z, jnp.ones((2, 3)), jnp.linspace(5.0, -5.0, 6)).shape
    (2, 3)
    """
    # A deterministic sampler never uses its key.
    return sample_from(jax.random.key(0), denoise, ddim() if sampler is None else sampler, gammas[::-1], z_0)


def is_deterministic(sampler: Sampler, gammas: Float[Array, " points"]) -> bool:
    """Whether z₁ alone determines z₀ on this grid, tested with two keys and the denoiser of all-zero data."""

    def denoise(z: Array, gamma: gaussian.Gamma) -> Prediction:
        return Prediction(jnp.zeros_like(z), z / gaussian.sigma(gaussian.expand(gamma, z)))

    draw = jax.jit(lambda key: sample_from(key, denoise, sampler, gammas, jnp.ones((1, 4))))
    one, other = (draw(jax.random.key(seed)) for seed in (0, 1))
    return bool(jnp.array_equal(one, other))


def slerp(
    a: Float[Array, "batch *data"], b: Float[Array, "batch *data"], weight: Float[Array, ""] | Float[Array, " batch"]
) -> Float[Array, "batch *data"]:
    """Interpolate spherically: sin((1 − w)θ)/sin θ a + sin(wθ)/sin θ b, where θ is each image's angle between a and b.

    Latents all have norms of about √D, which this keeps and a straight line between them does not
    (Song, Meng & Ermon 2021, Eq. 67). `weight` is a scalar or one value per image, 0 at a and 1 at b, and may be
    traced. Where a and b are parallel, the interpolation is linear; where they are opposite, there is no unique
    shortest path, and the result is arbitrary.

    >>> slerp(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]), jnp.float32(0.0)).tolist()
    [[1.0, 0.0]]
    """
    axes, weight = tuple(range(1, a.ndim)), gaussian.expand(weight, a)

    def norm(values: Array) -> Array:
        return jnp.sqrt(jnp.sum(jnp.square(values), axis=axes, keepdims=True))

    unit_a, unit_b = a / norm(a), b / norm(b)
    # The arccos of the inner product would be off by √EPS for nearly parallel images.
    theta = 2 * jnp.arctan2(norm(unit_a - unit_b), norm(unit_a + unit_b))
    parallel = theta < 1e-3
    theta = jnp.where(parallel, 1, theta)
    weights = [jnp.where(parallel, part, jnp.sin(part * theta) / jnp.sin(theta)) for part in (1 - weight, weight)]
    return weights[0] * a + weights[1] * b
