"""The variance-preserving Gaussian diffusion process as a function of γ = −log SNR.

Covers Table 3.1 of De Sousa Ribeiro & Glocker (2024), in the sigmoid and expm1 forms of their §A.3, which keep float32
accuracy for |γ| ≤ 20 and for γ_s → γ_t. The process is variance-preserving: α² + σ² = 1, Eq. 3.8. Equations cited by
number alone are theirs. `gamma` is a scalar, or one value per example with shape (batch,), or one value per element
with the shape of the data; `z`, `x` and `eps` have shape (batch, *data).
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

Gamma = Float[ArrayLike, ""] | Float[Array, " batch"] | Float[Array, "batch *data"]


def expand(gamma: Gamma, like: Float[Array, "batch *data"]) -> Array:
    """Return `gamma` with trailing axes of size 1, so that it broadcasts against `like`.

    A scalar gets shape (1, …, 1), shape (batch,) becomes (batch, 1, …, 1), and the shape of `like` is kept, as is the
    dtype. Raises ValueError for any other shape.
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
    """Signal coefficient α = √sigmoid(−γ), Eq. A.4 (Kingma et al. 2021, Eq. 4), with the shape of `gamma`."""
    return jnp.sqrt(jax.nn.sigmoid(-jnp.asarray(gamma)))


def sigma(gamma: ArrayLike) -> Array:
    """Noise coefficient σ = √sigmoid(γ), Eq. A.1 (Kingma et al. 2021, Eq. 3), with the shape of `gamma`."""
    return jnp.sqrt(jax.nn.sigmoid(jnp.asarray(gamma)))


def snr(gamma: ArrayLike) -> Array:
    """Signal-to-noise ratio α²/σ² = e^{−γ}, Eq. A.14 (Kingma et al. 2021, Eq. 2 and 5), with the shape of `gamma`."""
    return jnp.exp(-jnp.asarray(gamma))


def diffuse(
    x: Float[Array, "batch *data"], eps: Float[Array, "batch *data"], gamma: Gamma
) -> Float[Array, "batch *data"]:
    """Diffuse x to noise level γ: z = α x + σ ε, a draw of q(z_t|x) for ε ~ N(0, I), Eq. 3.1 and 3.87.

    Kingma et al. (2021), Eq. 1.

    >>> z = diffuse(jnp.ones((1, 2)), jnp.zeros((1, 2)), -20.0)
    >>> bool(jnp.all(jnp.abs(z - 1) < 1e-6))
    True
    """
    gamma = expand(gamma, x)
    return alpha(gamma) * x + sigma(gamma) * eps


def x_from_eps(
    z: Float[Array, "batch *data"], eps: Float[Array, "batch *data"], gamma: Gamma
) -> Float[Array, "batch *data"]:
    """Solve z = α x + σ ε for x: (z − σ ε)/α, Eq. 4.50 (Kingma et al. 2021, Eq. 10).

    The error grows as 1/α: at γ = 20, float32 rounding of z is magnified 2·10⁴ times.
    """
    gamma = expand(gamma, z)
    return (z - sigma(gamma) * eps) / alpha(gamma)


def transition(gamma_s: ArrayLike, gamma_t: ArrayLike) -> tuple[Array, Array]:
    """Return (α_{t|s}, σ²_{t|s}) of q(z_t|z_s) for s < t, i.e. γ_s ≤ γ_t, with the shapes of the arguments.

    Eq. 3.9, 3.14 and 3.22 (Kingma et al. 2021, Eq. 20–22). The variance is computed as −σ_t² expm1(γ_s − γ_t), which is
    also accurate for γ_s → γ_t, where the printed difference σ_t² − α_{t|s}² σ_s² cancels.
    """
    gamma_s, gamma_t = jnp.asarray(gamma_s), jnp.asarray(gamma_t)
    return alpha(gamma_t) / alpha(gamma_s), -jax.nn.sigmoid(gamma_t) * jnp.expm1(gamma_s - gamma_t)


def posterior(
    z_t: Float[Array, "batch *data"], x: Float[Array, "batch *data"], gamma_s: Gamma, gamma_t: Gamma
) -> tuple[Float[Array, "batch *data"], Array]:
    """Return (mean, variance) of q(z_s|z_t, x) for γ_s ≤ γ_t, Eq. 3.23 and 3.48 (Kingma et al. 2021, Eq. 23–25).

    The mean is that of Eq. 3.47, with shape (batch, *data). The variance is σ_s² (−expm1(γ_s − γ_t)), Eq. 3.42 in the
    form of Eq. A.21, with the shape of `gamma_s` and `gamma_t` after `expand`.

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
    """Return (mean, variance) of q(z_s|z_t, x) with x expressed through ε, Eq. 4.2, computed as Eq. A.29 and A.21.

    With a predicted ε this is the generative transition p(z_s|z_t) of Eq. 3.103 (Kingma et al. 2021, Eq. 28, 31 and
    32). A draw of it is Eq. 3.104, corrected: its noise term is √((1−α_s²) c) ε, not √(1−α_s² c ε).
    """
    gamma_s, gamma_t = expand(gamma_s, z_t), expand(gamma_t, z_t)
    c = -jnp.expm1(gamma_s - gamma_t)
    mean = alpha(gamma_s) / alpha(gamma_t) * (z_t - sigma(gamma_t) * c * eps)
    return mean, jax.nn.sigmoid(gamma_s) * c
