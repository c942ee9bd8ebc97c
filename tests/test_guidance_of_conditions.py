"""Guidance by conditions and classifiers, against exact mixtures of Gaussians and its definitions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle as f64
import pytest
from scipy.integrate import solve_ivp

from vdm import bounds, gaussian, guidance, oracles, predictions, probability_flow, samplers
from vdm.predictions import Prediction

WEIGHTS, STDS = np.array([0.5, 0.2, 0.3]), np.array([0.2, 0.4, 0.6])
MEANS = np.array([[-0.6, 0.1], [0.5, 0.3], [0.1, -0.8]])
ORACLE = oracles.mixture(WEIGHTS, MEANS, STDS)
GAMMAS = np.array([-12.0, -4.0, -1.0, 0.0, 2.0, 7.0, 14.0])
Z = np.random.default_rng(0).normal(size=(len(GAMMAS), 2))
Z32, GAMMAS32 = jnp.asarray(Z, jnp.float32), jnp.asarray(GAMMAS, jnp.float32)
KEY = jax.random.key(0)
CONDITIONAL, UNCONDITIONAL = ORACLE.denoise_component(1), ORACLE.denoise


def component(k):
    """Data of that component alone, by itself."""
    return oracles.gaussian(MEANS[k], np.full(2, STDS[k] ** 2))


def log_prob(k):
    return lambda z, gamma: ORACLE.log_posterior(z, gamma)[:, k]


def images(seed=1, shape=(7, 3, 5)):
    """Answers of two denoisers that are no mixtures: x̂ of any size, and ε̂ that fits z."""
    x = np.random.default_rng(seed).normal(size=shape)
    z = np.random.default_rng(0).normal(size=shape)
    gamma = GAMMAS[: shape[0]].reshape(-1, *(1,) * (len(shape) - 1))
    return x, z, (z - f64.alpha(gamma) * x) / f64.sigma(gamma)


def answering(x):
    """A denoiser of this x̂."""

    def denoise(z, gamma):
        gamma = gaussian.expand(gamma, z)
        return Prediction(jnp.asarray(x, z.dtype), (z - gaussian.alpha(gamma) * x) / gaussian.sigma(gamma))

    return denoise


def test_by_the_exact_classifier_it_is_the_components_denoiser():
    """At every γ; Bayes' rule: log p(z|c) = log p(z) + log p(c|z) + const. In float64 to its last digits."""

    @jax.jit
    def both(z, gamma):
        found = [guidance.classifier(ORACLE.denoise, log_prob(k), 1.0)(z, gamma) for k in range(3)]
        own = [predictions.both(ORACLE.denoise_component(k))(z, gamma) for k in range(3)]
        return found, own, [predictions.both(component(k).denoise)(z, gamma) for k in range(3)]

    with jax.enable_x64(True):
        for gamma in (GAMMAS, *GAMMAS):
            # x̂ of ε̂ is off by rounding/α, with α = 1e-3 at γ = 14; at γ = −12 densities are narrow.
            for k, (found, own, exact) in enumerate(zip(*both(jnp.asarray(Z), jnp.asarray(gamma)), strict=True)):
                for name in ("x", "eps"):
                    wanted, what = getattr(exact, name), f"{name} of {k}"
                    np.testing.assert_allclose(getattr(found, name), wanted, rtol=1e-9, atol=1e-10, err_msg=what)
                    np.testing.assert_allclose(getattr(own, name), wanted, rtol=1e-9, atol=1e-10, err_msg=what)


def test_the_posterior_is_bayes_rule():
    with jax.enable_x64(True):
        z, gamma = jnp.asarray(Z), jnp.asarray(GAMMAS)
        joint = np.stack([np.log(w) + component(k).log_marginal(z, gamma) for k, w in enumerate(WEIGHTS)], axis=1)
        expected = joint - np.asarray(ORACLE.log_marginal(z, gamma))[:, None]
        np.testing.assert_allclose(ORACLE.log_posterior(z, gamma), expected, atol=1e-12)
    with pytest.raises(ValueError, match="k=3: must be from 0 to 2"):
        ORACLE.denoise_component(3)


def test_a_classifier_from_pure_noise():
    """At γ = ∞ the gradient is asked at γ₁; x̂ is then that of the component but for O(α₁), ε̂ is z as it must be."""

    def denoise(z, gamma):
        return Prediction(jnp.broadcast_to(jnp.asarray(WEIGHTS @ MEANS, z.dtype), z.shape), z)

    errors = []
    for gamma_1 in (8.0, 10.0):
        x_hat, eps_hat = guidance.classifier(denoise, log_prob(0), 1.0, gamma_1)(Z32, jnp.inf)
        np.testing.assert_array_equal(eps_hat, Z32)
        errors.append(np.abs(np.asarray(x_hat) - MEANS[0]).max())
    assert errors[0] < 0.1
    assert errors[1] / errors[0] == pytest.approx(np.exp(-1), rel=0.1)  # α₁ falls by e
    plain = guidance.classifier(denoise, log_prob(0), 1.0)(Z32, jnp.inf)
    np.testing.assert_array_equal(plain.x, denoise(Z32, jnp.inf).x)


@pytest.mark.parametrize("scale", [-0.5, 0.7, 3.0])
def test_it_is_the_gradient_of_the_mixed_log_density(scale):
    """ε̂ = −σ ∇ [(1 + w) log p(z|c) − w log p(z)], differentiated in float64."""
    with jax.enable_x64(True):
        z, gamma = jnp.asarray(Z), jnp.asarray(GAMMAS)

        @jax.jit
        def log_density(z):
            given, any_ = component(1).log_marginal(z, gamma), ORACLE.log_marginal(z, gamma)
            return jnp.sum((1 + scale) * given - scale * any_)

        expected = -f64.sigma(GAMMAS)[:, None] * np.asarray(jax.grad(log_density)(z))
        guided = guidance.classifier_free(CONDITIONAL, UNCONDITIONAL, scale)
        np.testing.assert_allclose(guided(z, gamma).eps, expected, rtol=1e-9, atol=1e-11)
    # In float32 the difference of two ε̂ is off by their last digits.
    np.testing.assert_allclose(guided(Z32, GAMMAS32).eps, expected, rtol=2e-4, atol=2e-4)


def test_its_ends_are_the_two_denoisers_to_the_bit():
    one, other = (predictions.both(each)(Z32, GAMMAS32) for each in (CONDITIONAL, UNCONDITIONAL))
    guided = jax.jit(lambda scale: guidance.classifier_free(lambda *_: one, lambda *_: other, scale)(Z32, GAMMAS32))
    for scale, expected in ((0.0, one), (-1.0, other)):
        for found, wanted in zip(guided(jnp.float32(scale)), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


FAMILY = {
    "classifier_free": lambda scale: guidance.classifier_free(CONDITIONAL, UNCONDITIONAL, scale),
    "rescaled": lambda scale: guidance.guided(
        guidance.apart(CONDITIONAL, UNCONDITIONAL), guidance.rescaled(guidance.linear(scale), 0.7)
    ),
    "autoguidance": lambda scale: guidance.autoguidance(CONDITIONAL, ORACLE.denoise_component(2), scale),
    "projected": lambda scale: guidance.adaptive_projected(CONDITIONAL, UNCONDITIONAL, scale, 0.3, 0.1),
    "classifier": lambda scale: guidance.classifier(CONDITIONAL, log_prob(1), scale),
    "interval": lambda scale: guidance.interval(
        guidance.classifier_free(CONDITIONAL, UNCONDITIONAL, scale), CONDITIONAL, -3.0, 3.0
    ),
}


@pytest.mark.parametrize("name", FAMILY)
def test_at_no_scale_all_are_the_conditional_one(name):
    """To the bit, operation by operation: a compiler may round the two programs otherwise."""
    found = FAMILY[name](0.0)(Z32, GAMMAS32)
    for one, other in zip(found, predictions.both(CONDITIONAL)(Z32, GAMMAS32), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_does_nothing_costs_no_bit():
    """No rescaling, and an interval without ends: the same as without them."""
    pair = guidance.apart(CONDITIONAL, UNCONDITIONAL)
    guided = guidance.guided(pair, guidance.rescaled(guidance.linear(2.0), 0.0))
    limited = guidance.interval(guided, CONDITIONAL, -np.inf, np.inf)
    for one, other in zip(limited(Z32, GAMMAS32), FAMILY["classifier_free"](2.0)(Z32, GAMMAS32), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", FAMILY)
def test_what_they_answer_fits_z_and_is_refused_by_the_bound(name):
    guided = FAMILY[name](2.0)
    x_hat, eps_hat = jax.jit(guided)(Z32, GAMMAS32)
    gamma = gaussian.expand(GAMMAS32, Z32)
    assert np.abs(eps_hat - CONDITIONAL(Z32, GAMMAS32)).max() > 1e-3
    # α x̂ is at most 8 here, and x̂ of ε̂ off by rounding/α.
    np.testing.assert_allclose(gaussian.alpha(gamma) * x_hat + gaussian.sigma(gamma) * eps_hat, Z32, atol=2e-5)
    arguments = (lambda t: 10 * t - 5, Z32, jnp.linspace(0.1, 0.9, 7), Z32)
    mixed = guidance.combine([CONDITIONAL, guided], [0.5, 0.5])
    for refused in (guided, predictions.both(guided), guidance.static_clipping()(CONDITIONAL), mixed):
        with pytest.raises(ValueError, match=r"^denoise: is guided or clipped, so the bound would"):
            bounds.continuous_diffusion_loss(refused, *arguments)


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_rescaling_is_its_definition(scale):
    """Lin et al. 2024, Eq. 15–16, on x̂: x' = x std(x_c)/std(x), φ x' + (1 − φ) x."""
    share = 0.7
    (one, z, _), (other, _, _) = images(1), images(2)
    with jax.enable_x64(True):
        pair = guidance.apart(answering(one), answering(other))
        guided = guidance.guided(pair, guidance.rescaled(guidance.linear(scale), share))
        x_hat, eps_hat = guided(jnp.asarray(z), jnp.asarray(GAMMAS))
    mixed = one + scale * (one - other)
    std = [values.reshape(len(values), -1).std(axis=1)[:, None, None] for values in (one, mixed)]
    expected = share * mixed * std[0] / std[1] + (1 - share) * mixed
    gamma = GAMMAS[:, None, None]
    np.testing.assert_allclose(x_hat, expected, rtol=1e-12, atol=1e-13)
    # At γ = −12 ε̂ is a difference of x̂ times 400.
    np.testing.assert_allclose(eps_hat, (z - f64.alpha(gamma) * expected) / f64.sigma(gamma), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("eta", "norm"), [(0.0, np.inf), (0.3, 2.0), (1.0, np.inf), (-0.5, 0.0)])
def test_projection_is_its_definition(eta, norm):
    """Sadat et al. 2024, Alg. 1: Δ cut to the norm, and split along x̂_c, image by image."""
    (one, z, _), (other, _, _) = images(1), images(2)
    scale, expected = 3.0, np.empty_like(one)
    for k in range(len(one)):
        difference, direction = (one - other)[k].ravel(), one[k].ravel() / np.linalg.norm(one[k])
        difference = difference * min(1.0, norm / np.linalg.norm(difference))
        parallel = (difference @ direction) * direction
        expected[k] = one[k] + scale * (difference - parallel + eta * parallel).reshape(one[k].shape)
    with jax.enable_x64(True):
        guided = guidance.adaptive_projected(answering(one), answering(other), scale, eta, norm)
        x_hat, _ = guided(jnp.asarray(z), jnp.asarray(GAMMAS))
        plain, _ = guidance.classifier_free(answering(one), answering(other), scale)(
            jnp.asarray(z), jnp.asarray(GAMMAS)
        )
    np.testing.assert_allclose(x_hat, expected, rtol=1e-12, atol=1e-12)
    assert np.allclose(plain, expected) is (eta == 1.0)


def test_an_interval_switches_where_asked_and_only_calls_what_it_needs():
    """Both ends belong to it; a NaN does not. By γ of (batch,), and by a scalar in a sampler."""
    low, high = np.float32(-2.0), np.float32(3.0)
    inside, outside = (lambda z, gamma: 2 * z), (lambda z, gamma: 3 * z)
    limited = jax.jit(lambda z, gamma, low, high: guidance.interval(inside, outside, low, high)(z, gamma).eps)
    gammas = np.array([-np.inf, np.nextafter(low, -9), low, 0, high, np.nextafter(high, 9), np.inf], np.float32)
    expected = np.array([3, 3, 2, 2, 2, 3, 3], np.float32)
    np.testing.assert_array_equal(limited(jnp.ones((7, 1)), gammas, low, high)[:, 0], expected)
    for gamma, factor in zip(gammas, expected, strict=True):
        assert limited(jnp.ones((1, 1)), gamma, low, high).item() == factor
    assert limited(jnp.ones((1, 1)), jnp.inf, -np.inf, np.inf).item() == 2

    called = []

    def counted(name, denoise):
        def call(z, gamma):
            jax.debug.callback(lambda gamma: called.append((name, float(gamma))), gamma)
            return denoise(z, gamma)

        return call

    grid = jnp.arange(6.0, -7.0, -1.0)
    both = guidance.classifier_free(counted("c", CONDITIONAL), counted("u", UNCONDITIONAL), 1.0)
    limited = guidance.interval(both, counted("c", CONDITIONAL), -2.0, 3.0)
    jax.jit(lambda key: samplers.sample(key, limited, samplers.ddim(), grid, (2, 2)))(jax.random.key(0))
    jax.effects_barrier()
    assert sorted(gamma for name, gamma in called if name == "c") == sorted(grid[:-1].tolist())
    assert sorted(gamma for name, gamma in called if name == "u") == [-2, -1, 0, 1, 2, 3]


def test_one_call_of_twice_the_batch_is_two_calls():
    """Rows 2k and 2k + 1 are of image k; γ scalar or one an image."""
    shifts = np.arange(7, dtype=np.float32)[:, None]
    interleaved = guidance.interleaved({"shift": shifts}, {"shift": -10 * shifts})["shift"]
    np.testing.assert_array_equal(interleaved[:4, 0], [0, 0, 1, -10])

    def denoiser(shift):
        return lambda z, gamma: z + shift * gaussian.expand(gamma, z)

    for gamma in (jnp.float32(0.5), GAMMAS32):
        one = guidance.together(denoiser(interleaved))(Z32, gamma)
        two = guidance.apart(denoiser(shifts), denoiser(-10 * shifts))(Z32, gamma)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            np.testing.assert_array_equal(a, b)


LOW, HIGH = -5.0, 5.0


def guided_gaussian(scale):
    """One Gaussian class led away from another, in one dimension; and z₀ of its ODE from z₁, in float64."""
    means, variances = (0.4, -0.3), (0.09, 0.25)
    one, other = (oracles.gaussian([m], [v]).denoise for m, v in zip(means, variances, strict=True))

    def field(gamma, z):
        """dz/dγ = ½ α σ (α ε − σ x)."""
        alpha, sigma = f64.alpha(gamma), f64.sigma(gamma)
        e = [sigma * (z - alpha * m) / (alpha**2 * v + sigma**2) for m, v in zip(means, variances, strict=True)]
        eps = (1 + scale) * e[0] - scale * e[1]
        return 0.5 * alpha * sigma * (alpha * eps - sigma * (z - sigma * eps) / alpha)

    def exact(z_1):
        return solve_ivp(field, (HIGH, LOW), z_1, rtol=1e-10, atol=1e-12).y[:, -1]

    return guidance.classifier_free(one, other, scale), exact


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("heun", 2)])
def test_samplers_converge_to_the_ode_of_the_guided_field(name, order):
    guided, exact = guided_gaussian(1.5)
    z_1 = np.linspace(-2, 2, 9)
    errors = []
    for num_steps in (40, 80):
        with jax.enable_x64(True):
            gammas = jnp.asarray(np.linspace(HIGH, LOW, num_steps + 1))
            sampler = getattr(samplers, name)()
            run = jax.jit(lambda z, gammas, of=sampler: samplers.sample_from(KEY, guided, of, gammas, z))
            z_0 = run(jnp.asarray(z_1)[:, None], gammas)
        errors.append(np.abs(np.asarray(z_0)[:, 0] - exact(z_1)).max())
    assert errors[-1] < 0.02
    ratios = np.divide(errors[:-1], errors[1:])
    np.testing.assert_allclose(ratios, 2**order, rtol=0.1)


def test_the_adaptive_solver_follows_the_guided_field():
    guided, exact = guided_gaussian(1.5)
    z_1 = np.linspace(-2, 2, 9)
    solution = probability_flow.sample(guided, jnp.asarray(z_1, jnp.float32)[:, None], HIGH, LOW, tolerance=1e-6)
    np.testing.assert_allclose(solution.z[:, 0], exact(z_1), atol=2e-5)
    limited = guidance.interval(guided, CONDITIONAL, -np.inf, np.inf)
    assert isinstance(predictions.both(limited), predictions.Guided)


def test_what_is_no_scalar_is_refused():
    for name, make in {
        "scale": lambda value: guidance.classifier_free(CONDITIONAL, UNCONDITIONAL, value),
        "eta": lambda value: guidance.adaptive_projected(CONDITIONAL, UNCONDITIONAL, 1.0, value),
        "norm": lambda value: guidance.adaptive_projected(CONDITIONAL, UNCONDITIONAL, 1.0, 0.0, value),
    }.items():
        with pytest.raises(ValueError, match=rf"{name} has shape \(7,\): must be a scalar"):
            make(jnp.ones(7))(Z32, GAMMAS32)
