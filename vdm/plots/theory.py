"""Plots of the parts of an objective: the noise levels that a schedule visits, and the weights of a weighting."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit, logit

from vdm import parts, proposals
from vdm import schedules as schedules_lib
from vdm import weightings as weightings_lib
from vdm.plots.axes import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY, annotate, log_y, save
from vdm.samplers import grids
from vdm.weightings import Weighting

POINTS = 2001
TIME = "t (0: data, 1: noise)"
LOG_SNR = "λ = log SNR (left: noise, right: data)"

SCHEDULE_STYLES: dict[str, dict[str, Any]] = {
    "linear": {"color": BLACK},
    "cosine": {"color": BLUE},
    "cosine, shifted for 32 pixels": {"color": BLUE, "linestyle": ":"},
    "cosine, shifted for 128 pixels": {"color": BLUE, "linestyle": "--"},
    "β-linear (DDPM)": {"color": GREEN},
    "EDM, training": {"color": RED},
    "EDM, sampling (ρ = 7)": {"color": RED, "linestyle": "--"},
    "flow matching": {"color": ORANGE},
}
# Monotone weightings are solid lines. Wide lines lie under others that coincide with them, wholly or in part.
WEIGHTING_STYLES: dict[str, dict[str, Any]] = {
    "elbo": {"color": BLACK},
    "sigmoid": {"color": BLUE},
    "edm_monotonic": {"color": GREEN, "linewidth": 4, "alpha": 0.5},
    "truncated_snr": {"color": PURPLE, "linewidth": 4, "alpha": 0.6},
    "flow_matching": {"color": ORANGE, "linewidth": 5, "alpha": 0.6},
    "v_mse": {"color": RED},
    "edm": {"color": GREEN, "linestyle": "--"},
    "simple": {"color": PURPLE, "linestyle": "--"},
    "min_snr": {"color": SKY, "linestyle": "--"},
    "p2": {"color": BLACK, "linestyle": "--"},
}


class ScheduleCurve(NamedTuple):
    """Noise levels at several times, and the density with which uniform times cover them."""

    t: Float[np.ndarray, " points"]
    """Times from 0 to 1."""
    gamma: Float[np.ndarray, " points"]
    """γ(t) = −λ(t)."""
    density: Float[np.ndarray, " points"]
    """p(λ) = 1/|dλ/dt|, whose integral over λ is 1."""


def schedule_curves(gamma_min: float, gamma_max: float) -> dict[str, ScheduleCurve]:
    """Return the noise levels of each schedule in `SCHEDULE_STYLES`, all between the same end points.

    These are the fixed schedules of `vdm.schedules`, with the shifts 2 log(d/64) for images of d pixels a side; EDM's
    training distribution and sampling grid (Karras et al. 2022); and flow matching, uniform times of
    z = (1 − t) x + t ε. Raises ValueError unless gamma_min < gamma_max.
    """
    ends = gamma_min, gamma_max
    fixed = {
        "linear": schedules_lib.linear(*ends),
        "cosine": schedules_lib.cosine(*ends),
        "cosine, shifted for 32 pixels": schedules_lib.shifted_cosine(*ends, shift=2 * np.log(32 / 64)),
        "cosine, shifted for 128 pixels": schedules_lib.shifted_cosine(*ends, shift=2 * np.log(128 / 64)),
        "β-linear (DDPM)": schedules_lib.beta_linear(*ends),
    }
    t = _times()
    return {
        **{name: _of_schedule(schedule, t) for name, schedule in fixed.items()},
        "EDM, training": edm_training(*ends, t),
        "EDM, sampling (ρ = 7)": _edm_sampling(*ends),
        "flow matching": flow_matching(*ends, t),
    }


def edm_training(
    gamma_min: float, gamma_max: float, t: Float[np.ndarray, " points"], p_mean: float = -1.2, p_std: float = 1.2
) -> ScheduleCurve:
    """Return EDM's training schedule: γ(t) is the quantile function of γ/2 = log σ/α ~ N(p_mean, p_std²), truncated."""
    normal = 2 * p_mean, 2 * p_std, jnp.float32(gamma_min), jnp.float32(gamma_max)
    gamma = proposals.truncated_normal(jnp.asarray(t, jnp.float32), *normal)
    return ScheduleCurve(t, np.asarray(gamma), np.asarray(proposals.truncated_normal_density(gamma, *normal)))


def flow_matching(gamma_min: float, gamma_max: float, t: Float[np.ndarray, " points"]) -> ScheduleCurve:
    """Return the schedule of uniform times τ in z = (1 − τ) x + τ ε between the end points: λ = 2 log((1 − τ)/τ)."""
    tau_0, tau_1 = expit(gamma_min / 2), expit(gamma_max / 2)
    tau = (1 - t) * tau_0 + t * tau_1
    return ScheduleCurve(t, 2 * logit(tau), tau * (1 - tau) / (2 * (tau_1 - tau_0)))


def time_density(
    weighting: Weighting, gamma_min: float, gamma_max: float, t: Float[np.ndarray, " points"]
) -> Float[np.ndarray, " points"]:
    """Return p_w(t) on the cosine schedule: the density in time of `weightings.elbo_mixture`, without its point mass.

    It is Eq. 4.150 of De Sousa Ribeiro & Glocker (2024), corrected.
    """
    mixture = weightings_lib.elbo_mixture(weighting, -gamma_max, -gamma_min)
    cosine = schedules_lib.cosine(gamma_min, gamma_max)
    gamma, slope = schedules_lib.gamma_and_slope(cosine, {}, jnp.asarray(t, jnp.float32))
    return np.asarray(mixture.density(-gamma) * slope)


def schedules(path: Path, gamma_min: float, gamma_max: float) -> None:
    """Plot α, σ² and λ = log SNR against t, and the density of noise levels, for each of `schedule_curves`.

    The figure follows Fig. 3.2 of De Sousa Ribeiro & Glocker (2024). Raises ValueError unless gamma_min < gamma_max.
    """
    figure = Figure(figsize=(11, 9), layout="constrained")
    (alpha, sigma), (log_snr, density) = figure.subplots(2, 2)
    for name, (t, gamma, p) in schedule_curves(gamma_min, gamma_max).items():
        style = {"linewidth": 1.8, "label": name} | SCHEDULE_STYLES[name]
        alpha.plot(t, np.sqrt(expit(-gamma)), **style)
        sigma.plot(t, expit(gamma), **style)
        log_snr.plot(t, -gamma, **style)
        density.plot(-gamma, p, **style)
    for axes in (alpha, sigma, log_snr):
        axes.set_xlim(0, 1)
    density.set_xlim(-gamma_max, -gamma_min)
    density.set_ylim(bottom=0)
    annotate(alpha, "How much of the data is left", "α", TIME, legend=False)
    annotate(sigma, "How much noise there is", "σ² = 1 − α²", TIME, legend=False)
    annotate(log_snr, "Log signal-to-noise ratio", "λ = log α²/σ²", TIME, legend=False)
    annotate(density, "Which noise levels uniform times visit", "p(λ) = 1/|dλ/dt|", LOG_SNR, legend=False)
    figure.legend(*alpha.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save(figure, path)


def weightings(path: Path, lambda_min: float, lambda_max: float) -> None:
    """Plot w(λ) for every weighting and, for the monotone ones, the mixture of ELBOs by noise level and by time.

    Each w is divided by its maximum over the range. The density of `weightings.elbo_mixture` is drawn as a curve; its
    point mass at λ_max is given in the legend, and drawn as a stem if it is the whole mixture. Time is that of the
    cosine schedule. Raises ValueError unless lambda_min < lambda_max are finite.
    """
    figure = Figure(figsize=(11, 9), layout="constrained")
    (weight, density), (in_time, legend) = figure.subplots(2, 2)
    lam, t = np.linspace(lambda_min, lambda_max, POINTS, dtype=np.float32), _times()
    for name, own in WEIGHTING_STYLES.items():
        weighting: Weighting = parts.make("weighting", name)
        style = {"linewidth": 1.8} | own
        w = np.asarray(weighting.weight(lam))
        if not weighting.monotone:
            weight.plot(lam, w / w.max(), **style, label=weighting.name)
            continue
        mixture = weightings_lib.elbo_mixture(weighting, lambda_min, lambda_max)
        atom = float(mixture.atom)
        weight.plot(lam, w / w.max(), **style, label=f"{weighting.name}: {_power(atom)}")
        if atom < 1:
            density.plot(lam, np.asarray(mixture.density(lam)), **style)
            in_time.plot(t, time_density(weighting, -lambda_max, -lambda_min, t), **style)
        else:
            _stem(density, lambda_max, rf"{name}: mass 1 at $λ_{{\mathrm{{max}}}}$", style["color"])
            _stem(in_time, 0.0, f"{name}: mass 1 at t = 0", style["color"])
    weight.set_yscale("log")
    weight.set_ylim(max(1e-7, weight.get_ylim()[0]), 3)
    weight.set_xlim(lambda_min, lambda_max)
    density.set_ylim(bottom=0)
    log_y(in_time)
    in_time.set_ylim(bottom=1e-2)
    annotate(weight, "Weightings, each over its maximum", "w(λ)/max w", LOG_SNR, legend=False)
    annotate(density, "The ELBOs averaged, by noise level", r"$-w'(λ)\,/\,w(λ_{\mathrm{min}})$", LOG_SNR, legend=False)
    in_time_name = r"$p_w(t) = -w'(λ)\,/\,w(λ_{\mathrm{min}}) \cdot (-dλ/dt)$"
    annotate(in_time, "The same in time, cosine schedule", in_time_name, TIME, legend=False)
    legend.axis("off")
    title = "solid: monotone, with the point mass at $λ_{\\mathrm{max}}$\ndashed: not monotone, no average of ELBOs"
    legend.legend(*weight.get_legend_handles_labels(), loc="center", title=title)
    save(figure, path)


def _stem(axes: Axes, at: float, text: str, color: str) -> None:
    """Draw a point mass as a line over the whole height, with `text` on its inner side."""
    axes.axvline(at, color=color, linewidth=3)
    offset, alignment = ((6, 0), "left") if at < np.mean(axes.get_xlim()) else ((-6, 0), "right")
    place: dict[str, Any] = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
    axes.annotate(text, (at, 0.94), offset, **place, ha=alignment)


def _power(value: float) -> str:
    """Format a number to two digits, as 1 or 1.2·10⁻⁵."""
    digits, _, exponent = f"{value:.1e}".partition("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:.2g}" if value >= 0.01 else f"{digits}·10{power}"


def _times() -> Float[np.ndarray, " points"]:
    """Return times from 0 to 1, densest at the ends, where some schedules are steep."""
    return (1 - np.cos(np.pi * np.linspace(0, 1, POINTS))) / 2


def _of_schedule(schedule: schedules_lib.Schedule, t: Float[np.ndarray, " points"]) -> ScheduleCurve:
    gamma, slope = schedules_lib.gamma_and_slope(schedule, {}, jnp.asarray(t, jnp.float32))
    return ScheduleCurve(t, np.asarray(gamma), 1 / np.asarray(slope))


def _edm_sampling(gamma_min: float, gamma_max: float) -> ScheduleCurve:
    ends = partial(schedules_lib.linear(gamma_min, gamma_max).gamma, {})
    t, gamma = np.linspace(0, 1, POINTS), np.asarray(grids.karras().gammas(ends, POINTS - 1))[::-1]
    return ScheduleCurve(t, gamma, 1 / np.gradient(gamma, t, edge_order=2))
