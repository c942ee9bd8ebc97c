"""Denoisers of x given z and y against the exact ones, in closed form on Gaussians of any covariance and mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compiled
from oracle import EPS, alpha, sigma

from vdm import gaussian, inverse, operators, oracles, parts, posteriors, predictions, samplers
from vdm.inverse import Measurement
from vdm.operators import Operator

SIZE, BATCH = 6, 5
RNG = np.random.default_rng(0)
MEAN = 0.3 * RNG.normal(size=SIZE)
COVARIANCE = 0.4 * np.exp(-0.5 * ((np.arange(SIZE)[:, None] - np.arange(SIZE)) / 1.5) ** 2) + 0.02 * np.eye(SIZE)
DATA = posteriors.gaussian(MEAN, COVARIANCE)
WHITE = posteriors.gaussian(MEAN, 0.5 * np.eye(SIZE))
MIXTURE = posteriors.Mixture(
    np.array([0.4, 0.6]), np.stack([MEAN - 0.5, MEAN + 0.5]), np.stack([0.1 * COVARIANCE, 0.2 * COVARIANCE])
)
GAMMAS = (-6.0, -2.0, 1.0, 4.0)
Z = jnp.asarray(RNG.normal(size=(BATCH, SIZE)), jnp.float32)


def of_matrix(matrix: np.ndarray) -> Operator:
    values = jnp.asarray(matrix, jnp.float32)
    return Operator(lambda x: x @ values.T, (matrix.shape[1],), (matrix.shape[0],))


OPERATORS = {
    "mask": operators.mask(jnp.array([True, False, True, True, False, False])),
    "any": of_matrix(RNG.normal(size=(3, SIZE)) / 2),
    "means": of_matrix(np.kron(np.eye(3), np.full((1, 2), 0.5))),
}


def measured(name: str, std: float, data: posteriors.Mixture = DATA, batch: int = BATCH) -> Measurement:
    """Of draws of the data."""
    operator = OPERATORS[name]
    x = posteriors.oracle(data).sample(jax.random.key(1), batch)
    noise = jax.random.normal(jax.random.key(2), (batch, *operator.measured))
    return Measurement(operator, operators.measure(operator, x, noise, std), std)


def exact(data: posteriors.Mixture, measurement: Measurement, z: jax.Array, gamma: float) -> np.ndarray:
    """E[x|z, y] of each example in float64: z is one more measurement, of α x with noise σ."""
    a = posteriors.matrix(measurement.operator)
    size = a.shape[1]
    both, means = np.vstack([a, alpha(gamma) * np.eye(size)]), []
    for y, own in zip(measurement.y, z, strict=True):
        noise = np.concatenate([np.full(len(a), float(measurement.std)), np.full(size, sigma(gamma))])
        seen = np.concatenate([y.ravel(), own.ravel()]).astype(np.float64)
        means.append(posteriors.given(data, both, seen, noise).mean.reshape(own.shape))
    return np.stack(means)


def x_of(data: posteriors.Mixture):
    """E[x|z] without the division by α: an exact denoiser as a network of x is one, at γ = ∞ too."""
    linear = posteriors.oracle(data)

    def denoise(z: jax.Array, gamma: jax.Array) -> predictions.Prediction:
        (basis, variances), mean = _eigen(data), jnp.asarray(data.means[0], z.dtype)[None]
        at = gaussian.expand(jnp.asarray(gamma, z.dtype), z)
        a, s2 = gaussian.alpha(at), jax.nn.sigmoid(at)
        shrink = a * variances[None] / (a**2 * variances[None] + s2)
        x_hat = mean + (((z - a * mean) @ basis) * shrink) @ basis.T
        return predictions.Prediction(x_hat, linear.denoise(z, gamma))

    return denoise


def _eigen(data: posteriors.Mixture) -> tuple[jax.Array, jax.Array]:
    values, vectors = np.linalg.eigh(data.covariances[0])
    return jnp.asarray(vectors, jnp.float32), jnp.asarray(values, jnp.float32)


def error(found: predictions.Prediction, wanted: np.ndarray) -> float:
    return float(np.abs(np.asarray(found.x, np.float64) - wanted).max())


@pytest.mark.parametrize("std", [0.0, 0.1])
@pytest.mark.parametrize("name", OPERATORS)
def test_moment_matching_is_exact_for_gaussian_data(name, std):
    """As many steps as there are measured values; x and y are of size 1."""
    measurement = measured(name, std)
    led = jax.jit(inverse.moment_matching(x_of(DATA), measurement, iterations=4))
    for gamma in GAMMAS:
        found = led(Z, jnp.float32(gamma))
        # Rounding of y − A x̂, made larger by the condition of σ_y² I + A V Aᵀ: of V, eigenvalues up to 65 times apart.
        assert error(found, exact(DATA, measurement, Z, gamma)) < 300 * EPS
        again = alpha(gamma) * np.asarray(found.x) + sigma(gamma) * np.asarray(found.eps)
        np.testing.assert_allclose(again, Z, atol=20 * EPS)


@pytest.mark.parametrize("name", parts.names("operator"))
def test_moment_matching_is_exact_with_the_operators_of_the_library(name):
    """Of images whose neighbours are alike."""
    shape = (2, 2, 3) if name == "gray" else (4, 4, 1)
    operator = parts.make("operator", {"box": "box(2)", "blur": "blur(1)"}.get(name, name), shape=shape)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3)
    near = np.exp(-np.square(places[:, None] - places).sum(axis=2) / 4)
    data = posteriors.gaussian(np.zeros(shape), 0.3 * near + 0.02 * np.eye(len(near)))
    x, z = (posteriors.oracle(data).sample(jax.random.key(seed), 3) for seed in (0, 1))
    noise = jax.random.normal(jax.random.key(2), (3, *operator.measured))
    measurement = Measurement(operator, operators.measure(operator, x, noise, 0.2), 0.2)
    led = inverse.moment_matching(posteriors.oracle(data).denoise, measurement, iterations=12)
    # As many steps as there are eigenvalues that are not small beside the noise.
    assert error(jax.jit(led)(z, jnp.float32(0.0)), exact(data, measurement, z, 0.0)) < 2e-4


def test_moment_matching_of_a_network_of_noise_loses_digits_as_it_is_said():
    measurement = measured("any", 0.1)
    led = inverse.moment_matching(posteriors.oracle(DATA).denoise, measurement, iterations=4)
    for gamma in GAMMAS:
        tolerance = 300 * EPS / alpha(gamma) ** 2
        assert error(led(Z, jnp.float32(gamma)), exact(DATA, measurement, Z, gamma)) < tolerance


def test_one_step_is_not_enough_and_each_is_closer():
    measurement = measured("any", 0.1)
    wanted = exact(DATA, measurement, Z, 1.0)
    errors = [
        error(inverse.moment_matching(x_of(DATA), measurement, n)(Z, jnp.float32(1.0)), wanted) for n in (1, 2, 3)
    ]
    assert errors[0] > 0.01
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 300 * EPS


@pytest.mark.parametrize("std", [0.0, 0.1])
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("method", [inverse.pigdm, inverse.proximal])
def test_two_methods_are_exact_for_white_data_alone(method, name, std):
    white, other = measured(name, std, WHITE), measured(name, std, DATA)
    for gamma in GAMMAS:
        found = method(x_of(WHITE), white, prior_var=0.5)(Z, jnp.float32(gamma))
        assert error(found, exact(WHITE, white, Z, gamma)) < 300 * EPS
    found = method(x_of(DATA), other, prior_var=0.5)(Z, jnp.float32(1.0))
    assert error(found, exact(DATA, other, Z, 1.0)) > 0.01


def test_the_proximal_x_fits_what_is_measured_without_noise_and_needs_no_gradient():
    """Whatever the denoiser is, also one with no derivative to speak of; and from γ = ∞ on."""

    def wild(z, gamma):
        x = jnp.sign(jnp.sin(1000 * z))
        return predictions.Prediction(x, predictions.compose(x, z, gamma, "eps"))

    given = measured("means", 0.0)
    for gamma in (*GAMMAS, jnp.inf):
        found = inverse.proximal(wild, given)(Z, jnp.float32(gamma)).x
        np.testing.assert_allclose(given.operator.apply(found), given.y, atol=1e-5)
    with pytest.raises(ValueError, match="what the operator measures"):
        inverse.proximal(wild, given._replace(y=Z))


def test_dps_is_pigdm_where_the_residual_has_its_expected_length():
    """And A Aᵀ = I; otherwise it moves as far, whatever the residual's length."""
    operator, gamma, std = of_matrix(np.eye(SIZE)), 1.0, 0.2
    denoise = x_of(WHITE)
    x_hat = denoise(Z, jnp.float32(gamma)).x
    length = np.sqrt(SIZE * (std**2 + sigma(gamma) ** 2))
    residual = Z / jnp.linalg.norm(Z, axis=1, keepdims=True) * jnp.float32(length)
    # v = σ² of ΠGDM is that of a prior of variance 1.
    white = x_of(posteriors.gaussian(MEAN, np.eye(SIZE)))
    x_hat = white(Z, jnp.float32(gamma)).x
    one, other = (
        method(white, Measurement(operator, x_hat + residual, std))(Z, jnp.float32(gamma)).x
        for method in (inverse.dps, inverse.pigdm)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)
    long = inverse.dps(white, Measurement(operator, x_hat + 3 * residual, std))(Z, jnp.float32(gamma)).x
    np.testing.assert_allclose(long - x_hat, one - x_hat, atol=1e-5)
    half = inverse.dps(white, Measurement(operator, x_hat + residual, std), scale=0.5)(Z, jnp.float32(gamma)).x
    np.testing.assert_allclose(half - x_hat, 0.5 * (one - x_hat), atol=1e-5)
    # Values that a mask leaves out do not count as measured.
    few, y = jnp.arange(SIZE) < 4, x_hat + residual
    masked, picked = (
        inverse.dps(white, Measurement(*each, std))(Z, jnp.float32(gamma)).x
        for each in ((operators.mask(few), jnp.where(few[None], y, 0)), (of_matrix(np.eye(4, SIZE)), y[:, :4]))
    )
    np.testing.assert_allclose(masked, picked, atol=1e-5)
    none = inverse.dps(white, Measurement(operator, x_hat, std))(Z, jnp.float32(gamma))
    np.testing.assert_array_equal(none.x, x_hat)


def test_on_a_mixture_moment_matching_is_exact_in_the_limit_of_little_noise():
    """Where z says which component it is, V is its own covariance; where it does not, p(x|z) is no Gaussian."""
    measurement = measured("any", 0.1, MIXTURE)
    eps = jax.random.normal(jax.random.key(3), (BATCH, SIZE))
    denoise, x = posteriors.oracle(MIXTURE).denoise, posteriors.oracle(MIXTURE).sample(jax.random.key(1), BATCH)
    errors = {}
    for gamma in (-5.0, 2.0):
        z = gaussian.diffuse(x, eps, gamma)
        led = inverse.moment_matching(denoise, measurement, iterations=4)
        errors[gamma] = error(led(z, jnp.float32(gamma)), exact(MIXTURE, measurement, z, gamma))
    assert errors[-5.0] < 1e-4
    assert errors[2.0] > 0.02


@pytest.mark.parametrize("method", [inverse.dps, inverse.pigdm, inverse.moment_matching])
def test_at_zero_snr_it_is_asked_at_gamma_1(method):
    measurement = measured("any", 0.1)
    led, alone = method(x_of(DATA), measurement, gamma_1=6.0), method(x_of(DATA), measurement)
    found, near = led(Z, jnp.inf), led(Z, jnp.float32(6.0))
    np.testing.assert_array_equal(found.x, near.x)
    np.testing.assert_array_equal(found.eps, Z)
    np.testing.assert_array_equal(alone(Z, jnp.inf).x, x_of(DATA)(Z, jnp.inf).x)
    np.testing.assert_array_equal(alone(Z, jnp.inf).eps, Z)


def test_the_limit_of_all_noise_is_the_posterior_mean():
    measurement = measured("any", 0.1)
    led = inverse.moment_matching(x_of(DATA), measurement, iterations=4, gamma_1=14.0)
    mean = exact(DATA, measurement, 0 * Z, np.inf)
    # α₁ of what z, of size 3, would say of x.
    assert error(led(Z, jnp.inf), mean) < 3 * alpha(14.0) + 300 * EPS


@pytest.mark.parametrize("method", [inverse.dps, inverse.pigdm, inverse.moment_matching])
def test_examples_do_not_see_each_other_and_each_has_its_gamma(method):
    measurement, gamma = measured("any", 0.1), jnp.linspace(-4.0, 4.0, BATCH)
    together = method(x_of(DATA), measurement)(Z, gamma)
    for k in range(BATCH):
        alone = method(x_of(DATA), measurement._replace(y=measurement.y[k : k + 1]))(Z[k : k + 1], gamma[k])
        np.testing.assert_allclose(alone.x[0], together.x[k], atol=20 * EPS * 3)


def test_numbers_are_traced():
    measurement = measured("any", 0.1)

    @jax.jit
    def run(std, scale, var, gamma):
        given = measurement._replace(std=std)
        led = inverse.dps(x_of(DATA), given, scale), inverse.pigdm(x_of(DATA), given, var)
        return [each(Z, gamma).x for each in (*led, inverse.moment_matching(x_of(DATA), given))]

    for number in (0.0, 0.2):
        values = jnp.float32(number), jnp.float32(1 + number), jnp.float32(0.5 + number), jnp.float32(number)
        with compiled(run) as programs:
            found = run(*values)
        assert len(programs) == (number == 0)
        plain = inverse.pigdm(x_of(DATA), measurement._replace(std=number), 0.5 + number)(Z, jnp.float32(number)).x
        np.testing.assert_allclose(found[1], plain, atol=100 * EPS)


def test_calls_and_gradients_are_as_documented():
    counts = {"calls": 0, "gradients": 0}

    def count(name):
        counts[name] += 1

    @jax.custom_vjp
    def network(z):
        jax.debug.callback(count, "calls")
        return 0.5 * z

    def forward(z):
        return network(z), None

    def backward(_, slope):
        jax.debug.callback(count, "gradients")
        return (0.5 * slope,)

    network.defvjp(forward, backward)
    measurement = measured("any", 0.1)
    for method, gradients in (
        (inverse.dps, 1),
        (inverse.pigdm, 1),
        (lambda d, m: inverse.moment_matching(d, m, iterations=1), 1),
        (lambda d, m: inverse.moment_matching(d, m, iterations=3), 3),
    ):
        counts.update(calls=0, gradients=0)
        jax.block_until_ready(jax.jit(method(lambda z, gamma: network(z), measurement))(Z, jnp.float32(0.0)))
        jax.effects_barrier()
        assert counts == {"calls": 1, "gradients": gradients}
    # A system of three unknowns is solved in three steps; rounding may want a few more, but never all.
    counts.update(calls=0, gradients=0)
    solved = inverse.moment_matching(lambda z, gamma: network(z), measurement, iterations=100)
    jax.block_until_ready(jax.jit(solved)(Z, jnp.float32(0.0)))
    jax.effects_barrier()
    assert 3 <= counts["gradients"] <= 10


ONCE = np.random.default_rng(5).normal(size=(3, SIZE)) / 2


@pytest.mark.parametrize(
    ("rows", "tolerance"),
    # Rounding as it is elsewhere, and over the smallest eigenvalue that is kept.
    [(np.vstack([ONCE, ONCE, 2 * ONCE]), 40 * EPS), (np.random.default_rng(6).normal(size=(10, 3)) @ ONCE, 1e-3)],
)
def test_what_is_measured_again_without_noise_tells_nothing_new(rows, tolerance):
    """A V Aᵀ has no inverse, and rounding is in the directions that it lacks: many steps do not blow it up."""
    x, z = (posteriors.oracle(DATA).sample(jax.random.key(seed), 64) for seed in (1, 2))
    few, many = (Measurement(each, each.apply(x)) for each in map(of_matrix, (ONCE, rows)))
    for method in (inverse.pigdm, inverse.moment_matching):
        one, other = (jax.jit(method(x_of(DATA), each, iterations=100))(z, jnp.float32(-6.0)).x for each in (few, many))
        np.testing.assert_allclose(one, other, atol=tolerance)


def test_what_rounding_says_of_a_weak_direction_is_not_believed():
    """A residual of 1e-7 beside a y of 1, seen with a gain of 0.002: taken at its word, x would move by 5e-5 there."""
    operator, denoise = of_matrix(np.diag([1.0, 0.002])), x_of(posteriors.gaussian(np.zeros(2), np.eye(2)))
    for second, least, most in ((1e-7, 0.0, 1e-6), (1e-5, 4e-3, 6e-3)):
        measurement = Measurement(operator, jnp.array([[1.0, second]]))
        for method in (inverse.pigdm, inverse.moment_matching):
            moved = method(denoise, measurement, iterations=5)(jnp.zeros((1, 2)), jnp.float32(0.0)).x[0, 1]
            assert least <= moved < most


@pytest.mark.parametrize("std", [0.0, 0.1])
def test_a_jacobian_that_goes_uphill_changes_nothing_it_cannot(std):
    """−J: no curvature is above 0 without noise, so that x̂ stays; nothing is ever not finite."""
    measurement = measured("mask", std)
    found = inverse.moment_matching(lambda z, gamma: predictions.Prediction(-z, z), measurement)(Z, jnp.float32(0.0))
    assert np.all(np.isfinite(found.x))
    if not std:
        np.testing.assert_array_equal(found.x, -Z)


def test_a_measurement_that_is_met_already_changes_nothing():
    operator = OPERATORS["mask"]
    x_hat = x_of(DATA)(Z, jnp.float32(0.0)).x
    for method in (inverse.dps, inverse.pigdm, inverse.moment_matching):
        found = method(x_of(DATA), Measurement(operator, operator.apply(x_hat)))(Z, jnp.float32(0.0)).x
        np.testing.assert_allclose(found, x_hat, atol=50 * EPS)


@pytest.mark.parametrize("std", [0.1, 0.5])
def test_samples_by_moment_matching_have_the_posterior_mean_and_covariance(std):
    """z₀ is α₀ x + σ₀ ε of x ~ p(x|y). Heun's error at 60 steps is far below the standard errors, which are 1/64 of a
    standard deviation; in the axes of the exact covariance."""
    num, measurement = 4096, measured("any", std, batch=1)
    posterior = posteriors.given(DATA, posteriors.matrix(measurement.operator), np.asarray(measurement.y[0]), std)
    many = measurement._replace(y=jnp.repeat(measurement.y, num, axis=0))
    led = inverse.moment_matching(x_of(DATA), many, iterations=4)
    gammas = jnp.linspace(8.0, -6.0, 61)
    draw = jax.jit(lambda key: samplers.sample(key, led, samplers.heun(), gammas, (num, SIZE)))
    z = np.asarray(draw(jax.random.key(0)), np.float64)
    cov = alpha(-6.0) ** 2 * posterior.covariance + sigma(-6.0) ** 2 * np.eye(SIZE)
    white = np.linalg.solve(np.linalg.cholesky(cov), (z - alpha(-6.0) * posterior.mean).T).T
    assert np.all(np.abs(white.mean(axis=0)) < 4.5 / np.sqrt(num))
    products = np.einsum("ni,nj->nij", white, white)
    stderr = products.std(axis=0) / np.sqrt(num)
    assert np.all(np.abs(products.mean(axis=0) - np.eye(SIZE)) < 4.5 * stderr)


def test_results_are_refused_by_bounds():
    assert isinstance(inverse.dps(x_of(DATA), measured("any", 0.1)), predictions.Guided)


@pytest.mark.usefixtures("unannotated")
def test_what_does_not_fit_is_refused():
    measurement = measured("any", 0.1)
    denoise = oracles.gaussian(np.zeros(SIZE), np.ones(SIZE)).denoise
    with pytest.raises(ValueError, match=r"y has shape \(5, 2\): must be \(batch, \*\(3,\)\)"):
        inverse.dps(denoise, measurement._replace(y=jnp.ones((5, 2))))
    with pytest.raises(ValueError, match=r"z has shape \(4, 6\): must be \(5, 6\)"):
        inverse.dps(denoise, measurement)(Z[:4], 0.0)
    with pytest.raises(ValueError, match=r"z has shape \(4, 6\): must be \(5, 6\)"):
        inverse.proximal(denoise, measurement)(Z[:4], 0.0)
    for std in (-1.0, float("nan"), np.inf, "a"):
        with pytest.raises(ValueError, match=r"std=.*: must be a number from 0 to 1000"):
            inverse.pigdm(denoise, measurement._replace(std=std))
    with pytest.raises(ValueError, match=r"std has shape \(5,\): must be a scalar"):
        inverse.pigdm(denoise, measurement._replace(std=jnp.ones(5)))
    for method in (inverse.pigdm, inverse.moment_matching):
        with pytest.raises(ValueError, match=r"iterations=0: must be a whole number, 1 or more"):
            method(denoise, measurement, iterations=0)
