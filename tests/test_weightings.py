"""Weightings: formulas in float64, the objectives they come from, and the mixture of ELBOs of the monotone ones."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from oracle import EPS
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import expit

from vdm import oracles, parts, schedules, weightings

LAMBDAS = np.linspace(-20, 20, 4001).astype(np.float32)
RNG = np.random.default_rng(0)


def sech_half(lam):
    return 2 / (np.exp(lam / 2) + np.exp(-lam / 2))


def edm(lam, p_mean=-1.2, p_std=1.2, sigma_data=0.5):
    return stats.norm.pdf(lam, -2 * p_mean, 2 * p_std) * (np.exp(-lam) + sigma_data**2)


def edm_peak(*parameters):
    """The λ where `edm` is largest, found without its derivative."""
    return minimize_scalar(lambda lam: -edm(lam, *parameters), bounds=(-8, 2), method="bounded").x


def edm_monotonic(lam, *parameters):
    return edm(np.maximum(lam, edm_peak(*parameters)), *parameters)


# As `parse` reads them: (float64 formula, monotone).
FORMULAS = {
    "elbo": (np.ones_like, True),
    "simple": (sech_half, False),
    "sigmoid": (lambda lam: expit(2 - lam), True),
    "sigmoid(-3)": (lambda lam: expit(-3 - lam), True),
    "sigmoid(k=7.5)": (lambda lam: expit(7.5 - lam), True),
    "edm": (edm, False),
    "edm(-0.4, p_std=1.0)": (lambda lam: edm(lam, -0.4, 1.0), False),
    "edm_monotonic": (edm_monotonic, True),
    "edm_monotonic(-0.4, 1.0)": (lambda lam: edm_monotonic(lam, -0.4, 1.0), True),
    "min_snr": (lambda lam: sech_half(lam) * np.minimum(1, 5 * np.exp(-lam)), False),
    "min_snr(0.1)": (lambda lam: sech_half(lam) * np.minimum(1, 0.1 * np.exp(-lam)), False),
    "truncated_snr": (lambda lam: sech_half(lam) * np.maximum(1, np.exp(-lam)), True),
    "p2": (lambda lam: sech_half(lam) / (1 + np.exp(lam)), False),
    "p2(0.5)": (lambda lam: sech_half(lam) / np.sqrt(1 + np.exp(lam)), False),
    "p2(0)": (sech_half, False),
    "flow_matching": (lambda lam: np.exp(-lam / 2), True),
    "v_mse": (lambda lam: np.exp(-lam / 2), True),
}
MONOTONE = [name for name, (_, monotone) in FORMULAS.items() if monotone]
NOT_MONOTONE = [name for name in FORMULAS if name not in MONOTONE]


def weight64(name: str, lam) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(jax.jit(parts.make("weighting", name).weight)(oracle.f64(lam)))


@pytest.mark.parametrize("name", FORMULAS)
def test_weight_is_the_formula(name):
    formula, _ = FORMULAS[name]
    np.testing.assert_allclose(weight64(name, LAMBDAS), formula(oracle.f64(LAMBDAS)), rtol=1e-11)
    weight = parts.make("weighting", name).weight
    value = jax.jit(weight)(LAMBDAS)
    assert (value.dtype, value.shape) == (np.float32, LAMBDAS.shape)
    # exp(x) inherits EPS/2 · |x| from its argument: EDM(−0.4, 1) has |x| ≤ 54, rounded in about three places.
    np.testing.assert_allclose(value, formula(oracle.f64(LAMBDAS)), rtol=90 * EPS)
    assert weight(jnp.float32(0.5)).shape == ()
    slope = jax.jit(jax.grad(lambda lam: weight(lam).sum()))(LAMBDAS)
    assert np.all(np.isfinite(slope))


def test_every_weighting_is_here():
    assert {name.split("(")[0] for name in FORMULAS} == set(parts.names("weighting"))


@pytest.mark.parametrize("name", FORMULAS)
def test_monotone_is_said_of_those_that_never_rise(name):
    weight = weight64(name, np.linspace(-20, 20, 40_001))
    rise = np.diff(weight) / weight[1:]
    assert parts.make("weighting", name).monotone == FORMULAS[name][1]
    if FORMULAS[name][1]:
        assert rise.max() < 1e-14
    else:
        # Not by a rounding: somewhere it rises by a tenth of itself and more over a distance of 1 in λ.
        assert rise.max() > 1e-4


def test_edm_has_its_peak_where_the_table_says():
    lam = np.linspace(-20, 20, 400_001)
    peak = lam[weight64("edm", lam).argmax()]
    assert abs(peak + 3.3078) < 1e-4
    held = weight64("edm_monotonic", lam)
    np.testing.assert_allclose(held[lam < peak], weight64("edm", lam).max(), rtol=1e-9)
    np.testing.assert_array_equal(held[lam > peak + 1e-3], weight64("edm", lam)[lam > peak + 1e-3])


# The objectives as their papers state them: a process α(t), σ(t) with t uniform, and the loss of one draw as a function
# of true and estimated x and ε, α and σ; then the constant c of L_w = c E_t[loss].
COSINE = (lambda t: np.cos(np.pi * t / 2), lambda t: np.sin(np.pi * t / 2))
FLOW = (lambda t: 1 - t, lambda t: t)
EXPLODING = (np.ones_like, lambda t: np.exp(-1.2 + 1.2 * stats.norm.ppf(t)))


def square(difference):
    return np.sum(difference**2, axis=-1)


def f_prediction(x, x_hat, eps, alpha, sigma):
    """‖F − F̂‖² with D = c_skip z + c_out F, which EDM weights evenly."""
    c_skip, c_out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / np.sqrt(sigma**2 + 0.25)
    z = alpha[:, None] * x + sigma[:, None] * eps
    return square(((x - c_skip[:, None] * z) - (x_hat - c_skip[:, None] * z)) / c_out[:, None])


def velocity(x, eps, alpha, sigma):
    return alpha[:, None] * eps - sigma[:, None] * x


OBJECTIVES = {
    "simple": ("simple", COSINE, lambda x, x_, e, e_, a, s: square(e - e_), np.pi),
    "v_mse": (
        "v_mse",
        COSINE,
        lambda x, x_, e, e_, a, s: square(velocity(x, e, a, s) - velocity(x_, e_, a, s)),
        np.pi / 2,
    ),
    "flow_matching": ("flow_matching", FLOW, lambda x, x_, e, e_, a, s: square((e - x) - (e_ - x_)), 1.0),
    "min_snr": ("min_snr", COSINE, lambda x, x_, e, e_, a, s: np.minimum((a / s) ** 2, 5) * square(x - x_), np.pi),
    "truncated_snr": (
        "truncated_snr",
        COSINE,
        lambda x, x_, e, e_, a, s: np.maximum(square(x - x_), square(e - e_)),
        np.pi,
    ),
    "p2": ("p2(0.5)", COSINE, lambda x, x_, e, e_, a, s: square(e - e_) / (1 + (a / s) ** 2) ** 0.5, np.pi),
    "edm": (
        "edm",
        EXPLODING,
        lambda x, x_, e, e_, a, s: (s**2 + 0.5**2) / (s * 0.5) ** 2 * square(x - x_),
        0.5**2 / 2,
    ),
    "edm as F": ("edm", EXPLODING, lambda x, x_, e, e_, a, s: f_prediction(x, x_, e, a, s), 0.5**2 / 2),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weighting_is_that_of_its_objective(name):
    """½ w(λ) (−dλ/dt) ‖ε − ε̂‖² = c · loss at every t, with dλ/dt by finite differences."""
    weighting, (alpha, sigma), loss, constant = OBJECTIVES[name]
    t = np.linspace(0.01, 0.99, 197)
    a, s = alpha(t), sigma(t)
    x, eps, eps_hat = RNG.normal(size=(3, t.size, 5))
    # The same z from both pairs.
    x_hat = x + (s / a)[:, None] * (eps - eps_hat)
    slope = -oracle.central_difference(lambda t: 2 * np.log(alpha(t) / sigma(t)), t)
    ours = 0.5 * weight64(weighting, 2 * np.log(a / s)) * slope * square(eps - eps_hat)
    np.testing.assert_allclose(ours, constant * loss(x, x_hat, eps, eps_hat, a, s), rtol=1e-6)


@pytest.mark.parametrize("k", [-3.0, 7.5])
def test_sigmoid_in_x_form_is_multiplied_by_snr(k):
    """½ ∫ sigmoid(k − λ) ‖ε − ε̂‖² dλ = ½ ∫ SNR sigmoid(k − λ) ‖x − x̂‖² dλ, and not the same w on ‖x − x̂‖²."""
    lam = np.linspace(-20, 20, 401)
    eps_error = RNG.uniform(0.1, 1, lam.shape)
    x_error, snr = eps_error * oracle.sigma(-lam) ** 2 / oracle.alpha(-lam) ** 2, np.exp(lam)
    weight = weight64(f"sigmoid({k})", lam)
    np.testing.assert_allclose(weight * eps_error, snr * weight * x_error, rtol=1e-9)
    # In dSNR = SNR dλ the weight on ‖x − x̂‖² is that on ‖ε − ε̂‖² in dλ: σ²/(σ² + e^{−k} α²) of 1/SNR = σ²/α².
    np.testing.assert_allclose(weight, 1 / (1 + snr * np.exp(-k)), rtol=1e-11)


def test_simple_gives_even_times_on_the_packages_cosine_schedule():
    """Cut at its end points too: w(λ_t) (−dλ/dt) does not depend on t."""
    t = jnp.asarray(np.linspace(0, 1, 101), jnp.float32)
    gamma, slope = jax.jit(partial(schedules.gamma_and_slope, schedules.cosine(-13.3, 5.0), {}))(t)
    even = weightings.simple().weight(-gamma) * slope
    np.testing.assert_allclose(even, even[0], rtol=3e-5)
    # A little below 2π, for the end points take a little of the quarter circle away.
    cut = 2 / np.pi * (np.arctan(np.exp(2.5)) - np.arctan(np.exp(-13.3 / 2)))
    np.testing.assert_allclose(even[0], 2 * np.pi * cut, rtol=3e-5)


# Eq. 4.161 on a closed-form mixture: Gauss–Legendre quadrature in λ, panels ending where a weighting has a kink.
LOW, HIGH = -11.0, 9.0
EDGES = np.sort(np.concatenate([np.linspace(LOW, HIGH, 41), [edm_peak(), edm_peak(-0.4, 1.0)]]))
NODES, SHARES = np.polynomial.legendre.leggauss(10)
HALF = np.diff(EDGES)[:, None] / 2
PANELS = (EDGES[:-1] + EDGES[1:])[:, None] / 2 + HALF * NODES
SHARES = HALF * SHARES
LINE = oracles.mixture([0.3, 0.7], [[-0.6], [0.5]], [0.1, 0.3])


@pytest.fixture(scope="module")
def line():
    """E Var(ε|z_λ) and E[−log p(z_λ)] − H(q(z_λ|x)) of the mixture, by the trapezoidal rule in z.

    Two arrays, each of the values at `PANELS`, then at the two ends.
    """
    z = np.linspace(-9, 9, 1801)

    @jax.jit
    def moments(lam):
        log_density = LINE.log_marginal(jnp.asarray(z)[:, None], -lam)
        share = jnp.exp(log_density) * (z[1] - z[0])
        eps_hat = LINE.denoise(jnp.asarray(z)[:, None], -lam)[:, 0]
        # E(ε − ε̂)² = 1 − E ε̂², and q(z|x) = N(αx, σ²) has the same entropy for every x.
        entropy = 0.5 * jnp.log(2 * np.pi * np.e * jax.nn.sigmoid(-lam))
        return 1 - jnp.sum(share * jnp.square(eps_hat)), -jnp.sum(share * log_density) - entropy

    with jax.enable_x64(True):
        return [np.asarray(v) for v in jax.lax.map(moments, np.array([*PANELS.ravel(), LOW, HIGH]))]


@cache
def mixture64(name):
    """(total, atom, density on PANELS, cdf at EDGES) in float64."""
    with jax.enable_x64(True):
        mixture = weightings.elbo_mixture(parts.make("weighting", name), LOW, HIGH)
        found = mixture.total, mixture.atom, jax.jit(mixture.density)(PANELS), jax.jit(mixture.cdf)(EDGES)
    return [np.asarray(value) for value in found]


@pytest.mark.parametrize("name", MONOTONE)
def test_the_weighted_loss_is_the_expected_elbo_of_the_mixture(name, line):
    """½ ∫ w Var(ε|z_λ) dλ = total · E[−ELBO(z_λ) − H(q(z_λ|x))] − the same at λ_min, Eq. 4.161.

    The right side has no denoising error in it: the ELBO of the exact model is log p(z_λ).
    """
    variance, minus_elbo = (values[:-2].reshape(PANELS.shape) for values in line)
    at_min, at_max = line[1][-2:]
    total, atom, density, _ = mixture64(name)
    loss = 0.5 * np.sum(SHARES * weight64(name, PANELS) * variance)
    expected = atom * at_max + np.sum(SHARES * density * minus_elbo) - at_min
    np.testing.assert_allclose(loss, total * expected, rtol=1e-8)


@pytest.mark.parametrize("name", MONOTONE)
def test_the_mixture_is_a_distribution(name):
    total, atom, density, cdf = mixture64(name)
    assert np.all(density >= 0)
    masses = np.sum(SHARES * density, axis=1)
    np.testing.assert_allclose(atom + masses.sum(), 1, rtol=1e-10)
    np.testing.assert_allclose(cdf[:-1], np.cumsum([0, *masses[:-1]]), rtol=0, atol=1e-10)
    assert cdf[-1] == 1
    np.testing.assert_allclose(total, weight64(name, LOW))
    np.testing.assert_allclose(atom, weight64(name, HIGH) / weight64(name, LOW))


@pytest.mark.parametrize("name", MONOTONE)
def test_the_mixture_in_float32_and_beyond_its_ends(name):
    mixture = weightings.elbo_mixture(parts.make("weighting", name), LOW, HIGH)
    lam = jnp.array([-20.0, LOW, -4.0, 0.5, 3.0, HIGH, 20.0])
    total, atom, *_ = mixture64(name)
    np.testing.assert_allclose([mixture.total, mixture.atom], [total, atom], rtol=90 * EPS)
    density, cdf = jax.jit(mixture.density)(lam), jax.jit(mixture.cdf)(lam)
    assert density.dtype == cdf.dtype == np.float32
    np.testing.assert_array_equal(density[np.array([0, 6])], 0)
    np.testing.assert_array_equal(cdf[np.array([0, 1])], 0)
    np.testing.assert_array_equal(cdf[np.array([5, 6])], 1)
    formula = FORMULAS[name][0]
    inside = oracle.f64(lam[1:5])
    np.testing.assert_allclose(cdf[1:5], 1 - formula(inside) / formula(np.array([LOW])), rtol=0, atol=20 * EPS)
    expected = -oracle.central_difference(formula, inside[1:]) / formula(np.array([LOW]))
    # Where w is all but flat near 1, so is its rounding: both are accurate to roundings of 1.
    np.testing.assert_allclose(density[2:5], expected, rtol=20 * EPS, atol=2 * EPS)


def test_the_elbo_is_a_mixture_of_one():
    total, atom, density, cdf = mixture64("elbo")
    assert (total, atom) == (1, 1)
    np.testing.assert_array_equal(density, 0)
    np.testing.assert_array_equal(cdf, EDGES == HIGH)


@pytest.mark.parametrize("name", ["sigmoid", "v_mse"])
def test_the_density_in_time_integrates_to_one_less_the_atom(name):
    """p_w(t) = density(λ_t) (−dλ/dt), Eq. 4.150, on any schedule between the same ends."""
    t = (jnp.arange(20_000, dtype=jnp.float32) + 0.5) / 20_000
    gamma, slope = jax.jit(partial(schedules.gamma_and_slope, schedules.cosine(-HIGH, -LOW), {}))(t)
    mixture = weightings.elbo_mixture(parts.make("weighting", name), LOW, HIGH)
    p_w = jax.jit(mixture.density)(-gamma) * slope
    np.testing.assert_allclose(np.mean(p_w), 1 - mixture.atom, rtol=1e-4)


@pytest.mark.parametrize("name", NOT_MONOTONE)
def test_no_mixture_of_a_weighting_that_rises(name):
    with pytest.raises(ValueError, match=r"weighting=\w+.*: must be monotone .* maximize the loss"):
        weightings.elbo_mixture(parts.make("weighting", name), LOW, HIGH)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, -2.0), (-np.inf, 0.0), (0.0, np.inf), (np.nan, 1.0)])
def test_no_mixture_without_a_range(low, high):
    with pytest.raises(ValueError, match="lambda_min"):
        weightings.elbo_mixture(weightings.elbo(), low, high)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_name_reads_back(name):
    weighting = parts.make("weighting", name)
    again = parts.make("weighting", weighting.name)
    assert (again.name, again.monotone) == (weighting.name, weighting.monotone)
    assert again.weight(jnp.float32(1.5)) == weighting.weight(jnp.float32(1.5))


@pytest.mark.parametrize("text", ["vlb", "", "Sigmoid", "sigmoid.k(2)", "parse", "3"])
def test_unknown_names_are_refused_with_the_valid_ones(text):
    with pytest.raises(ValueError, match="weighting=") as error:
        parts.make("weighting", text)
    if text:
        assert ", ".join(parts.names("weighting")) in str(error.value)


@pytest.mark.parametrize("text", ["sigmoid(", "sigmoid(**2)", "a b", "min_snr(2 * 3)"])
def test_what_is_no_name_with_numbers_is_refused(text):
    with pytest.raises(ValueError, match="must be a name"):
        parts.make("weighting", text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sigmoid(1, 2)", r"sigmoid\(k=2.0\)"),
        ("elbo(1)", r"elbo\(\)"),
        ("sigmoid(k)", r"k='k': must be a number; usage: sigmoid\(k=2.0\)"),
        ("sigmoid(True)", "k=True: must be a number"),
        ("sigmoid(None)", "k=None: must be a number"),
        ("min_snr([5])", r"gamma=\[5\]: must be a number"),
        ("min_snr(k=5)", r"min_snr\(gamma=5.0\)"),
        ("min_snr(0)", "gamma=0.0: must be above 0"),
        ("p2(-1)", "gamma=-1.0: must be 0 or more"),
        ("edm(1e999)", "p_mean=inf: must be finite"),
        ("sigmoid(1e999)", "k=inf: must be finite"),
        ("edm(-1.2, 0)", "p_std=0.0: must be above 0"),
        ("edm_monotonic(sigma_data=-1)", "sigma_data=-1.0: must be above 0"),
        ("edm_monotonic(-4, 2)", "has 2 peaks"),
    ],
)
def test_wrong_parameters_are_refused_with_the_right_ones(text, says):
    with pytest.raises(ValueError, match=says):
        parts.make("weighting", text)
