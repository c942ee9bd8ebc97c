"""A T-step diffusion model is a hierarchy with fixed inference: its bound is the package's own, term by term."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vdm import bounds, gaussian, likelihoods, oracles
from vdm.keys import folded, image_keys, normal_per_image
from vdm.predecessors import diffusion, hierarchy, importance
from vdm.predecessors.normal import Normal

KEY = jax.random.key(0)
LEVELS, SHAPE, T = 17, (4, 4, 1), 6
GAMMA_0, GAMMA_1 = -8.0, 4.0
IMAGE = tiny.images(3)


def gamma(t):
    return GAMMA_0 + (GAMMA_1 - GAMMA_0) * jnp.asarray(t, jnp.float32)


MEAN, STD = 0.2, 0.7


def gaussian_of(*shape):
    return oracles.gaussian(np.full(shape, MEAN), np.full(shape, STD**2)).denoise


CENTERS = np.array([-0.4, 0.5]).reshape(2, 1, 1, 1) * np.ones((2, *SHAPE))
MIXTURE = oracles.mixture([0.3, 0.7], CENTERS, [0.2, 0.1]).denoise
OF_IMAGES, OF_VECTORS = gaussian_of(*SHAPE), gaussian_of(2)
"""Exact denoisers of N(MEAN, STD²)."""


def learned():
    """A network's, off its start, with a learned schedule."""
    model = tiny.pixelwise()
    variables = tiny.variables(model)
    return model.denoiser(variables), lambda t: model.gamma(variables, jnp.asarray(t, jnp.float32))


def eps(num_steps=T, shape=IMAGE.shape):
    return [jax.random.normal(jax.random.fold_in(KEY, i), shape) for i in range(num_steps + 1)]


DENOISERS = {"gaussian": lambda: (OF_IMAGES, gamma), "mixture": lambda: (MIXTURE, gamma), "network": learned}


@pytest.mark.parametrize("name", DENOISERS)
def test_its_bound_is_the_packages_term_by_term(name):
    """§3: at the same z_t, rates are the T-step diffusion loss of each step and the prior's; p(x|z_0) is the same."""
    denoise, g = DENOISERS[name]()

    @jax.jit
    def both(image):
        path = diffusion.path(denoise, g, image, eps(), LEVELS)
        x = likelihoods.encode(image, LEVELS)
        gammas = [g(i / T) for i in range(T + 1)]
        drawn = [(z - gaussian.alpha(a) * x) / gaussian.sigma(a) for z, a in zip(path.latents, gammas, strict=True)]
        steps = [
            bounds.discrete_diffusion_loss(denoise, g, x, jnp.full(len(x), i), drawn[i], T) / T for i in range(1, T + 1)
        ]
        others = bounds.prior_loss(x, gammas[T]), bounds.reconstruction_loss(image, gammas[0], drawn[0], LEVELS)
        return path, (*steps, others[0]), others[1]

    path, rates, reconstruction = both(IMAGE)
    # z_t is known to 1 part in 10⁷, and ε at t → 0 is (z − α x)/σ, with 1/σ = 50 here.
    for t, (mine, other) in enumerate(zip(path.rates, rates, strict=True)):
        np.testing.assert_allclose(mine, other, rtol=2e-5, err_msg=str(t))
    np.testing.assert_allclose(path.reconstruction, reconstruction, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(path.bound, sum(rates) + reconstruction, rtol=2e-5)


def test_latents_have_the_distribution_of_the_noising_process():
    """Each z_t drawn from the top down is one of q(z_t|x), Eq. 3.1: mean α x and variance σ², over 4000 images."""
    n = 4000
    image = jnp.full((n, 2), 0.7, jnp.float32)
    draws = eps(num_steps=3, shape=image.shape)
    path = jax.jit(lambda: diffusion.path(OF_VECTORS, gamma, image, draws, likelihoods.REAL))()
    for i, z in enumerate(path.latents):
        mean, variance = 0.7 * gaussian.alpha(gamma(i / 3)), gaussian.sigma(gamma(i / 3)) ** 2
        assert abs(np.mean(z) - mean) < 4 * np.sqrt(variance / z.size)
        assert abs(np.var(z) / variance - 1) < 4 * np.sqrt(2 / z.size)


def test_the_loops_log_weight_is_the_paths():
    denoise, g = learned()
    noise = jnp.stack(eps())
    path, weight = jax.jit(
        lambda: (
            diffusion.path(denoise, g, IMAGE, list(noise), LEVELS),
            diffusion.log_weight_of(denoise, g, IMAGE, lambda i: noise[i], LEVELS, T),
        )
    )()
    np.testing.assert_allclose(weight, path.log_weight, rtol=2e-5)
    # Not as the bound, whose rates are the means of the log ratios.
    assert np.abs(weight + path.bound).max() > 0.1


def test_of_a_model_each_image_has_noise_of_its_own():
    """An image's log weight is the same in another batch; and it is that of the model's denoiser and γ."""
    model = tiny.pixelwise()
    variables = tiny.variables(model)
    keys = image_keys(KEY, len(IMAGE))
    weight = jax.jit(lambda image, keys: diffusion.log_weight(model, variables, {"image": image}, keys, T))
    whole = weight(IMAGE, keys)
    np.testing.assert_allclose(weight(IMAGE[1:], keys[1:]), whole[1:], rtol=1e-6)
    denoise, g = learned()
    draw = lambda i: normal_per_image(folded(keys, i), IMAGE.shape)  # noqa: E731
    other = jax.jit(lambda: diffusion.log_weight_of(denoise, g, IMAGE, draw, LEVELS, T))()
    np.testing.assert_allclose(other, whole, rtol=1e-5)


ENDS = -3.0, 2.0
"""γ(0) and γ(1) where weights are looked at: within them, of moderate variance."""


def log_p(x, num_steps):
    """log p(x) of the T-step model with the exact denoiser of N(MEAN, STD²): all is Gaussian. float64, each value."""
    alpha, sigma = (lambda g: np.sqrt(1 / (1 + np.exp(g)))), (lambda g: np.sqrt(1 / (1 + np.exp(-g))))
    g = np.linspace(*ENDS, num_steps + 1)
    m, v = 0.0, 1.0
    for i in range(num_steps, 0, -1):
        a, s, b, r = alpha(g[i]), sigma(g[i]), alpha(g[i - 1]), sigma(g[i - 1])
        # x̂ = MEAN + k (z − a MEAN); z_s = b x̂ + (a r²/(b s²)) (z − a x̂) + noise of variance r² (1 − e^{γs − γt}).
        k = a * STD**2 / (a**2 * STD**2 + s**2)
        of_z = a * r**2 / (b * s**2)
        of_x = b - of_z * a
        m = of_z * m + of_x * (MEAN + k * (m - a * MEAN))
        v = (of_z + of_x * k) ** 2 * v + r**2 * -np.expm1(g[i - 1] - g[i])
    m, v = m / alpha(g[0]), v / alpha(g[0]) ** 2 + np.exp(g[0])
    return np.sum(-0.5 * ((x - m) ** 2 / v + np.log(2 * np.pi * v)), axis=1)


@pytest.mark.parametrize("num_steps", [3, 50])
def test_weights_are_unbiased_for_p(num_steps):
    """E p(x, z)/q(z|x) = p(x), exact in this linear-Gaussian case, within four standard errors."""
    n, draws = 50, 400
    x = jnp.asarray(MEAN + STD * np.random.default_rng(0).normal(size=(n, 2)), jnp.float32)
    keys = image_keys(KEY, n)

    def log_weight(keys):
        draw = lambda i: normal_per_image(folded(keys, i), x.shape)  # noqa: E731
        g = lambda t: ENDS[0] + (ENDS[1] - ENDS[0]) * t  # noqa: E731
        return diffusion.log_weight_of(OF_VECTORS, g, x, draw, likelihoods.REAL, num_steps)

    log_weights = np.asarray(jax.jit(lambda: importance.log_weights(log_weight, keys, draws))(), np.float64)
    exact = log_p(np.asarray(x, np.float64), num_steps)
    ratio = np.exp(log_weights - exact[None, :])
    error = ratio.std() / np.sqrt(ratio.size)
    assert abs(ratio.mean() - 1) < 4 * error
    assert error < 0.02
    gap = np.asarray(importance.bound(jnp.asarray(log_weights, jnp.float32))) + exact
    assert gap.mean() < 0.5 * (exact - log_weights.mean(axis=0)).mean()


def test_transitions_are_the_ancestral_samplers():
    """Eq. 3.103: mean and variance of `gaussian.posterior_from_eps`."""

    def both():
        path = diffusion.path(OF_IMAGES, gamma, IMAGE, eps(), LEVELS)
        z_t = path.latents[T]
        given = z_t, OF_IMAGES(z_t, gamma(1.0)), gamma((T - 1) / T), gamma(1.0)
        return path.priors[T - 1], gaussian.posterior_from_eps(*given)

    p, (mean, variance) = jax.jit(both)()
    np.testing.assert_allclose(p.mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jnp.exp(2 * p.log_std), jnp.broadcast_to(variance, mean.shape), rtol=1e-5)


def test_ancestral_and_descended_go_through_the_layers_from_the_top():
    """Of a chain whose state is the list of what it has seen."""
    prior = lambda t, state: Normal(jnp.full((1, 1), 10.0 * t), jnp.zeros((1, 1)))  # noqa: E731
    descend = lambda t, state, z: [*state, (t, float(z[0, 0]))]  # noqa: E731
    noise = [jnp.full((1, 1), 1.0), jnp.full((1, 1), 2.0), jnp.full((1, 1), 3.0)]
    assert hierarchy.ancestral(prior, descend, [], noise) == [(3, 33.0), (2, 22.0), (1, 11.0)]
    assert hierarchy.ancestral(prior, descend, [], noise, jnp.zeros((1, 1))) == [(3, 0.0), (2, 22.0), (1, 11.0)]
    assert hierarchy.descended(descend, [], noise) == [(3, 3.0), (2, 2.0), (1, 1.0)]
