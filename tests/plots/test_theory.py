"""Schedules and weightings as drawn, against closed forms in float64; that they read well is for a person to see."""

import numpy as np
import oracle
import pytest
from oracle import EPS
from scipy import stats
from scipy.special import expit

from vdm import parts
from vdm.plots import theory

RANGES = [(-13.3, 5.0), (-20.0, 20.0), (-2.0, 9.0)]


# (γ(t), p(λ)) between the end points a and b.


def linear(t, a, b):
    return a + (b - a) * t, np.full_like(t, 1 / (b - a))


def cosine(t, a, b, shift=0.0):
    theta_0, theta_1 = np.arctan(np.exp((np.array([a, b]) - shift) / 2))
    theta = theta_0 + (theta_1 - theta_0) * t
    return 2 * np.log(np.tan(theta)) + shift, np.sin(2 * theta) / 4 / (theta_1 - theta_0)


def beta_linear(t, a, b):
    """−log α² = 0.1 τ + 9.95 τ²."""
    tau_0, tau_1 = (-0.1 + np.sqrt(0.01 + 39.8 * np.log1p(np.exp([a, b])))) / 19.9
    tau = tau_0 + (tau_1 - tau_0) * t
    minus_log = 0.1 * tau + 9.95 * tau**2
    return np.log(np.expm1(minus_log)), -np.expm1(-minus_log) / (0.1 + 19.9 * tau) / (tau_1 - tau_0)


def edm_training(t, a, b):
    normal = stats.truncnorm((a + 2.4) / 2.4, (b + 2.4) / 2.4, loc=-2.4, scale=2.4)
    gamma = normal.ppf(t)
    return gamma, normal.pdf(gamma)


def edm_sampling(t, a, b):
    """σ/α = e^{γ/2} by Eq. 5 of Karras et al. (2022)."""
    low, high = np.exp([a / 2, b / 2]) ** (1 / 7)
    noise = (low + (high - low) * t) ** 7
    return 2 * np.log(noise), noise ** (1 / 7) / 14 / (high - low)


def flow_matching(t, a, b):
    logistic = stats.logistic(scale=2)
    low, high = logistic.cdf([a, b])
    gamma = logistic.ppf(low + (high - low) * t)
    return gamma, logistic.pdf(gamma) / (high - low)


FORMULAS = {
    "linear": linear,
    "cosine": cosine,
    "cosine, shifted for 32 pixels": lambda t, a, b: cosine(t, a, b, -2 * np.log(2)),
    "cosine, shifted for 128 pixels": lambda t, a, b: cosine(t, a, b, 2 * np.log(2)),
    "β-linear (DDPM)": beta_linear,
    "EDM, training": edm_training,
    "EDM, sampling (ρ = 7)": edm_sampling,
    "flow matching": flow_matching,
}


@pytest.mark.parametrize("ends", RANGES)
def test_levels_and_densities_are_the_formulas(ends):
    found = theory.schedule_curves(*ends)
    assert set(found) == set(FORMULAS) == set(theory.SCHEDULE_STYLES)
    for name, (t, gamma, density) in found.items():
        assert (t[0], t[-1]) == (0, 1)
        assert np.all(np.diff(t) > 0)
        # Just inside, where the formulas of the test keep their own digits.
        inside = slice(1, -1)
        exact, p = (values[inside] for values in FORMULAS[name](t, *ends))
        # A rounding of t moves γ by dγ/dt = 1/p, and log p by at most four times as much: d log p/dλ is from −4 to 4.
        assert np.all(np.abs(gamma[inside] - exact) < EPS * (80 + 2 / p)), name
        np.testing.assert_allclose(gamma[[0, -1]], ends, rtol=EPS, err_msg=name)
        # The grid's are differences of float32 levels of size 20, some 0.005 apart and more; the others derivatives.
        relative = 20 / 0.005 if "sampling" in name else 100 + 8 / p
        assert np.all(np.abs(density[inside] / p - 1) < EPS * relative), name
        assert abs(np.trapezoid(density, gamma) - 1) < 1e-3, name


@pytest.mark.parametrize("ends", [(15.0, 20.0), (-20.0, -15.0)])
def test_edm_keeps_its_digits_in_both_tails(ends):
    t = np.linspace(0, 1, 101)
    found, (gamma, density) = theory.edm_training(*ends, t), edm_training(t, *ends)
    # As above: roundings of t and γ in float32, and nothing like the 1e-14 of the normal's mass there.
    inside = slice(1, -1)
    assert np.all(np.abs(found.gamma - gamma)[inside] < EPS * (80 + 2 / density[inside]))
    np.testing.assert_allclose(found.gamma[[0, -1]], ends, rtol=4 * EPS)
    assert np.all(np.abs(found.density / density - 1)[inside] < EPS * (100 + 8 / density[inside]))


def lines(axes):
    return {line.get_label(): oracle.f64(line.get_data()) for line in axes.lines}


def test_the_schedules_are_drawn_consistently(tmp_path, drawn):
    alpha, sigma, log_snr, density = map(lines, drawn(theory.schedules, tmp_path, -13.3, 5.0))
    levels = theory.schedule_curves(-13.3, 5.0)
    assert list(alpha) == list(sigma) == list(log_snr) == list(density) == list(levels)
    for name, (t, gamma, p) in levels.items():
        for panel in (alpha, sigma, log_snr):
            np.testing.assert_array_equal(panel[name][0], t)
        np.testing.assert_array_equal(log_snr[name][1], -gamma)
        np.testing.assert_array_equal(density[name], [-gamma, p])
        np.testing.assert_allclose(alpha[name][1] ** 2 + sigma[name][1], 1, rtol=4 * EPS)
        np.testing.assert_allclose(sigma[name][1], 1 / (1 + np.exp(log_snr[name][1])), rtol=40 * EPS)


LOW, HIGH = -5.0, 13.3


@pytest.fixture
def panels(tmp_path, drawn):
    return drawn(theory.weightings, tmp_path, LOW, HIGH)


def test_every_weighting_is_drawn_solid_if_monotone(panels):
    found = {line.get_label().split(":")[0]: line for line in panels[0].lines}
    weightings = [parts.make("weighting", name) for name in parts.names("weighting")]
    every = {weighting.name: weighting for weighting in weightings}
    assert found.keys() == every.keys()
    for name, line in found.items():
        assert line.get_linestyle() == ("-" if every[name].monotone else "--")
        lam, w = line.get_data()
        np.testing.assert_allclose([lam[0], lam[-1]], [LOW, HIGH], rtol=EPS)
        assert w.max() == 1
        np.testing.assert_allclose(w * every[name].weight(lam).max(), every[name].weight(lam), rtol=2 * EPS)
    legend = {text.get_text() for text in panels[3].get_legend().get_texts()}
    assert legend == {line.get_label() for line in panels[0].lines}


def by_color(axes):
    """The curves, without the stems."""
    return {line.get_color(): oracle.f64(line.get_data()) for line in axes.lines if len(line.get_xdata()) > 2}


def test_the_averaged_elbos_are_distributions(panels):
    """With the point mass w(λ_max)/w(λ_min) they integrate to 1, in λ and in t."""
    in_lambda, in_time = by_color(panels[1]), by_color(panels[2])
    monotone = {name for name in parts.names("weighting") if parts.make("weighting", name).monotone}
    assert len(in_lambda) == len(in_time) == len(monotone) - 1  # the ELBO is its point mass alone
    for name in monotone - {"elbo"}:
        color, weight = theory.WEIGHTING_STYLES[name]["color"], parts.make("weighting", name).weight
        mass = float(weight(np.float32(HIGH)) / weight(np.float32(LOW)))
        for axes in (in_lambda, in_time):
            x, density = axes[color]
            # Where it jumps, the trapezoids miss half a step: 0.05 · 0.01 in λ, 0.25 · 0.001 in t.
            assert abs(np.trapezoid(density, x) + mass - 1) < 5e-4, name
        assert f"{mass:.1e}".split("e")[0] in next(
            line.get_label() for line in panels[0].lines if line.get_label().startswith(name)
        )
    assert [text.get_text() for axes in panels[1:3] for text in axes.texts] == [
        r"elbo: mass 1 at $λ_{\mathrm{max}}$",
        "elbo: mass 1 at t = 0",
    ]
    (stem,) = [line for line in panels[1].lines if len(line.get_xdata()) == 2]
    assert set(stem.get_xdata()) == {HIGH}


def test_the_averaged_elbos_of_sigmoid_and_v_are_their_closed_forms(panels):
    lam, density = by_color(panels[1])[theory.WEIGHTING_STYLES["sigmoid"]["color"]]
    # A density of at most ½ beside float32 roundings of w and of its derivative.
    np.testing.assert_allclose(density, stats.logistic(2).pdf(lam) / expit(2 - LOW), rtol=40 * EPS, atol=4 * EPS)
    t, density = by_color(panels[2])[theory.WEIGHTING_STYLES["v_mse"]["color"]]
    # w = e^{−λ/2} = tan θ, θ between its ends in equal steps of time.
    theta_0, theta_1 = np.arctan(np.exp([-HIGH / 2, -LOW / 2]))
    theta = theta_0 + (theta_1 - theta_0) * t
    expected = (theta_1 - theta_0) / np.cos(theta) ** 2 / np.tan(theta_1)
    np.testing.assert_allclose(density[1:-1], expected[1:-1], rtol=100 * EPS)


@pytest.mark.parametrize("plot", [theory.schedules, theory.weightings])
def test_end_points_must_increase(tmp_path, plot):
    with pytest.raises(ValueError, match=r"_min=3\.0"):
        plot(tmp_path / "plot.png", 3.0, 3.0)
    assert not list(tmp_path.iterdir())
