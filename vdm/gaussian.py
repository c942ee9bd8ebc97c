"""The variance-preserving Gaussian diffusion process as a function of γ = −log SNR.

Everything of Table 3.1 of De Sousa Ribeiro & Glocker (2024), in the sigmoid and expm1 forms of their
§A.3, which lose no float32 accuracy for |γ| ≤ 20 nor for γ_s → γ_t; α² + σ² = 1, Eq. 3.8. Bare numbers of
equations are theirs. A `gamma` is a scalar, one value an example, shape (batch,), or one a value; a `z`, `x` or
`eps` has shape (batch, *data).
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

Gamma = Float[ArrayLike, ""] | Float[Array, " batch"] | Float[Array, "batch *data"]


def expand(gamma: Gamma, like: Float[Array, "batch *data"]) -> Array:
    """`gamma` with trailing axes of size 1, so that it broadcasts against `like`; float32 as it came.

    Raises ValueError when `gamma` is neither a scalar, nor one value an example of `like`, nor of its shape.
    """
    gamma = jnp.asarray(gamma)
    if gamma.shape == like.shape:
        return gamma
    if gamma.shape not in ((), like.shape[:1]):
        raise ValueError(f"gamma has shape {gamma.shape}: must be (), {like.shape[:1]} or {like.shape}")
    return (
        gamma.reshape(gamma.shape[:1] + (1,) * (like.ndim - gamma.ndim))
        if gamma.ndim
        else gamma.reshape((1,) * like.ndim)
    )


def alpha(gamma: ArrayLike) -> Array:
    """Signal coefficient α = √sigmoid(−γ), Eq. A.4 (Kingma et al. 2021, Eq. 4). Shape of `gamma`."""
    return jnp.sqrt(jax.nn.sigmoid(-jnp.asarray(gamma)))


def sigma(gamma: ArrayLike) -> Array:
    """Noise coefficient σ = √sigmoid(γ), Eq. A.1 (Kingma et al. 2021, Eq. 3). Shape of `gamma`."""
    return jnp.sqrt(jax.nn.sigmoid(jnp.asarray(gamma)))


def snr(gamma: ArrayLike) -> Array:
    """Signal-to-noise ratio α²/σ² = e^{−γ}, Eq. A.14 (Kingma et al. 2021, Eq. 2 and 5). Shape of `gamma`."""
    return jnp.exp(-jnp.asarray(gamma))


def diffuse(
    x: Float[Array, "batch *data"], eps: Float[Array, "batch *data"], gamma: Gamma
) -> Float[Array, "batch *data"]:
    """A draw z = α x + σ ε of q(z_t|x), Eq. 3.1 and 3.87 (Kingma et al. 2021, Eq. 1).

    >>> z = diffuse(jnp.ones((1, 2)), jnp.zeros((1, 2)), -20.0)
    >>> bool(jnp.all(jnp.abs(z - 1) < 1e-6))
    True
    """
    gamma = expand(gamma, x)
    return alpha(gamma) * x + sigma(gamma) * eps


def x_from_eps(
    z: Float[Array, "batch *data"], eps: Float[Array, "batch *data"], gamma: Gamma
) -> Float[Array, "batch *data"]:
    """The x of z = α x + σ ε, Eq. 4.50 (Kingma et al. 2021, Eq. 10).

    Its error grows as 1/α: at γ = 20 float32 noise of z appears 2·10⁴ times larger.
    """
    gamma = expand(gamma, z)
    return (z - sigma(gamma) * eps) / alpha(gamma)


def transition(gamma_s: ArrayLike, gamma_t: ArrayLike) -> tuple[Array, Array]:
    """(α_{t|s}, σ²_{t|s}) of q(z_t|z_s) for s < t, that is γ_s ≤ γ_t. Shapes of the arguments.

    Eq. 3.9, 3.14 and 3.22 (Kingma et al. 2021, Eq. 20–22); the variance as −σ_t² expm1(γ_s − γ_t), exact also for
    γ_s → γ_t, where the printed difference σ_t² − α_{t|s}² σ_s² cancels.
    """
    gamma_s, gamma_t = jnp.asarray(gamma_s), jnp.asarray(gamma_t)
    return alpha(gamma_t) / alpha(gamma_s), -jax.nn.sigmoid(gamma_t) * jnp.expm1(gamma_s - gamma_t)


def posterior(
    z_t: Float[Array, "batch *data"], x: Float[Array, "batch *data"], gamma_s: Gamma, gamma_t: Gamma
) -> tuple[Float[Array, "batch *data"], Array]:
    """(mean, variance) of q(z_s|z_t, x) for γ_s ≤ γ_t: Eq. 3.23 and 3.48 (Kingma et al. 2021, Eq. 23–25).

    Mean of Eq. 3.47 with shape (batch, *data); variance σ_s² (−expm1(γ_s − γ_t)), Eq. 3.42 in the form of Eq. A.21,
    with the shape of γ expanded for broadcasting against z.

    >>> mean, var = posterior(jnp.ones((1, 2)), jnp.ones((1, 2)), gamma_s=-2.0, gamma_t=-1.0)
    >>> mean.shape
    (1, 2)
    """
    gamma_s, gamma_t = expand(gamma_s, z_t), expand(gamma_t, z_t)
    c = -jnp.expm1(gamma_s - gamma_t)
    var_s, var_t = jax.nn.sigmoid(gamma_s), jax.nn.sigmoid(gamma_t)
    alpha_ts = alpha(gamma_t) / alpha(gamma_s)
    mean = alpha_ts * (var_s / var_t) * z_t + alpha(gamma_s) * c * x
    return mean, var_s * c


def posterior_from_eps(
    z_t: Float[Array, "batch *data"], eps: Float[Array, "batch *data"], gamma_s: Gamma, gamma_t: Gamma
) -> tuple[Float[Array, "batch *data"], Array]:
    """(mean, variance) of q(z_s|z_t, x) with x written through ε: Eq. 4.2, as Eq. A.29 and A.21.

    With a predicted ε this is the generative transition p(z_s|z_t) of Eq. 3.103 (Kingma et al. 2021, Eq. 28, 31 and
    32), and a draw of it Eq. 3.104, corrected: the noise's factor is √((1−α_s²) c) times ε, not √(1−α_s² c ε).
    """
    gamma_s, gamma_t = expand(gamma_s, z_t), expand(gamma_t, z_t)
    c = -jnp.expm1(gamma_s - gamma_t)
    mean = alpha(gamma_s) / alpha(gamma_t) * (z_t - sigma(gamma_t) * c * eps)
    return mean, jax.nn.sigmoid(gamma_s) * c
