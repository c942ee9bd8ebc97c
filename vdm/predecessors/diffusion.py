"""A diffusion model of T steps as a hierarchical VAE whose inference model is fixed.

This is the view of §3 of De Sousa Ribeiro & Glocker (2024): from the top down, z_1 → … → z_0 → x, with T + 1 latents of
the data's shape. The posteriors q(z_s|z_t, x) are those of the noising process, and the transitions
p(z_s|z_t) = q(z_s|z_t, x = x̂(z_t)) share one denoiser.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vdm import gaussian, likelihoods, predictions
from vdm.bounds import GammaFn, sum_data
from vdm.keys import Keys, folded, normal_per_image
from vdm.model import Batch, Model, Variables
from vdm.predecessors import hierarchy
from vdm.predecessors.hierarchy import Path
from vdm.predecessors.normal import Normal, standard


def path(
    denoise: predictions.Denoise,
    gamma: GammaFn,
    image: likelihoods.Data,
    eps: Sequence[Float[Array, "batch *data"]],
    levels: int,
) -> Path:
    """Draw z_0, z_{1/T} … z_1 once given images, with the terms of the bound; eps[i] is the noise of z_{i/T}.

    The rates are the terms of the T-step bound at the same latents: the rate of z_1 is `bounds.prior_loss`, and that of
    z_{i/T} is 1/T times `bounds.discrete_diffusion_loss` at step i + 1.

    >>> x, eps = jnp.zeros((1, 2), jnp.uint8), [jnp.ones((1, 2))] * 5
    >>> drawn = path(lambda z, gamma: z, lambda t: 15 * t - 10, x, eps, levels=2)
    >>> len(drawn.rates)
    5
    """
    x, num_steps = likelihoods.encode(image, levels), len(eps) - 1
    gammas = [gamma(jnp.float32(i / num_steps)) for i in range(num_steps + 1)]

    def transition(z_t: Array, i: int, x: Array) -> Normal:
        mean, variance = gaussian.posterior(z_t, x, gammas[i], gammas[i + 1])
        return Normal(mean, jnp.broadcast_to(0.5 * jnp.log(variance), mean.shape))

    def layer(number: int, z_t: Array) -> tuple[Normal, Normal]:
        i = number - 1
        if i == num_steps:
            log_sigma = 0.5 * jax.nn.log_sigmoid(gammas[i])
            return Normal(gaussian.alpha(gammas[i]) * x, jnp.full_like(x, log_sigma)), standard(x)
        return transition(z_t, i, x), transition(z_t, i, predictions.both(denoise)(z_t, gammas[i + 1]).x)

    def reconstruction(z_0: Array) -> Array:
        return -likelihoods.log_prob(image, z_0, gammas[0], levels)

    return hierarchy.top_down(layer, lambda t, state, z: z, reconstruction, jnp.zeros_like(x), eps)


def log_weight(model: Model, variables: Variables, batch: Batch, keys: Keys, num_steps: int) -> Float[Array, " batch"]:
    """Return log p(x, z)/q(z|x) in nats for one draw of z_0 … z_1, with one key for each image.

    The model is evaluated with `num_steps` steps, whatever T it was trained for; memory does not grow with that number.
    For importance-weighted bounds from many draws, see `vdm.predecessors.importance`.
    """
    denoise = model.denoiser(variables, model.condition_of(batch))
    shape = batch["image"].shape
    return log_weight_of(
        denoise,
        lambda t: model.gamma(variables, t),
        batch["image"],
        lambda i: normal_per_image(folded(keys, i), shape),
        model.levels,
        num_steps,
    )


def log_weight_of(
    denoise: predictions.Denoise,
    gamma: GammaFn,
    image: likelihoods.Data,
    draw: Callable[[Array], Float[Array, "batch *data"]],
    levels: int,
    num_steps: int,
) -> Float[Array, " batch"]:
    """Return `log_weight` for a denoiser and γ(t), where draw(i) is the noise of z_{i/T}.

    It equals `path(…).log_weight`, computed by a loop. With z_t = α_t x + σ_t ε_t, a draw of q(z_s|z_t, x) has
    ε_s = √(1 − c) ε_t + √c η, where c = −expm1(γ_s − γ_t) and η is fresh noise. Then log q/p = η·d + ½ ‖d‖², where
    d = √expm1(γ_t − γ_s) (ε̂(z_t) − ε_t). This form has no cancellation, however many steps there are.

    >>> x = jnp.zeros((1, 2), jnp.uint8)
    >>> draw = lambda i: jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (1, 2))
    >>> log_weight_of(lambda z, gamma: z, lambda t: 15 * t - 10, x, draw, levels=2, num_steps=100).shape
    (1,)
    """
    x = likelihoods.encode(image, levels)

    def at(i: Array) -> Array:
        return gamma(i.astype(jnp.float32) / num_steps)

    def step(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        eps_t, log_ratio = carry
        gamma_s, gamma_t = at(i), at(i + 1)
        predicted = predictions.both(denoise)(gaussian.diffuse(x, eps_t, gamma_t), gamma_t).eps
        d = jnp.sqrt(jnp.expm1(gamma_t - gamma_s)) * (predicted - eps_t)
        eta, c = draw(i), -jnp.expm1(gamma_s - gamma_t)
        eps_s = jnp.exp(0.5 * (gamma_s - gamma_t)) * eps_t + jnp.sqrt(c) * eta
        return (eps_s, log_ratio + sum_data(d * (eta + 0.5 * d))), None

    first, last = jnp.asarray(0), jnp.asarray(num_steps)
    eps_1, gamma_1 = draw(last), at(last)
    z_1 = gaussian.diffuse(x, eps_1, gamma_1)
    of_prior = sum_data(0.5 * (z_1 - eps_1) * (z_1 + eps_1) - 0.5 * jax.nn.log_sigmoid(gamma_1))
    (eps_0, log_ratio), _ = jax.lax.scan(step, (eps_1, of_prior), jnp.arange(num_steps)[::-1])
    z_0 = gaussian.diffuse(x, eps_0, at(first))
    return likelihoods.log_prob(image, z_0, at(first), levels) - log_ratio
