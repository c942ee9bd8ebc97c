"""Times of a batch: each uniform, together spread evenly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import EPS
from scipy import stats

from vdm import timesteps

SIZES = (1, 3, 7, 10, 49, 128)


def draws(times, size: int, num: int) -> np.ndarray:
    """`num` batches of times, (num, size)."""
    return np.asarray(jax.vmap(lambda key: times(key, size))(jax.random.split(jax.random.key(size), num)))


@pytest.mark.parametrize("size", [1, 7, 49])
@pytest.mark.parametrize("times", [timesteps.iid, timesteps.stratified])
def test_one_time_in_0_1_for_each_example(times, size):
    t = draws(times, size, 50)
    assert t.shape == (50, size)
    assert t.dtype == np.float32
    assert np.all((t >= 0) & (t < 1))


@pytest.mark.parametrize("size", SIZES)
def test_stratified_times_are_evenly_spaced_round_the_circle(size):
    t = np.sort(draws(timesteps.stratified, size, 50).astype(np.float64), axis=1)
    gaps = np.diff(np.concatenate([t, t[:, :1] + 1], axis=1), axis=1)
    # u + k/B is rounded at values up to 2: one spacing for each of the two times.
    np.testing.assert_allclose(gaps, 1 / size, atol=3 * EPS)


@pytest.mark.parametrize("size", SIZES)
def test_stratified_puts_one_time_in_each_stratum(size):
    t = draws(timesteps.stratified, size, 20).astype(np.float64)
    np.testing.assert_array_equal(np.sort(np.floor(t * size), axis=1), np.tile(np.arange(size), (20, 1)))


@pytest.mark.parametrize("times", [timesteps.iid, timesteps.stratified])
def test_each_time_is_uniform(times):
    t = draws(times, 5, 2000)
    for k in range(5):
        # Fixed keys: the p-value is a fixed number. One below 1e-3 would mean a wrong distribution.
        assert stats.kstest(t[:, k], "uniform").pvalue > 1e-3


def test_iid_times_are_independent_and_stratified_ones_are_not():
    independent, even = draws(timesteps.iid, 8, 2000).mean(axis=1), draws(timesteps.stratified, 8, 2000).mean(axis=1)
    # Var of the mean: 1/(12·8) for independent times, 1/(12·8²) for strata with one offset. Var of a sample
    # variance of 2000 normal-like values is 2/2000 relative: 3.2%.
    np.testing.assert_allclose(independent.var(), 1 / 96, rtol=4 * np.sqrt(2 / 2000))
    np.testing.assert_allclose(even.var(), 1 / 768, rtol=4 * np.sqrt(2 / 2000))


@pytest.mark.parametrize("num_steps", [1, 2, 7, 10, 1000])
def test_to_steps_is_the_interval_that_holds_t(num_steps):
    middles = (np.arange(num_steps) + 0.5) / num_steps
    steps = timesteps.to_steps(jnp.asarray(middles, jnp.float32), num_steps)
    np.testing.assert_array_equal(steps, np.arange(1, num_steps + 1))
    ends = timesteps.to_steps(jnp.array([0.0, np.nextafter(np.float32(1), np.float32(0)), 1.0]), num_steps)
    np.testing.assert_array_equal(ends, [1, num_steps, num_steps])


def test_to_steps_covers_all_steps_evenly():
    t = timesteps.stratified(jax.random.key(0), 600)
    counts = np.bincount(timesteps.to_steps(t, 12), minlength=13)
    # 50 equally spaced times an interval; rounding may move the ones at the two edges.
    assert counts[0] == 0
    assert np.all(np.abs(counts[1:] - 50) <= 1)


@pytest.mark.parametrize("num_bins", [1, 3, 32])
def test_importance_sampled_times_have_the_density_and_keep_the_mean(num_bins):
    """Even u cover every bin by its probability; the mean of f/p over them is ∫ f, as a Riemann sum of each bin."""
    probabilities = np.random.default_rng(num_bins).uniform(0.2, 1.0, num_bins).astype(np.float32)
    probabilities /= probabilities.sum()
    num = 100_000
    t, density = timesteps.importance(
        jnp.asarray((np.arange(num) + 0.5) / num, jnp.float32), jnp.asarray(probabilities)
    )
    t, density = np.asarray(t, np.float64), np.asarray(density, np.float64)
    assert np.all((t >= 0) & (t < 1))
    bins = np.floor(t * num_bins).astype(int)
    # A point at each edge of a bin may fall on either side.
    np.testing.assert_allclose(np.bincount(bins, minlength=num_bins) / num, probabilities, atol=2 / num + 5 * EPS)
    inside = np.abs(t * num_bins - np.round(t * num_bins)) > 1e-3
    np.testing.assert_allclose(density[inside], probabilities[bins[inside]] * num_bins, rtol=1e-6)
    # Sums of float32 probabilities move each edge by a few EPS.
    np.testing.assert_allclose(np.mean(np.exp(t) / density), np.e - 1, rtol=1e-4)


def test_uniform_importance_is_the_identity():
    u = jnp.asarray(np.linspace(0, 1, 1000, endpoint=False), jnp.float32)
    t, density = timesteps.importance(u, jnp.full(8, 1 / 8))
    np.testing.assert_array_equal(density, 1)
    np.testing.assert_allclose(t, u, atol=2 * EPS)


def test_a_number_of_steps_may_be_traced():
    t = jnp.asarray(np.linspace(0, 1, 1000, endpoint=False), jnp.float32)
    for num_steps in (1, 7, 1000):
        traced = jax.jit(timesteps.to_steps)(t, num_steps)
        np.testing.assert_array_equal(traced, timesteps.to_steps(t, num_steps))
        assert traced.min() == 1
        assert traced.max() == num_steps


def test_a_u_rounded_up_to_1_is_of_the_last_cell():
    """Not of none after it, whose width, and so the weight of its loss, would be 0."""
    quantiles = jnp.asarray([0.0, 0.1, 0.3, 1.0])
    t, measure = timesteps.by_quantiles(jnp.asarray([0.99, 1.0]), quantiles)
    np.testing.assert_allclose(measure, 3 * 0.7, rtol=1e-6)
    assert t[1] == timesteps.ONE_BELOW
