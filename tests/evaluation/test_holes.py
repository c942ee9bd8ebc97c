"""The aggregate posterior against the prior: closed forms, quadrature, and the prior itself."""

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest
from plane import quadrature
from scipy import stats

from vdm.evaluation import holes as measures
from vdm.evaluation.holes import diffused, holes, log_aggregate, on_grid, posteriors
from vdm.evaluation.metrics.mmd import SCALES
from vdm.predecessors.normal import Normal
from vdm.predecessors.vae import vae

KEY = jax.random.key(0)
DRAWS = 4000


def normals(mean, std):
    mean = np.asarray(mean, np.float32)
    return Normal(jnp.asarray(mean), jnp.asarray(np.log(np.broadcast_to(std, mean.shape)), jnp.float32))


def mixture(num=6, seed=0):
    rng = np.random.default_rng(seed)
    return normals(rng.normal(size=(num, 2)), rng.uniform(0.3, 0.7, (num, 2)))


def assert_within(share, wanted, errors=4.0):
    assert abs(share.value - wanted) <= errors * share.stderr, (share, wanted)


def test_of_one_point_everything_has_a_closed_form():
    """N(m, s²) against N(0, 1), in three dimensions; no information, for there is nothing to tell apart."""
    m, s = np.array([0.5, -0.3, 0.0]), 0.8
    found = holes(normals(m[None], s), KEY, DRAWS)
    forward = 0.5 * np.sum(s**2 + m**2 - 1 - 2 * np.log(s))
    reverse = 0.5 * np.sum((1 + m**2) / s**2 - 1 + 2 * np.log(s))
    assert found.rate == pytest.approx(forward, rel=1e-6)
    assert found.forward.stderr < 0.1 * forward
    assert_within(found.forward, forward)
    assert_within(found.reverse, reverse)
    assert_within(found.information, 0.0)
    assert (found.num_points, found.num_dims, found.num_draws) == (1, 3, DRAWS)


def test_its_share_in_holes_is_one_of_chi_squared():
    """log q/p of N(0, s²I) falls with |z|²: q < c p beyond a radius whose mass under p is known."""
    s, dims = 0.5, 2
    found = holes(normals(np.zeros((1, dims)), s), KEY, DRAWS, factors=(0.001, 0.1, 1.0))
    for below in found.below:
        # −½|z|²(1/s² − 1) − D log s < log c
        radius = -2 * (np.log(below.factor) + dims * np.log(s)) / (1 / s**2 - 1)
        wanted = stats.chi2(dims).sf(radius)
        assert abs(below.share - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / DRAWS)
        assert below.low < below.share < below.high
        low, high = stats.binomtest(round(below.share * DRAWS), DRAWS).proportion_ci(method="wilson")
        assert (below.low, below.high) == pytest.approx((low, high), abs=1e-6)


def test_the_mmd_is_that_of_two_normals():
    """Gaussian kernels of normals in closed form, with the median of |z − z'|² for |z − z'|²/2 ~ χ²."""
    s, dims = 0.5, 2
    found = holes(normals(np.zeros((1, dims)), s), KEY, DRAWS)
    widths = np.array(SCALES) * 2 * stats.chi2(dims).median()

    def mean_kernel(variance):
        return np.mean((widths / (widths + variance)) ** (dims / 2))

    wanted = mean_kernel(2 * s**2) + mean_kernel(2) - 2 * mean_kernel(1 + s**2)
    assert found.mmd.stderr < 0.1 * wanted
    assert_within(found.mmd, wanted)


def test_the_prior_itself_has_no_holes():
    found = holes(normals(np.zeros((7, 3)), 1.0), KEY, DRAWS)
    for value in (found.rate, found.forward.value, found.reverse.value, found.information.value):
        assert abs(value) < 1e-12
    assert all(below.share == 0 for below in found.below)
    assert all(0 < below.high < 0.002 for below in found.below)
    assert_within(found.mmd, 0.0)


def test_points_far_apart_say_all_that_they_can():
    """I_q(x; z) is log N, and KL(q(z) ‖ p(z)) what is left of the rate."""
    apart = np.array([[-1.5, 1.5], [1.5, 1.5], [-1.5, -1.5], [1.5, -1.5]])
    found = holes(normals(apart, 0.1), KEY, DRAWS)
    assert_within(found.information, np.log(4))
    assert found.information.value + found.forward.value == pytest.approx(found.rate)
    assert found.rate == pytest.approx(0.5 * (2 * 1.5**2 + 2 * (0.01 - 1 - np.log(0.01))), rel=1e-5)
    # Of the prior all but four small discs.
    assert found.below[0].share > 0.9


def test_draws_agree_with_the_grid():
    posterior = mixture()
    exact, found = quadrature(posterior), holes(posterior, KEY, DRAWS)
    assert_within(found.forward, exact.forward)
    assert_within(found.reverse, exact.reverse)
    for below, share in zip(found.below, exact.below, strict=True):
        assert 0.01 < share < 0.9
        assert abs(below.share - share) < 4 * np.sqrt(share * (1 - share) / DRAWS)
    finer = quadrature(posterior, cells=420)
    np.testing.assert_allclose(exact[:2], finer[:2], rtol=1e-4)
    np.testing.assert_allclose(exact.below, finer.below, atol=2e-3)


def test_the_grid_holds_both_densities():
    posterior = mixture()
    z, ratio = on_grid(posterior, 8.0, 200)
    p = stats.multivariate_normal(np.zeros(2)).pdf(z) * (16 / 200) ** 2
    assert p.sum() == pytest.approx(1, abs=1e-6)
    assert np.sum(p * np.exp(ratio)) == pytest.approx(1, abs=1e-6)


def test_the_density_is_that_of_scipy_in_blocks_too(monkeypatch):
    posterior, z = mixture(), np.random.default_rng(1).normal(size=(50, 2))
    pairs = zip(posterior.mean, posterior.log_std, strict=True)
    pdfs = [stats.multivariate_normal(m, np.diag(np.exp(2 * np.float64(s)))).pdf(z) for m, s in pairs]
    np.testing.assert_allclose(log_aggregate(posterior, z), np.log(np.mean(pdfs, axis=0)), rtol=1e-6)
    whole = log_aggregate(posterior, z)
    monkeypatch.setattr(measures, "BLOCK", 20)
    np.testing.assert_allclose(log_aggregate(posterior, z), whole, rtol=1e-12)


@pytest.mark.parametrize("gamma", [5.0, 10.0, 15.0])
def test_of_a_diffusion_models_z_1_hardly_anything_is_left(gamma):
    """The rate is the prior loss, ½ Σ (α² x² + σ² − 1 − log σ²), and bounds KL(q(z_1) ‖ p)."""
    x = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    posterior = diffused(jnp.asarray(x, jnp.float32), gamma)
    var = 1 / (1 + np.exp(-gamma))
    alpha_sq = 1 / (1 + np.exp(gamma))
    rate = 0.5 * np.mean(np.sum(alpha_sq * x**2 - alpha_sq - np.log1p(-alpha_sq), axis=1))
    found = holes(posterior, KEY, DRAWS)
    assert found.rate == pytest.approx(rate, rel=1e-4)
    # To second order in α², ½ Σ_d mean_i(α x_i)²: of the aggregate, whose mean is α x̄ and whose covariance σ² + α² C.
    mean, cov = np.sqrt(alpha_sq) * x.mean(axis=0), var * np.eye(2) + alpha_sq * np.cov(x.T, bias=True)
    normal = 0.5 * (np.trace(cov) + mean @ mean - 2 - np.linalg.slogdet(cov)[1])
    exact = quadrature(posterior)
    assert exact.forward == pytest.approx(normal, rel=0.02, abs=1e-12)
    assert 0 <= exact.forward <= rate * (1 + 1e-4)
    assert_within(found.forward, exact.forward)
    assert_within(found.reverse, exact.reverse)
    assert all(below.share == 0 for below in found.below)
    assert std_of(posterior) == pytest.approx(np.sqrt(var), rel=1e-6)


def std_of(posterior):
    return float(np.exp(posterior.log_std[0, 0]))


def test_posteriors_are_the_models_whatever_the_batch():
    model = vae(latents=2, width=4, depth=1, shape=(2, 3, 1), levels=17)
    variables = model.init(KEY)
    images = np.random.default_rng(0).integers(0, 17, (11, 2, 3, 1)).astype(np.uint8)
    wanted = model.posterior(variables, jnp.asarray(images))
    for batch in (4, 64):
        found = posteriors(model, variables, images, KEY, batch)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)


def test_from_the_bottom_up_each_image_has_noise_of_its_own_whatever_the_batch():
    """q(z_2|z_1) at z_1 ~ q(z_1|x): its mean over many equal images is that of p(z_2|x) where the encoder is exact."""
    model, num = lg.model(2, "bottom_up"), 4000
    variables = lg.variables(model, **lg.exact(2, "bottom_up"))
    images = np.repeat(np.asarray(lg.images(1, 2)), num, axis=0)
    found = posteriors(model, variables, images, KEY)
    matrix, covariance = lg.posterior(2)
    of_z_2 = slice(lg.LATENTS, None)
    wanted, variance = matrix[of_z_2] @ images[0], np.diag(covariance)[of_z_2]
    assert (np.abs(np.mean(found.mean, axis=0) - wanted) < 4 * np.sqrt(variance / num)).all()
    # The law of total variance.
    total = np.var(found.mean, axis=0) + np.exp(2 * found.log_std[0])
    np.testing.assert_allclose(total, variance, rtol=4 * np.sqrt(2 / num))
    in_parts = posteriors(model, variables, images[:11], KEY, batch=4)
    np.testing.assert_allclose(in_parts.mean, found.mean[:11], rtol=1e-5, atol=1e-6)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match=r"^num_draws=79: must be 80 or more"):
        holes(mixture(), KEY, 79)
    with pytest.raises(ValueError, match=r"^posterior has 3 latents: must be 2"):
        quadrature(normals(np.zeros((1, 3)), 1.0))


def test_a_record_is_of_plain_numbers():
    found = holes(mixture(), KEY, 100)
    record = found.to_dict()
    assert record["forward"] == {"value": found.forward.value, "stderr": found.forward.stderr}
    assert record["below"][0]["factor"] == 0.01
    assert "KL(q(z)‖p(z))" in str(found)
