"""Normal distributions of latents: densities and KL against quadrature, draws, and what is relative to another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.predecessors.normal import Normal, kl, kl_of_each, relative, standard

GRID = np.linspace(-60, 60, 60_001)


def of(mean: float, log_std: float) -> Normal:
    return Normal(jnp.full((1, 1), mean, jnp.float32), jnp.full((1, 1), log_std, jnp.float32))


def log_density(normal: Normal) -> np.ndarray:
    """On the grid, in float64."""
    mean, log_std = float(normal.mean[0, 0]), float(normal.log_std[0, 0])
    return -0.5 * ((GRID - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)


PAIRS = [(of(0, 0), of(0, 0)), (of(1, 0), of(0, 0)), (of(-2, -1.5), of(0.5, 1.2)), (of(0.3, 1), of(0.3, -0.4))]


@pytest.mark.parametrize(("q", "p"), PAIRS)
def test_kl_is_the_integral(q, p):
    a, b = log_density(q), log_density(p)
    integral = np.sum(np.exp(a) * (a - b)) * (GRID[1] - GRID[0])
    np.testing.assert_allclose(kl(q, p)[0], integral, rtol=1e-5, atol=1e-7)


def test_kl_keeps_its_digits_where_the_two_are_close():
    """δ²: ½ (e^{2δ} − 1 − 2δ) = δ² + O(δ³), which the printed form, a difference of numbers of size 1, loses."""
    delta = 1e-3
    np.testing.assert_allclose(kl(of(0, delta), of(0, 0))[0], delta**2 * (1 + 2 * delta / 3), rtol=1e-3)
    q = Normal(jnp.zeros((1, 1000)), jnp.asarray(np.linspace(-1e-3, 1e-3, 1000)[None], jnp.float32))
    assert (kl_of_each(q, standard(q.mean)) >= 0).all()


def test_log_prob_is_the_density_summed_over_values():
    q = of(-0.7, 0.4)
    at = GRID[30_000:30_400:40]
    z = jnp.asarray(at[:, None], jnp.float32)
    tiled = Normal(jnp.broadcast_to(q.mean, z.shape), jnp.broadcast_to(q.log_std, z.shape))
    np.testing.assert_allclose(tiled.log_prob(z), log_density(q)[30_000:30_400:40], rtol=1e-5)
    two = Normal(jnp.zeros((1, 2)), jnp.asarray([[0.0, 0.7]]))
    parts = [Normal(two.mean[:, i : i + 1], two.log_std[:, i : i + 1]).log_prob(jnp.ones((1, 1))) for i in (0, 1)]
    np.testing.assert_allclose(two.log_prob(jnp.ones((1, 2))), sum(parts), rtol=1e-6)


def test_draws_have_its_moments_and_a_gradient():
    n = 40_000
    q = Normal(jnp.full((n, 1), 2.0), jnp.full((n, 1), -0.5))
    z = np.asarray(q.draw(jax.random.normal(jax.random.key(0), (n, 1))))
    std = np.exp(-0.5)
    assert abs(z.mean() - 2) < 4 * std / np.sqrt(n)
    assert abs(z.var() / std**2 - 1) < 4 * np.sqrt(2 / n)
    drawn = lambda log_std: Normal(jnp.zeros((1, 1)), log_std).draw(jnp.full((1, 1), 3.0)).sum()  # noqa: E731
    slope = jax.grad(drawn)(q.log_std[:1])
    np.testing.assert_allclose(slope, 3 * std, rtol=1e-6)


def test_relative_draws_are_those_of_the_prior_moved():
    u, p = of(0.3, -0.2), of(-1.0, 0.8)
    eps = jnp.asarray([[0.7]])
    np.testing.assert_allclose(relative(u, p).draw(eps), p.draw(u.draw(eps)), rtol=1e-6)
    np.testing.assert_allclose(kl(relative(u, p), p), kl(u, standard(u.mean)), rtol=1e-5)
