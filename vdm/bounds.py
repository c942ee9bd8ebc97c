"""The variational bound on −log p(x), term by term, in nats summed over data dimensions: shape (batch,).

−log p(x) ≤ reconstruction + prior + diffusion, Eq. 3.60 of De Sousa Ribeiro & Glocker (2024), whose equations are cited
by number alone (Kingma et al. 2021, Eq. 11). Throughout, `denoise` is a denoiser (`vdm.predictions`), `gamma` a
callable t → γ(t), and x data encoded in [−1, 1].
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from vdm import gaussian, likelihoods, predictions, timesteps
from vdm.schedules import value_and_slope

GammaFn = Callable[[Array], Array]
Nats = TypeVar("Nats", Array, np.ndarray, float)


def reconstruction_loss(
    x: likelihoods.Data, gamma_0: ArrayLike, eps_0: Float[Array, "batch *data"], levels: int
) -> Float[Array, " batch"]:
    """Estimate the reconstruction term of Eq. 3.60: −log p(x|z₀) at one draw z₀ = α₀ x + σ₀ ε₀, in nats.

    x is not encoded: integers 0 … levels−1, or real numbers (`levels` = `likelihoods.REAL`).
    """
    z_0 = gaussian.diffuse(likelihoods.encode(x, levels), eps_0, gamma_0)
    return -likelihoods.log_prob(x, z_0, gamma_0, levels)


def prior_loss(x: Float[Array, "batch *data"], gamma_1: ArrayLike) -> Float[Array, " batch"]:
    """Return the prior term KL(q(z₁|x) ‖ N(0, I)) of Eq. 3.60, in nats.

    ½ Σ [α₁² x² + σ₁² − 1 − log σ₁²], with σ₁² − 1 = −α₁² and −log σ₁² = softplus(−γ₁). The prior is that of Kingma et
    al. (2021), Eq. 7.

    >>> bool(prior_loss(jnp.zeros((1, 4)), 20.0)[0] < 1e-8)
    True
    """
    var_signal = jax.nn.sigmoid(-jnp.asarray(gamma_1))
    elementwise = 0.5 * (var_signal * (jnp.square(x) - 1) + jax.nn.softplus(-jnp.asarray(gamma_1)))
    return sum_data(elementwise)


def continuous_diffusion_loss(
    denoise: predictions.Denoise,
    gamma: GammaFn,
    x: Float[Array, "batch *data"],
    t: Float[Array, " batch"],
    eps: Float[Array, "batch *data"],
) -> Float[Array, " batch"]:
    """Estimate the continuous-time diffusion loss (T → ∞) by ½ γ'(t) ‖ε − ε̂(z_t, γ(t))‖², in nats: Eq. 3.134.

    Its mean over t ~ U(0, 1) and ε is the diffusion loss. Kingma et al. (2021), Eq. 17.

    >>> x, eps = jnp.zeros((4, 2)), jnp.ones((4, 2))
    >>> t = jnp.array([0.1, 0.3, 0.5, 0.9])
    >>> continuous_diffusion_loss(lambda z, gamma: 0 * z, lambda t: 15 * t - 10, x, t, eps).tolist()
    [15.0, 15.0, 15.0, 15.0]
    """
    return diffusion_loss_at(denoise, *continuous_noise_levels(gamma, t), x, eps)


def discrete_diffusion_loss(
    denoise: predictions.Denoise,
    gamma: GammaFn,
    x: Float[Array, "batch *data"],
    i: Integer[Array, " batch"],
    eps: Float[Array, "batch *data"],
    num_steps: Integer[ArrayLike, ""],
) -> Float[Array, " batch"]:
    """Estimate the diffusion loss of a T-step model by T times its term of step i ∈ {1, …, T}, in nats: Eq. A.38.

    T/2 expm1(γ_t − γ_s) ‖ε − ε̂(z_t, γ_t)‖² with t = i/T and s = (i−1)/T. Its mean over uniform i and ε is the
    diffusion loss, the sum over steps of KL(q(z_s|z_t, x) ‖ p(z_s|z_t)): Eq. 3.62 and 3.99 (Kingma et al. 2021, Eq. 12
    and 14).

    >>> x, eps, i = jnp.zeros((3, 2)), jnp.ones((3, 2)), jnp.array([1, 2, 10])
    >>> discrete_diffusion_loss(lambda z, gamma: z, lambda t: 15 * t - 10, x, i, eps, 10).shape
    (3,)
    """
    return diffusion_loss_at(denoise, *discrete_noise_levels(gamma, i, num_steps), x, eps)


def continuous_noise_levels(gamma: GammaFn, t: Float[Array, " batch"]) -> tuple[Array, Array]:
    """Return (γ(t), weight γ'(t)) of the continuous-time diffusion loss at times t, each (batch,): Eq. 3.133."""
    return value_and_slope(gamma, t)


def discrete_noise_levels(
    gamma: GammaFn, i: Integer[Array, " batch"], num_steps: Integer[ArrayLike, ""]
) -> tuple[Array, Array]:
    """Return (γ_t, weight T expm1(γ_t − γ_s)) of the T-step diffusion loss at steps i ∈ {1, …, T}, each (batch,).

    Steps of Eq. 3.50, weight of Eq. A.36. `num_steps` = T may be traced.
    """
    steps = jnp.asarray(num_steps, jnp.float32)
    gamma_s, gamma_t = gamma((i - 1).astype(jnp.float32) / steps), gamma(i.astype(jnp.float32) / steps)
    return gamma_t, steps * jnp.expm1(gamma_t - gamma_s)


def noise_levels(
    gamma: GammaFn, t: Float[Array, " batch"], num_steps: Integer[ArrayLike, ""] | None
) -> tuple[Array, Array]:
    """Return (γ, weight) of the diffusion loss at times t ∈ [0, 1), each (batch,).

    With T = `num_steps`, which may be traced, they are those of the step whose interval contains t; with None, those of
    `continuous_noise_levels`.
    """
    if num_steps is None:
        return continuous_noise_levels(gamma, t)
    return discrete_noise_levels(gamma, timesteps.to_steps(t, num_steps), num_steps)


def diffusion_loss_at(
    denoise: predictions.Denoise,
    gamma_t: Float[Array, " batch"],
    weight: Float[Array, " batch"],
    x: Float[Array, "batch *data"],
    eps: Float[Array, "batch *data"],
    space: str = "eps",
) -> Float[Array, " batch"]:
    """Return ½ weight ‖ε − ε̂(z_t, γ_t)‖² in nats for the given γ and weight, e.g. those of `noise_levels`.

    `space`, one of `predictions.KINDS`, is the kind of prediction whose error is squared; the factor of Table 4.3 turns
    it into the error of ε. The result is the same up to rounding: in the space of the network's own prediction, its
    error is not passed through a division by α or σ. In the space of x it is one term of Eq. 3.86, 3.93 and 3.124
    (Kingma et al. 2021, Eq. 13 and 16). Raises ValueError for a guided or clipped denoiser.
    """
    if isinstance(denoise, predictions.Guided):
        raise ValueError(
            "denoise: is guided or clipped, so the bound would not be the model's; must be the model's own denoiser"
        )
    z_t = gaussian.diffuse(x, eps, gamma_t)
    prediction = predictions.compose(*predictions.both(denoise)(z_t, gamma_t), gamma_t, space)
    error = sum_data(jnp.square(predictions.compose(x, eps, gamma_t, space) - prediction))
    return 0.5 * weight * jnp.square(predictions.error_factor(gamma_t, space, "eps")) * error


def bits_per_dim(nats: Nats, num_dims: int) -> Nats:
    """Convert nats to bits per dimension, nats / (num_dims · ln 2), in the precision of `nats`.

    >>> round(float(bits_per_dim(100.0, 64)), 3)
    2.254
    """
    return nats / (num_dims * np.log(2))


def sum_data(values: Float[Array, "batch *data"]) -> Float[Array, " batch"]:
    """Sum over all axes except the first."""
    return jnp.sum(values, axis=range(1, values.ndim))
