"""Conditions as a product of experts: exact where they are independent, the score that it says it is everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import bounds, gaussian, guidance, oracles, predictions
from vdm.composition import composed

GAMMAS = np.array([-12.0, -4.0, -1.0, 0.0, 2.0, 7.0, 14.0])
Z = np.random.default_rng(0).normal(size=(len(GAMMAS), 2))
FIRST, SECOND, STD = np.array([-0.7, 0.2, 0.6]), np.array([-0.4, 0.5]), 0.25
"""Means of what the first attribute is about, and the second."""


def attributes(weights: np.ndarray) -> tuple[oracles.Oracle, list[oracles.Oracle], list[oracles.Oracle]]:
    """Data of both attributes with these joint `weights`: all of them, those of each value of the first, and of the
    second."""

    def of(chosen: np.ndarray) -> oracles.Oracle:
        a, b = np.nonzero(chosen)
        means = np.stack([FIRST[a], SECOND[b]], axis=1)
        return oracles.mixture(weights[a, b] / weights[a, b].sum(), means, np.full(len(a), STD))

    rows = [of((np.arange(3)[:, None] == a) & (weights > 0)) for a in range(3)]
    columns = [of((np.arange(2)[None] == b) & (weights > 0)) for b in range(2)]
    return of(weights > 0), rows, columns


INDEPENDENT = np.outer([0.5, 0.2, 0.3], [0.6, 0.4])
TOGETHER = np.array([[0.45, 0.05], [0.1, 0.1], [0.02, 0.28]])
"""The second attribute tells much of the first."""


def denoised(denoise: predictions.Denoise, gamma: float | np.ndarray) -> predictions.Prediction:
    return predictions.both(denoise)(jnp.asarray(Z), jnp.asarray(gamma))


@pytest.mark.parametrize(("weights", "exact"), [(INDEPENDENT, True), (TOGETHER, False)])
def test_independent_attributes_compose_exactly(weights: np.ndarray, exact: bool) -> None:
    """At every noise: p(z|a, b) p(z) = p(z|a) p(z|b) there too. Of attributes that come together it is not so."""
    every, first, second = attributes(weights)
    with jax.enable_x64(True):
        for a, b in ((0, 0), (2, 1), (1, 0)):
            both = oracles.gaussian(np.array([FIRST[a], SECOND[b]]), np.full(2, STD**2))
            led = composed([first[a].denoise, second[b].denoise], every.denoise, [1.0, 1.0])
            found, wanted = denoised(led, GAMMAS).x, denoised(both.denoise, GAMMAS).x
            if exact:
                np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
            else:
                assert np.max(np.abs(found - wanted)) > 0.02


def test_it_is_the_score_of_the_weighted_product() -> None:
    """ε̂ = −σ ∇ log [p(z) Π (p(z|c)/p(z))^w], by the derivative of log p(c|z) = log p(z|c)/p(z) + log p(c)."""
    oracle = oracles.mixture(
        np.array([0.5, 0.2, 0.3]), np.array([[-0.6, 0.1], [0.5, 0.3], [0.1, -0.8]]), np.full(3, 0.3)
    )
    weights = np.array([1.5, 1.0, -0.5])
    with jax.enable_x64(True):
        led = composed([oracle.denoise_component(k) for k in range(3)], oracle.denoise, list(weights))
        z, gamma = jnp.asarray(Z), jnp.asarray(GAMMAS)
        slope = jax.grad(lambda z: jnp.sum(oracle.log_posterior(z, gamma) @ jnp.asarray(weights)))(z)
        expected = denoised(oracle.denoise, GAMMAS).eps - gaussian.sigma(gamma)[:, None] * slope
        found = denoised(led, GAMMAS)
        np.testing.assert_allclose(found.eps, expected, rtol=1e-7, atol=1e-9)
        again = gaussian.alpha(gamma)[:, None] * found.x + gaussian.sigma(gamma)[:, None] * found.eps
        np.testing.assert_allclose(again, z, rtol=1e-9, atol=1e-9)


def test_one_condition_is_the_model_and_its_guidance() -> None:
    every, (one, other, _), _ = attributes(INDEPENDENT)
    same = denoised(composed([one.denoise], every.denoise, [1.0]), GAMMAS)
    for found, wanted in zip(same, denoised(one.denoise, GAMMAS), strict=True):
        np.testing.assert_array_equal(found, wanted)
    led = denoised(composed([one.denoise], every.denoise, [3.0]), GAMMAS)
    for found, wanted in zip(
        led, denoised(guidance.classifier_free(one.denoise, every.denoise, 2.0), GAMMAS), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    # None of either is the unconditional one.
    none = denoised(composed([one.denoise, other.denoise], every.denoise, [0.0, 0.0]), GAMMAS)
    np.testing.assert_array_equal(none.x, denoised(every.denoise, GAMMAS).x)


def test_weights_may_be_traced() -> None:
    every, (one, other, _), _ = attributes(INDEPENDENT)
    traced = []

    @jax.jit
    def led(weights: jax.Array) -> jax.Array:
        traced.append(weights)
        return composed([one.denoise, other.denoise], every.denoise, list(weights))(jnp.asarray(Z, jnp.float32), 0.0).x

    plain = composed([one.denoise, other.denoise], every.denoise, [0.7, -0.2])(jnp.asarray(Z, jnp.float32), 0.0).x
    # Sums of terms of about 1, whose rounding differs where they are compiled together.
    np.testing.assert_allclose(led(jnp.array([0.7, -0.2])), plain, rtol=0, atol=100 * np.finfo(np.float32).eps)
    led(jnp.array([2.0, 1.0]))
    assert len(traced) == 1


def test_what_does_not_go_together_is_refused() -> None:
    every, (one, *_), _ = attributes(INDEPENDENT)
    for denoisers, weights in (([], []), ([one.denoise], [1.0, 2.0])):
        with pytest.raises(
            ValueError, match=r"^denoisers, weights: \d and \d of them; must be equally many, 1 or more$"
        ):
            composed(denoisers, every.denoise, weights)
    led, x = composed([one.denoise], every.denoise, [1.0]), jnp.zeros((2, 2))
    with pytest.raises(ValueError, match="guided"):
        bounds.continuous_diffusion_loss(led, lambda t: 2 * t, x, jnp.zeros(2), x)
