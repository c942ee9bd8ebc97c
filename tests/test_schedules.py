"""Schedules: end points, monotonicity and slopes, against float64 formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from oracle import EPS
from scipy.optimize import brentq
from scipy.special import expit, softmax

from vdm import schedules

MIN, MAX = -13.3, 5.0
HIDDEN = 6
SCHEDULES = {
    "linear": schedules.linear(MIN, MAX),
    "cosine": schedules.cosine(MIN, MAX),
    "shifted_cosine": schedules.shifted_cosine(MIN, MAX, shift=-2 * np.log(2)),
    "beta_linear": schedules.beta_linear(MIN, MAX),
    "learned_linear": schedules.learned_linear(MIN, MAX),
    "learned_monotone": schedules.learned_monotone(MIN, MAX, hidden=HIDDEN),
}
FIXED = ("linear", "cosine", "shifted_cosine", "beta_linear")
LEARNED = ("learned_linear", "learned_monotone")
TIMES = jnp.asarray(np.linspace(0, 1, 101), jnp.float32)
# γ is at most 13.3 in size, so one float32 rounding of it is 13.3·EPS/2; interpolation makes a few of them.
GAMMA_ATOL = 4 * 13.3 * EPS

# No explanations of failures: Hypothesis would trace every line of JAX for them, for minutes.
PHASES = (Phase.generate, Phase.shrink)

monotone = SCHEDULES["learned_monotone"]
gamma_and_slope = {name: jax.jit(partial(schedules.gamma_and_slope, s)) for name, s in SCHEDULES.items()}


def softplus(x):
    return np.logaddexp(oracle.f64(x), 0)


def monotone_gamma(params, t):
    """De Sousa Ribeiro & Glocker (2024) §A.2 normalised, in float64: γ(0) (1 − h) + γ(1) h with h = n(t)/n(1)."""
    shape = jax.tree.map(oracle.f64, params["shape"])
    weights = softmax(np.concatenate([shape["line"].reshape(1), shape["weight"]]))
    a, b = softplus(shape["slope"]), shape["bias"]

    def rise(t):
        units = expit(a * t[..., None] + b) - expit(b)
        return schedules.FLOOR * t + (1 - schedules.FLOOR) * (weights[0] * t + units @ weights[1:])

    h = rise(oracle.f64(t)) / rise(np.ones(()))
    middle = (MIN + MAX) / 2
    return (middle - softplus(params["ends"]["below"])) * (1 - h) + (middle + softplus(params["ends"]["above"])) * h


def cosine_gamma(t, shift=0.0):
    """2 log tan θ + shift with θ linear between the angles of the end points."""
    theta_0, theta_1 = (np.arctan(np.exp((g - shift) / 2)) for g in (MIN, MAX))
    return 2 * np.log(np.tan(theta_0 + (theta_1 - theta_0) * oracle.f64(t))) + shift


def ddpm_gamma(tau):
    """−log SNR of ᾱ = exp(−∫ β) with β from 0.1 to 20 linear in τ, in float64."""
    integral = 0.1 * tau + 0.5 * 19.9 * tau**2
    return np.log(np.expm1(integral))


def beta_linear_gamma(t):
    """The same with τ linear in t, between the τ of the end points found by bisection."""
    tau_0, tau_1 = (brentq(lambda tau, g=g: ddpm_gamma(tau) - g, 1e-9, 2.0, xtol=1e-16) for g in (MIN, MAX))
    return ddpm_gamma(tau_0 + (tau_1 - tau_0) * oracle.f64(t))


FORMULAS = {
    "linear": lambda params, t: MIN + (MAX - MIN) * oracle.f64(t),
    "cosine": lambda params, t: cosine_gamma(t),
    "shifted_cosine": lambda params, t: cosine_gamma(t, -2 * np.log(2)),
    "beta_linear": lambda params, t: beta_linear_gamma(t),
    "learned_linear": lambda params, t: (
        (MIN + MAX) / 2
        - softplus(params["ends"]["below"]) * (1 - oracle.f64(t))
        + softplus(params["ends"]["above"]) * oracle.f64(t)
    ),
    "learned_monotone": monotone_gamma,
}


def parameters(name, seed=0):
    """Parameters away from their start, of moderate size."""
    params = SCHEDULES[name].init(jax.random.key(seed))
    leaves, treedef = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(treedef, [jnp.asarray(v + rng.normal(size=v.shape).astype(np.float32)) for v in leaves])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("seed", range(3))
def test_gamma_is_the_formula(name, seed):
    params = parameters(name, seed)
    gamma, _ = gamma_and_slope[name](params, TIMES)
    np.testing.assert_allclose(gamma, FORMULAS[name](params, TIMES), rtol=0, atol=GAMMA_ATOL)


@pytest.mark.parametrize("name", SCHEDULES)
def test_slope_is_the_derivative_of_the_formula(name):
    params = parameters(name)
    t = TIMES[1:-1]
    _, slope = gamma_and_slope[name](params, t)
    # Finite differences are good to 1e-7 here; float32 rounds the sines of small angles and sums of HIDDEN terms.
    np.testing.assert_allclose(slope, oracle.central_difference(partial(FORMULAS[name], params), t), rtol=2e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_slope_at_the_ends_is_one_sided_derivative(name):
    # The end points are pinned to their exact value: the derivative there must not be pinned to 0.
    params = parameters(name)
    _, slope = gamma_and_slope[name](params, jnp.array([0.0, 1.0]))
    expected = oracle.central_difference(partial(FORMULAS[name], params), np.array([0.0, 1.0]), step=1e-7)
    np.testing.assert_allclose(slope, expected, rtol=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_increasing(name):
    gamma, slope = gamma_and_slope[name](parameters(name), TIMES)
    assert np.all(np.diff(gamma) > 0)
    assert np.all(np.asarray(slope) > 0)


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize(("low", "high"), [(-13.3, 5.0), (-9.21, 7.3), (-20.0, 20.0), (1.0, 1.5)])
def test_fixed_end_points_are_exact(name, low, high):
    schedule = getattr(schedules, name)(low, high)
    ends = schedule.gamma({}, jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(ends, np.float32([low, high]))
    assert schedule.gamma({}, 0.0) == np.float32(low)
    assert schedule.init(jax.random.key(0)) == {}


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize(("low", "high"), [(-13.3, 5.0), (-9.0, 7.3), (-20.0, 20.0), (1.0, 1.01)])
def test_learned_end_points_start_at_the_arguments(name, low, high):
    schedule = getattr(schedules, name)(low, high)
    params = schedule.init(jax.random.key(0))
    # Through a softplus and its inverse in float32: a few roundings of the range.
    atol = 4 * EPS * max(abs(low), abs(high))
    np.testing.assert_allclose(schedule.gamma(params, jnp.array([0.0, 1.0])), [low, high], rtol=0, atol=atol)


def test_each_end_moves_alone():
    params = parameters("learned_monotone")
    before, _ = gamma_and_slope["learned_monotone"](params, TIMES)
    lower = {**params, "ends": {**params["ends"], "below": params["ends"]["below"] + 1}}
    upper = {**params, "ends": {**params["ends"], "above": params["ends"]["above"] + 1}}
    after_lower, _ = gamma_and_slope["learned_monotone"](lower, TIMES)
    after_upper, _ = gamma_and_slope["learned_monotone"](upper, TIMES)
    assert after_lower[0] < before[0] - 0.9
    assert after_lower[-1] == before[-1]
    assert after_upper[0] == before[0]
    assert after_upper[-1] > before[-1] + 0.9


def test_the_shape_does_not_move_the_ends():
    ends = parameters("learned_monotone")["ends"]
    expected = SCHEDULES["learned_linear"].gamma({"ends": ends}, jnp.array([0.0, 1.0]))
    end_times = jnp.array([0.0, 1.0])
    gamma = jax.jit(lambda shape: monotone.gamma({"ends": ends, "shape": shape}, end_times))
    gradient = jax.jit(jax.jacrev(gamma))
    for seed in range(5):
        shape = parameters("learned_monotone", seed)["shape"]
        np.testing.assert_array_equal(gamma(shape), expected)
        # And no gradient either, beyond the rounding of a sum of HIDDEN units times the range.
        for leaf in jax.tree.leaves(gradient(shape)):
            np.testing.assert_allclose(leaf, 0, atol=100 * EPS)


def test_the_learned_shape_starts_near_the_straight_line():
    params = monotone.init(jax.random.key(3))
    gamma, slope = gamma_and_slope["learned_monotone"](params, TIMES)
    # At most a tenth of the range belongs to the units, and the straight line keeps nine tenths of the slope.
    assert np.max(np.abs(gamma - FORMULAS["linear"]({}, TIMES))) < 0.1 * (MAX - MIN)
    assert np.min(slope) > 0.8 * (MAX - MIN)


@pytest.mark.parametrize("shift", [-2.0, 0.0, 1.5])
def test_cosine_is_the_cosine_schedule_of_nichol_and_dhariwal(shift):
    schedule = schedules.shifted_cosine(-12.0 + shift, 12.0 + shift, shift)
    theta_0 = np.arctan(np.exp(-6))
    theta = theta_0 + (np.pi / 2 - 2 * theta_0) * oracle.f64(TIMES)
    gamma = oracle.f64(schedule.gamma({}, TIMES)) - shift
    # dα/dγ ≤ 1/4 in size, so α and σ inherit at most a quarter of γ's rounding.
    np.testing.assert_allclose(oracle.alpha(gamma), np.cos(theta), atol=14 * EPS)
    np.testing.assert_allclose(oracle.sigma(gamma), np.sin(theta), atol=14 * EPS)
    assert abs(schedule.gamma({}, 0.5) - shift) < 14 * EPS


def test_beta_linear_is_ddpms_thousand_steps():
    """With its own end points, β_i = 10⁻⁴ … 0.02 in 1000 steps: log ᾱ agrees to the error of a sum as an integral."""
    log_alpha_bar = np.cumsum(np.log1p(-np.linspace(1e-4, 0.02, 1000)))
    gamma = np.log(np.expm1(-log_alpha_bar))
    ours = schedules.beta_linear(float(ddpm_gamma(0.001)), float(ddpm_gamma(1.0)))
    t = jnp.asarray((np.linspace(0.001, 1, 1000) - 0.001) / 0.999, jnp.float32)
    # −log(1−β) = β + β²/2 + …: 1% of a sum that is 10 at the end, and less before.
    np.testing.assert_allclose(ours.gamma({}, t)[10:], gamma[10:], atol=0.15)


def test_shift_adds_to_gamma_and_to_nothing_else():
    # The same curve 2 log tan θ, cut at end points that are lower by the shift.
    shift = 1.5
    shifted = schedules.shifted_cosine(MIN + shift, MAX + shift, shift)
    gamma, slope = schedules.gamma_and_slope(shifted, {}, TIMES)
    plain, plain_slope = gamma_and_slope["cosine"]({}, TIMES)
    np.testing.assert_allclose(gamma, plain + shift, rtol=0, atol=GAMMA_ATOL)
    np.testing.assert_allclose(slope, plain_slope, rtol=2e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_scalar_and_batch_agree(name):
    params = parameters(name)
    for t in (0.0, 0.3, 1.0):
        scalar = schedules.gamma_and_slope(SCHEDULES[name], params, t)
        batch = schedules.gamma_and_slope(SCHEDULES[name], params, jnp.array([t, t]))
        for one, two in zip(scalar, batch, strict=True):
            assert (one.shape, two.shape) == ((), (2,))
            assert one.dtype == two.dtype == jnp.float32
            np.testing.assert_allclose(two, np.repeat(one, 2), rtol=4 * EPS)


# Weights nobody would choose: huge, tiny, negative, equal.
extreme = st.one_of(st.sampled_from([0.0, 1e6, -1e6, 1e-6, -1e-6, 50.0, -50.0, 1.0]), st.floats(-30, 30, width=32)).map(
    np.float32
)


@st.composite
def adversarial(draw, ends):
    vector = st.one_of(
        st.lists(extreme, min_size=HIDDEN, max_size=HIDDEN), extreme.map(lambda value: [value] * HIDDEN)
    ).map(lambda values: jnp.asarray(np.stack(values)))
    return {
        "ends": {name: jnp.asarray(draw(ends)) for name in ("below", "above")},
        "shape": {
            "slope": draw(vector),
            "bias": draw(vector),
            "weight": draw(vector),
            "line": jnp.asarray(draw(extreme)),
        },
    }


@jax.jit
def summaries(params):
    """γ and slope at TIMES, and every gradient of either."""

    def both(params, t):
        return schedules.gamma_and_slope(monotone, params, t)

    gradient = jax.jacrev(both, argnums=(0, 1))(params, TIMES[::10])
    return both(params, TIMES), gradient


@settings(max_examples=60, deadline=None, derandomize=True, phases=PHASES)
@given(adversarial(st.floats(-5, 30, width=32).map(np.float32)))
def test_learned_monotone_survives_any_weights(params):
    (gamma, slope), gradients = summaries(params)
    low, high = (np.float32(v) for v in oracle.f64(SCHEDULES["learned_linear"].gamma(params, jnp.array([0.0, 1.0]))))
    assert (gamma[0], gamma[-1]) == (low, high)
    assert low < high
    # Rounding of the interpolation: a few float32 spacings at the largest |γ|.
    slack = 4 * EPS * max(abs(low), abs(high))
    assert np.all((gamma >= low - slack) & (gamma <= high + slack))
    # h' ≥ FLOOR: over a hundredth of time γ rises by FLOOR·range/100 at least.
    assert np.all(np.diff(gamma) >= schedules.FLOOR * (high - low) / 100 * 0.99 - slack)
    assert np.all(slope >= schedules.FLOOR * (high - low) * (1 - 1e-4))
    for leaf in jax.tree.leaves((gamma, slope, gradients)):
        assert np.all(np.isfinite(leaf))


@settings(max_examples=40, deadline=None, derandomize=True, phases=PHASES)
@given(adversarial(extreme))
def test_learned_monotone_with_any_ends_is_finite_and_never_decreasing(params):
    (gamma, slope), gradients = summaries(params)
    slack = 4 * EPS * np.max(np.abs(gamma))
    assert np.all(np.diff(gamma) >= -slack)
    assert np.all(slope >= 0)
    for leaf in jax.tree.leaves((gamma, slope, gradients)):
        assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("low", "high"), [(5.0, 5.0), (5.0, -13.3), (0.0, float("nan"))])
def test_refuses_a_range_that_does_not_rise(name, low, high):
    with pytest.raises(ValueError, match="gamma_max"):
        getattr(schedules, name)(low, high)


def test_refuses_no_hidden_units():
    with pytest.raises(ValueError, match="hidden=0"):
        schedules.learned_monotone(hidden=0)
