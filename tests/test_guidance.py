"""Guidance: mixtures of denoisers; x̂ clipped, with z = α x̂ + σ ε̂ kept, and nothing where nothing is out of range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import gaussian, guidance, oracles, predictions, samplers

Z = 2 * jax.random.normal(jax.random.key(0), (6, 40))
GAMMA = jnp.linspace(-13.0, 8.0, 6)


def denoise(z, gamma):
    """x̂ from −3 to 3, out of range in most places."""
    x_hat = 3 * jnp.sin(5 * z)
    gamma = gaussian.expand(gamma, z)
    return (z - gaussian.alpha(gamma) * x_hat) / gaussian.sigma(gamma)


@pytest.mark.parametrize("clip", [guidance.static_clipping(), guidance.dynamic_clipping()])
def test_x_hat_is_in_range_and_consistent_with_eps_hat(clip):
    raw, _ = predictions.both(denoise)(Z, GAMMA)
    x_hat, eps_hat = clip(denoise)(Z, GAMMA)
    assert np.abs(raw).max() > 2
    assert np.abs(x_hat).max() <= 1
    gamma = gaussian.expand(GAMMA, Z)
    # Each term is at most about 10 and rounded a few times; at γ = −13 ε̂ is up to 2000 and σ ε̂ rounds as z does.
    np.testing.assert_allclose(gaussian.alpha(gamma) * x_hat + gaussian.sigma(gamma) * eps_hat, Z, atol=1e-5)


def test_static_is_the_clip_and_dynamic_the_scaled_percentile():
    raw, _ = predictions.both(denoise)(Z, GAMMA)
    np.testing.assert_array_equal(guidance.static_clipping()(denoise)(Z, GAMMA)[0], np.clip(raw, -1, 1))
    s = np.maximum(np.percentile(np.abs(np.asarray(raw, np.float64)), 90, axis=1, keepdims=True), 1)
    expected = np.clip(raw, -s, s) / s
    np.testing.assert_allclose(guidance.dynamic_clipping(90.0)(denoise)(Z, GAMMA)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("clip", [guidance.static_clipping(), guidance.dynamic_clipping()])
def test_nothing_changes_where_x_hat_is_in_range(clip):
    def inside(z, gamma):
        gamma = gaussian.expand(gamma, z)
        return (z - gaussian.alpha(gamma) * 0.9 * jnp.sin(z)) / gaussian.sigma(gamma)

    np.testing.assert_array_equal(clip(inside)(Z, GAMMA).eps, inside(Z, GAMMA))


@pytest.mark.parametrize("clip", [guidance.static_clipping(), guidance.dynamic_clipping()])
def test_at_zero_snr_x_hat_is_clipped_and_eps_hat_is_z(clip):
    """There α = 0, and x̂ says nothing of ε̂."""
    v = predictions.denoiser(lambda z, gamma: 3 * jnp.sin(5 * z), "v")
    x_hat, eps_hat = clip(v)(Z, jnp.inf)
    assert 0.5 < np.abs(x_hat).max() <= 1
    np.testing.assert_array_equal(eps_hat, Z)


@pytest.mark.parametrize("percentile", [0.0, 101.0, float("nan")])
def test_bad_percentiles_are_refused(percentile):
    with pytest.raises(ValueError, match=r"percentile=.*: must be above 0 and at most 100"):
        guidance.dynamic_clipping(percentile)


def test_no_clipping_is_the_denoiser_itself():
    assert guidance.no_clipping()(denoise) is denoise


def test_a_combination_is_linear_in_x_and_in_eps():
    """And consistent with z where the weights have sum 1."""
    ends = predictions.denoiser(lambda z, gamma: 0.1 * z, "v"), lambda z, gamma: 0.5 * z
    x_hat, eps_hat = guidance.combine(ends, [1.5, -0.5])(Z, GAMMA)
    one, other = (predictions.both(each)(Z, GAMMA) for each in ends)
    np.testing.assert_allclose(x_hat, 1.5 * one.x - 0.5 * other.x, rtol=1e-6)
    np.testing.assert_allclose(eps_hat, 1.5 * one.eps - 0.5 * other.eps, rtol=1e-6)
    gamma = gaussian.expand(GAMMA, Z)
    # Weights of sum 1: z is still α x̂ + σ ε̂. At γ = 8 x̂ of the plain one is z/α of size 100, rounded to 1e-5.
    np.testing.assert_allclose(gaussian.alpha(gamma) * x_hat + gaussian.sigma(gamma) * eps_hat, Z, atol=2e-5)


def test_a_combination_of_gaussian_scores_is_their_product():
    """w₁ s₁ + w₂ s₂ of N(m, v) each is the score of N with precisions w/v added: at one γ, in closed form."""
    one, other = oracles.gaussian([0.3], [0.04]), oracles.gaussian([-0.2], [0.25])
    z, gamma = jnp.linspace(-1, 1, 7)[:, None], 0.4
    combined = guidance.combine([one.denoise, other.denoise], [1.7, -0.7])(z, jnp.float32(gamma)).eps
    a, s2 = np.sqrt(1 / (1 + np.exp(gamma))), 1 / (1 + np.exp(-gamma))
    precisions = [1.7 / (a**2 * 0.04 + s2), -0.7 / (a**2 * 0.25 + s2)]
    mean = (precisions[0] * a * 0.3 + precisions[1] * a * -0.2) / sum(precisions)
    np.testing.assert_allclose(combined, np.sqrt(s2) * sum(precisions) * (np.asarray(z) - mean), rtol=1e-5, atol=1e-6)


def test_weights_may_be_traced():
    mixed = jax.jit(lambda w: guidance.combine([denoise, lambda z, gamma: z], [1 + w, -w])(Z, GAMMA).eps)
    np.testing.assert_allclose(mixed(jnp.float32(0.0)), denoise(Z, GAMMA), rtol=1e-6)
    np.testing.assert_allclose(mixed(jnp.float32(2.0)), 3 * denoise(Z, GAMMA) - 2 * Z, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("denoisers", "weights"), [([], []), ([denoise], [0.5, 0.5])])
def test_a_combination_needs_a_weight_for_each(denoisers, weights):
    with pytest.raises(ValueError, match=r"denoisers, weights: .* must be equally many, 1 or more"):
        guidance.combine(denoisers, weights)


@pytest.mark.parametrize("kind", predictions.KNOW_X_OF_NOISE)
@pytest.mark.parametrize("sampler", [samplers.ddim(0.0), samplers.ancestral(), samplers.dpm_solver_pp(2)])
def test_a_plain_wrapper_of_a_denoiser_is_a_denoiser(kind, sampler):
    """From γ = ∞ too: the wrapped one draws the very same."""
    plain = predictions.denoiser(lambda z, gamma: 0.1 * z, kind)

    def wrapped(z, gamma):
        return plain(z, gamma)

    gammas = jnp.concatenate([jnp.array([jnp.inf]), jnp.linspace(5.0, -6.0, 10)])
    draws = [
        samplers.sample(jax.random.key(0), each, sampler, gammas, (2, 3))
        for each in (plain, wrapped, guidance.combine([plain], [1.0]))
    ]
    assert np.all(np.isfinite(draws[0]))
    for other in draws[1:]:
        np.testing.assert_array_equal(draws[0], other)


@pytest.mark.usefixtures("unannotated")
def test_weights_are_scalars_and_percentiles_numbers():
    with pytest.raises(ValueError, match=r"weights\[1\] has shape \(3,\): must be a scalar"):
        guidance.combine([denoise, denoise], [1.0, jnp.ones(3)])
    with pytest.raises(ValueError, match=r"denoise=int: must be a function"):
        guidance.combine([denoise, 3], [1.0, 1.0])
    for percentile in ("99", True):
        with pytest.raises(ValueError, match=r"percentile=.*: must be above 0 and at most 100"):
            guidance.dynamic_clipping(percentile)
    guidance.dynamic_clipping(0.5)  # A percentile, no fraction, but one all the same.
