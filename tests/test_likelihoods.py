"""The codes of integer data and the discretized p(x|z₀), against float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from oracle import EPS
from scipy import stats

from vdm import gaussian, likelihoods

LEVELS = (2, 3, 17, 255, 256)
GAMMAS = (-13.3, -9.0, -7.0, -3.0, 1.0)

# No explanations of failures: Hypothesis would trace every line of JAX for them, for minutes.
PHASES = (Phase.generate, Phase.shrink)

# Compiled once for each number of levels and shape; γ₀ is traced.
log_prob = jax.jit(likelihoods.log_prob, static_argnums=3)
mean = jax.jit(likelihoods.mean, static_argnums=2)


def noisy(levels: int, gamma: float, num: int = 400, seed: int = 0):
    """(x, z₀) with z₀ ~ q(z₀|x) for random x, of shape (num, 1)."""
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.integers(0, levels, size=(num, 1)))
    return x, gaussian.diffuse(
        likelihoods.encode(x, levels), jnp.asarray(rng.normal(size=(num, 1)), jnp.float32), gamma
    )


@pytest.mark.parametrize("levels", range(2, 257))
def test_decode_inverts_encode(levels):
    # Always 256 numbers: one shape to compile.
    values = jnp.arange(256) % levels
    np.testing.assert_array_equal(likelihoods.decode(likelihoods.encode(values, levels), levels), values)


@pytest.mark.parametrize("levels", LEVELS)
def test_codes_are_the_centres_of_equal_bins_that_fill_minus_1_to_1(levels):
    codes = oracle.f64(likelihoods.encode(jnp.arange(levels), levels))
    edges = np.linspace(-1, 1, levels + 1)
    # Codes of size up to 1, made by one division and one subtraction.
    np.testing.assert_allclose(codes, (edges[1:] + edges[:-1]) / 2, rtol=0, atol=EPS)


def test_256_levels_are_not_255():
    # The first and the last of 256 bin centres are half a bin inside ±1; of 255 steps they would be ±1 or beyond.
    codes = likelihoods.encode(jnp.array([0, 128, 255]), 256)
    np.testing.assert_array_equal(codes, [-255 / 256, 1 / 256, 255 / 256])


@pytest.mark.parametrize("levels", LEVELS)
def test_decode_gives_the_bin_and_clips(levels):
    edges = np.linspace(-1, 1, levels + 1)[1:-1]
    # A tenth of a bin on either side of each inner edge.
    for side, expected in ((-1, np.arange(levels - 1)), (1, np.arange(1, levels))):
        np.testing.assert_array_equal(
            likelihoods.decode(jnp.asarray(edges + side * 0.2 / levels, jnp.float32), levels), expected
        )
    np.testing.assert_array_equal(
        likelihoods.decode(jnp.array([-7.0, -1.0, 1.0, 7.0]), levels), [0, 0, levels - 1, levels - 1]
    )


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_log_prob_is_the_float64_log_softmax(levels, gamma):
    x, z = noisy(levels, gamma)
    ours = log_prob(x, z, gamma, levels)
    expected = oracle.decoder_log_prob(x, z, np.float32(gamma), levels)[:, 0]
    # The exponents are SNR · (distances of up to 2 bins or |d|, each rounded by EPS/2 at size 1): their error moves
    # log p by SNR · EPS · (distance to the nearest wrong value), distances being about 1/√SNR + 2/levels.
    snr = np.exp(-gamma)
    atol = 4 * EPS * (1 + snr * (4 / np.sqrt(snr) + 2 / levels))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_probabilities_of_all_values_sum_to_1(levels, gamma):
    _, z = noisy(levels, gamma, num=20)
    values = jnp.arange(levels)[:, None]
    for one in z:
        logs = log_prob(values, jnp.tile(one[None], (levels, 1)), gamma, levels)
        # Each log p has the error of `test_log_prob_is_the_float64_log_softmax`, at most 2e-3 (256 levels, γ = −13.3).
        assert abs(np.sum(np.exp(oracle.f64(logs))) - 1) < 3e-3


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_logits_are_the_gaussian_density_up_to_a_constant(levels, gamma):
    _, z = noisy(levels, gamma, num=50)
    logits = oracle.f64(likelihoods.logits(z, gamma, levels))
    expected = oracle.decoder_logits(z, np.float32(gamma), levels)
    assert logits.shape == (50, 1, levels)
    # ½ SNR d² with d² up to 4, each factor rounded a few times.
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=4 * EPS * (1 + np.exp(-gamma)))


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_log_prob_is_the_normalised_logit_at_x(levels, gamma):
    x, z = noisy(levels, gamma, num=50)
    logs = jax.nn.log_softmax(likelihoods.logits(z, gamma, levels), axis=-1)
    at_x = np.take_along_axis(np.asarray(logs), np.asarray(x)[..., None], axis=-1)[:, 0, 0]
    # The logits carry EPS relative to their size, up to 2 SNR for far values and SNR d² near.
    np.testing.assert_allclose(log_prob(x, z, gamma, levels), at_x, rtol=1e-4, atol=20 * EPS * (1 + np.exp(-gamma / 2)))


def test_log_prob_sums_over_data_dimensions():
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.integers(0, 17, size=(3, 4, 5, 2)))
    z = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    gamma = jnp.array([-4.0, -2.0, 0.5])
    expected = oracle.decoder_log_prob(x, z, oracle.f64(gamma).reshape(3, 1, 1, 1, 1), 17).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(log_prob(x, z, gamma, 17), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.uint16])
def test_any_integer_type(dtype):
    x, z = noisy(256, -8.0, num=30)
    np.testing.assert_array_equal(log_prob(x.astype(dtype), z, -8.0, 256), log_prob(x, z, -8.0, 256))


@settings(max_examples=200, deadline=None, derandomize=True, phases=PHASES)
@given(
    st.floats(-20, 20, width=32),
    st.floats(-1e4, 1e4, width=32),
    st.integers(0, 255),
)
def test_log_prob_is_finite_and_never_above_0(gamma, z, x):
    value = log_prob(jnp.array([[x]]), jnp.array([[z]], jnp.float32), jnp.float32(gamma), 256)
    assert np.isfinite(value[0])
    assert value[0] <= 0


@pytest.mark.parametrize("gamma", [-20.0, -13.3, 0.0])
def test_a_far_z_does_not_overflow(gamma):
    z = jnp.array([[1e5], [-1e5]])
    x = jnp.array([[0], [0]])
    value, gradient = jax.value_and_grad(lambda z: jnp.sum(log_prob(x, z, gamma, 256)))(z)
    expected = oracle.decoder_log_prob(x, z, gamma, 256)[:, 0].sum()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("gamma", [-9.0, -5.0, 0.0])
def test_gradients(levels, gamma):
    """∂ log p/∂z₀ and ∂/∂γ₀ against finite differences of the float64 formula."""
    x, z = noisy(levels, gamma, num=40)
    gammas = jnp.full(40, gamma)

    def total(z, gammas):
        return jnp.sum(log_prob(x, z, gammas, levels))

    by_z, by_gamma = jax.jit(jax.grad(total, argnums=(0, 1)))(z, gammas)
    expected_z = oracle.central_difference(
        lambda z: oracle.decoder_log_prob(x, z, np.float32(gamma), levels), z, step=1e-6 * np.exp(gamma / 2)
    )
    expected_gamma = oracle.central_difference(
        lambda gamma: oracle.decoder_log_prob(x, z, gamma, levels), np.float32(gamma), step=1e-5
    )
    # Rounding of log p's exponents by SNR·EPS·distance, times the derivatives' own scale 1/σ₀ (for z), 1 (for γ).
    noise = 60 * EPS * (1 + np.exp(-gamma / 2))
    np.testing.assert_allclose(by_z, expected_z, rtol=1e-4, atol=noise * np.exp(-gamma / 2))
    np.testing.assert_allclose(by_gamma[:, None], expected_gamma, rtol=1e-4, atol=noise)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("gamma", [-13.3, -5.0, 1.0])
def test_mode_is_the_most_probable_value(levels, gamma):
    _, z = noisy(levels, gamma)
    np.testing.assert_array_equal(
        likelihoods.mode(z, gamma, levels), np.argmax(oracle.decoder_logits(z, np.float32(gamma), levels), axis=-1)
    )


@pytest.mark.parametrize("levels", LEVELS)
def test_mean_is_the_float64_mean(levels):
    for gamma in GAMMAS:
        _, z = noisy(levels, gamma)
        ours = mean(z, gamma, levels)
        assert (ours.dtype, ours.shape) == (jnp.float32, z.shape)
        logits = oracle.decoder_logits(z, np.float32(gamma), levels)
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        expected = weights @ np.arange(levels) / weights.sum(axis=-1)
        # Probabilities are off by as much as in `test_log_prob_is_the_float64_log_softmax`, of values about std apart.
        snr = np.exp(-gamma)
        factor = 4 * EPS * (1 + snr * (4 / np.sqrt(snr) + 2 / levels))
        std = min(levels, 1 + levels / 2 / np.sqrt(snr))
        np.testing.assert_allclose(ours, expected, rtol=0, atol=4 * std * factor + 4 * EPS * levels)


def test_mean_of_a_far_z_is_the_outermost_value():
    for gamma in (-20.0, -13.3, 0.0):
        np.testing.assert_array_equal(mean(jnp.array([[-1e5, 1e5]]), gamma, 256), [[0, 255]])


@pytest.mark.parametrize("function", [likelihoods.mean, partial(likelihoods.sample, jax.random.key(0))])
def test_no_array_of_all_levels_is_in_memory(function):
    z = jnp.zeros((4, 32, 32))
    program = jax.jit(function, static_argnums=2).lower(z, jnp.float32(-9.0), 256).compile()
    assert program.memory_analysis().temp_size_in_bytes < 16 * z.nbytes


def test_sample_frequencies_are_the_probabilities():
    levels, gamma, num = 8, -1.5, 20_000
    z = jnp.array([[0.3, -0.9]])
    x = likelihoods.sample(jax.random.key(0), jnp.tile(z, (num, 1)), gamma, levels)
    assert x.dtype == jnp.int32
    logits = oracle.decoder_logits(z, gamma, levels)[0]
    probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    for pixel in range(2):
        counts = np.bincount(x[:, pixel], minlength=levels)
        # A fixed key: a fixed p-value.
        assert stats.chisquare(counts, num * probabilities[pixel]).pvalue > 1e-3
    # The two pixels are drawn independently: counts of pairs against the product.
    pairs = np.bincount(np.asarray(x[:, 0] * levels + x[:, 1]), minlength=levels**2)
    expected = num * np.outer(*probabilities).ravel()
    common = expected > 5
    # Rare pairs in one cell, as chi-square wants cells that are not nearly empty.
    pairs, expected = (np.append(counts[common], counts[~common].sum()) for counts in (pairs, expected))
    assert stats.chisquare(pairs, expected).pvalue > 1e-3


@pytest.mark.parametrize("levels", [1, -3])
def test_refuses_fewer_than_two_levels(levels):
    for function in (
        lambda: likelihoods.encode(jnp.arange(2), levels),
        lambda: likelihoods.decode(jnp.zeros(2), levels),
    ):
        with pytest.raises(ValueError, match=f"levels={levels}: must be 2 or more"):
            function()
