"""The process q against Table 3.1 of De Sousa Ribeiro & Glocker (2024), re-derived in float64.

γ goes up to ±20, and γ_t − γ_s down to 1e-6.
"""

import inspect

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import oracle
import pytest
from oracle import EPS

from vdm import gaussian

GAMMAS = np.linspace(-20, 20, 17).astype(np.float32)
# Relative accuracy: an exponential, a division, a root and two products, each within about a float32 spacing.
RTOL = 12 * EPS


def _pairs() -> tuple[jax.Array, jax.Array]:
    """All γ_s < γ_t of the grid, and neighbours down to 1e-6 apart (or to float32's own spacing there)."""
    pairs = [(s, t) for s in GAMMAS for t in GAMMAS if s < t]
    for gap in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1):
        for s in GAMMAS:
            t = max(np.float32(s + np.float32(gap)), np.nextafter(s, np.float32(30)))
            pairs += [(s, t)]
    low, high = jnp.asarray(pairs, jnp.float32).T
    return low, high


LOW, HIGH = _pairs()
RNG = np.random.default_rng(0)
X, EPS_T, Z = (jnp.asarray(RNG.normal(size=(len(LOW), 3)), jnp.float32) for _ in range(3))
# float64 columns that broadcast against them.
S, T = oracle.f64(LOW)[:, None], oracle.f64(HIGH)[:, None]


@pytest.mark.parametrize(("function", "expected"), [
    (gaussian.alpha, lambda gamma: 1 / np.sqrt(1 + np.exp(gamma))),
    (gaussian.sigma, lambda gamma: 1 / np.sqrt(1 + np.exp(-gamma))),
    (gaussian.snr, lambda gamma: np.exp(-gamma)),
])  # fmt: skip
def test_coefficients(function, expected):
    gamma = np.linspace(-20, 20, 4001).astype(np.float32)
    np.testing.assert_allclose(function(gamma), expected(oracle.f64(gamma)), rtol=RTOL)


def test_coefficients_are_those_of_a_preserved_variance():
    gamma = jnp.asarray(GAMMAS)
    np.testing.assert_allclose(gaussian.alpha(gamma) ** 2 + gaussian.sigma(gamma) ** 2, 1.0, rtol=4 * EPS)
    # Noise grows with γ, until 1 − α² is 1 in float32.
    assert np.all(np.diff(gaussian.sigma(gamma[gamma < 16])) > 0)


def test_diffuse():
    expected = oracle.alpha(T) * oracle.f64(X) + oracle.sigma(T) * oracle.f64(EPS_T)
    # Absolute: both terms are of order 1 and may cancel.
    np.testing.assert_allclose(gaussian.diffuse(X, EPS_T, HIGH), expected, rtol=RTOL, atol=RTOL)


def test_x_from_eps_undoes_diffuse():
    z = gaussian.diffuse(X, EPS_T, HIGH)
    x = gaussian.x_from_eps(z, EPS_T, HIGH)
    # z carries a rounding of its own size (about 3), which 1/α magnifies.
    assert np.all(np.abs(x - X) <= 8 * EPS * (np.abs(z) + np.abs(EPS_T)) / oracle.alpha(T))


def test_x_from_eps_formula():
    x = gaussian.x_from_eps(Z, EPS_T, HIGH)
    expected = (oracle.f64(Z) - oracle.sigma(T) * oracle.f64(EPS_T)) / oracle.alpha(T)
    assert np.all(np.abs(x - expected) <= RTOL * (np.abs(Z) + np.abs(EPS_T)) / oracle.alpha(T))


def test_transition():
    for ours, expected in zip(gaussian.transition(LOW, HIGH), oracle.transition(LOW, HIGH), strict=True):
        # The printed difference σ_t² − α² σ_s² cancels in float64 too: 1e-16/1e-6 relative, far below float32.
        np.testing.assert_allclose(ours, expected, rtol=RTOL)


def test_transition_carries_marginals_to_marginals():
    alpha_ts, var_ts = gaussian.transition(LOW, HIGH)
    np.testing.assert_allclose(alpha_ts * gaussian.alpha(LOW), oracle.alpha(HIGH), rtol=2 * RTOL)
    np.testing.assert_allclose(var_ts + (alpha_ts * gaussian.sigma(LOW)) ** 2, oracle.sigma(HIGH) ** 2, rtol=2 * RTOL)


def test_transitions_compose():
    """q(z_t|z_r) is q(z_t|z_s) after q(z_s|z_r)."""
    r, s, t = np.asarray([(r, s, t) for r in GAMMAS for s in GAMMAS for t in GAMMAS if r < s < t], np.float32).T
    alpha_sr, var_sr = gaussian.transition(r, s)
    alpha_ts, var_ts = gaussian.transition(s, t)
    alpha_tr, var_tr = gaussian.transition(r, t)
    np.testing.assert_allclose(alpha_ts * alpha_sr, alpha_tr, rtol=2 * RTOL)
    np.testing.assert_allclose(var_ts + alpha_ts**2 * var_sr, var_tr, rtol=2 * RTOL)


def test_posterior_is_bayes_rule():
    mean, var = gaussian.posterior(Z, X, LOW, HIGH)
    expected_mean, expected_var = oracle.posterior(Z, X, S, T)
    assert var.shape == (len(LOW), 1)
    np.testing.assert_allclose(var, expected_var, rtol=RTOL)
    # Both terms of the mean have coefficients of at most 1, so its error is relative to |z| + |x|.
    scale = np.abs(oracle.f64(Z)) + np.abs(oracle.f64(X))
    assert np.all(np.abs(mean - expected_mean) <= RTOL * scale)


def test_posterior_mean_is_accurate_term_by_term():
    """Each coefficient to float32, also the one of x, which is as small as γ_t − γ_s."""
    ones, zeros = jnp.ones((len(LOW), 1)), jnp.zeros((len(LOW), 1))
    for z, x in ((ones, zeros), (zeros, ones)):
        mean, _ = gaussian.posterior(z, x, LOW, HIGH)
        np.testing.assert_allclose(mean, oracle.posterior(z, x, S, T)[0], rtol=RTOL)


def test_posterior_from_eps_is_the_posterior_of_the_same_x():
    mean, var = gaussian.posterior_from_eps(Z, EPS_T, LOW, HIGH)
    x = (oracle.f64(Z) - oracle.sigma(T) * oracle.f64(EPS_T)) / oracle.alpha(T)
    expected_mean, expected_var = oracle.posterior(Z, x, S, T)
    np.testing.assert_allclose(var, expected_var, rtol=RTOL)
    # z − σ_t c ε may cancel before α_s/α_t, up to 2·10⁴, multiplies it.
    scale = oracle.alpha(S) / oracle.alpha(T) * (np.abs(Z) + np.abs(EPS_T))
    assert np.all(np.abs(mean - expected_mean) <= RTOL * scale)


def test_posterior_then_transition_is_the_forward_joint():
    """E and Var of z_s under q(z_s|z_t, x) q(z_t|x) are those of q(z_s|x), in closed form."""
    one = jnp.ones((len(LOW), 1))
    coefficient, var = gaussian.posterior(one, 0 * one, LOW, HIGH)
    mean, _ = gaussian.posterior(jnp.asarray(oracle.alpha(T), jnp.float32), one, LOW, HIGH)
    np.testing.assert_allclose(mean, oracle.alpha(S), rtol=2 * RTOL)
    np.testing.assert_allclose(var + (coefficient * oracle.sigma(T)) ** 2, oracle.sigma(S) ** 2, rtol=2 * RTOL)


@pytest.mark.parametrize("function", [gaussian.posterior, gaussian.posterior_from_eps])
def test_equal_times_are_the_identity(function):
    gamma = HIGH
    mean, var = function(Z, X, gamma, gamma)
    np.testing.assert_allclose(mean, Z, rtol=4 * EPS)
    np.testing.assert_array_equal(var, 0)
    alpha_ts, var_ts = gaussian.transition(gamma, gamma)
    np.testing.assert_array_equal(alpha_ts, 1)
    np.testing.assert_array_equal(var_ts, 0)


def test_gradients_are_finite():
    @jax.jit
    @jax.grad
    def gradient(arguments):
        z, x, gamma_s, gamma_t = arguments
        outputs = (
            gaussian.alpha(gamma_s), gaussian.sigma(gamma_s), gaussian.snr(gamma_s),
            gaussian.diffuse(x, z, gamma_t), gaussian.x_from_eps(z, x, gamma_t), gaussian.transition(gamma_s, gamma_t),
            gaussian.posterior(z, x, gamma_s, gamma_t), gaussian.posterior_from_eps(z, x, gamma_s, gamma_t),
        )  # fmt: skip
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(outputs))

    for low, high in ((LOW, HIGH), (HIGH, HIGH)):
        for leaf in gradient((Z, X, low, high)):
            assert np.all(np.isfinite(leaf))


def test_scalar_gamma_is_every_examples_gamma():
    scalar = gaussian.posterior(Z, X, -1.0, 2.0)
    batch = gaussian.posterior(Z, X, jnp.full(len(Z), -1.0), jnp.full(len(Z), 2.0))
    np.testing.assert_allclose(scalar[0], batch[0], rtol=2 * EPS)
    assert (scalar[1].shape, batch[1].shape) == ((1, 1), (len(Z), 1))


def test_expand():
    like = jnp.zeros((2, 4, 5, 3))
    assert gaussian.expand(1.5, like).shape == (1, 1, 1, 1)
    np.testing.assert_array_equal(gaussian.expand(jnp.array([1.0, 2.0]), like), np.reshape([1, 2], (2, 1, 1, 1)))
    of_each = jnp.arange(like.size, dtype=jnp.float32).reshape(like.shape)
    np.testing.assert_array_equal(gaussian.expand(of_each, like), of_each)


@pytest.mark.parametrize("shape", [(3,), (1,), (2, 1), (2, 4, 5, 1)])
def test_expand_refuses_other_shapes(shape):
    # Without the annotation checks of the test run, which would refuse the call before it begins.
    with pytest.raises(ValueError, match=r"gamma has shape .* must be \(\), \(2,\) or \(2, 4, 5, 3\)"):
        inspect.unwrap(gaussian.expand)(jnp.zeros(shape), jnp.zeros((2, 4, 5, 3)))
    with pytest.raises(jaxtyping.TypeCheckError):
        gaussian.expand(jnp.zeros(shape), jnp.zeros((2, 4, 5, 3)))
