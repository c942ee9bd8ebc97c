"""The figures of the pages in docs/learn, one function each, for data whose optimal denoiser is known.

python -m docs_hooks.figures                        # all of them, into docs/pictures
python -m docs_hooks.figures --only=time            # one of them
python -m docs_hooks.figures --out=/tmp             # elsewhere
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdm import bounds, gaussian, oracles, samplers, schedules, weightings
from vdm.plots.axes import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY, annotate, save

WEIGHTS, MEANS = [0.3, 0.7], [[-0.6], [0.5]]
ORACLE = oracles.mixture(WEIGHTS, MEANS, stds=[0.05, 0.15])
SIZE = (10, 3.8)


def bound() -> Figure:
    """Plot p(z_t) against γ, and ½ E‖ε − ε̂‖² against γ, where the area is the diffusion loss."""
    figure, (left, right) = _panels()
    gammas = jnp.linspace(-8.0, 5.0, 261)
    _density(left, ORACLE, gammas)
    annotate(left, "Density of z: data melt into noise", "z", "γ = −log SNR", legend=False)
    values = _half_errors(ORACLE, gammas)
    right.plot(gammas, values, color=BLUE, linewidth=2)
    right.fill_between(gammas, values, color=SKY, alpha=0.4)
    right.text(-5.6, 0.15, f"diffusion loss\n{np.trapezoid(values, gammas):.2f} nats", ha="center")
    right.set_ylim(0)
    annotate(right, "Error of the noise", "½ E‖ε − ε̂‖²", "γ = −log SNR", legend=False)
    return figure


def time() -> Figure:
    """Plot the Riemann sum that L_T is, and its excess over L_∞ against T."""
    figure, (left, right) = _panels()
    gamma = partial(schedules.linear(-4.0, 4.0).gamma, {})
    fine = jnp.linspace(-4.0, 4.0, 401)
    error_of_x = _half_errors(ORACLE, fine) * 2 * jnp.exp(fine)
    left.plot(jnp.exp(-fine), error_of_x, color=BLUE, linewidth=2, label="error at this SNR")
    for s, t in zip(*_ends(gamma, 6), strict=True):
        height = np.interp(t, fine, error_of_x)
        left.fill_between([np.exp(-t), np.exp(-s)], 0, height, facecolor=ORANGE, edgecolor=RED, alpha=0.35)
    left.set_xscale("log")
    left.set_xlim(np.exp(-4.0), np.exp(4.0))
    annotate(left, "T = 6: each step counts its noisy end", "E‖x − x̂‖²", "SNR")
    counts = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    excess = [_discrete(gamma, int(count)) - np.trapezoid(_half_errors(ORACLE, fine), fine) for count in counts]
    right.loglog(counts, excess, "o-", color=BLUE, label="L_T − L_∞")
    right.loglog(counts, excess[-1] * counts[-1] / counts, "--", color=BLACK, label="slope −1")
    annotate(right, "Excess over continuous time", "nats", "T")
    return figure


def schedules_() -> Figure:
    """Plot γ(t) for four schedules, one of them learned, and the root mean square of the single-draw loss against t."""
    figure, (left, right) = _panels()
    ends = -10.0, 5.0
    centers = jax.random.uniform(jax.random.key(0), (4, 16), minval=-1.0, maxval=1.0)
    oracle = oracles.mixture(jnp.full(4, 0.25), centers, stds=jnp.full(4, 0.1))
    curves: dict[str, tuple[bounds.GammaFn, str]] = {
        "linear": (partial(schedules.linear(*ends).gamma, {}), SKY),
        "cosine": (partial(schedules.cosine(*ends).gamma, {}), ORANGE),
        "β-linear": (partial(schedules.beta_linear(*ends).gamma, {}), RED),
        "learned": (_learned(oracle, ends), BLUE),
    }
    t = jnp.linspace(0.0, 1.0, 201)
    for name, (gamma, color) in curves.items():
        levels, slope = schedules.value_and_slope(gamma, t)
        left.plot(t, levels, color=color, linewidth=2, label=name)
        right.plot(t, slope * jnp.sqrt(_half_errors(oracle, levels, power=2)), color=color, linewidth=2, label=name)
    annotate(left, "Noise schedules", "γ(t)", "t")
    right.set_yscale("log")
    right.set_ylim(3, 3000)
    annotate(right, "One draw's loss, root mean square", "nats", "t")
    return figure


def objectives() -> Figure:
    """Plot w(λ) for five weightings, and the distributions of the ELBOs that the monotone ones average."""
    figure, (left, right) = _panels()
    lam = jnp.linspace(-5.0, 12.0, 400)
    chosen = {
        "elbo": (weightings.elbo(), BLACK),
        "sigmoid(2)": (weightings.sigmoid(2.0), BLUE),
        "flow_matching": (weightings.flow_matching(), GREEN),
        "simple": (weightings.simple(), ORANGE),
        "edm": (weightings.edm(), PURPLE),
    }
    for name, (weighting, color) in chosen.items():
        w = weighting.weight(lam)
        style = "-" if weighting.monotone else "--"
        left.plot(lam, w / w.max(), style, color=color, linewidth=2, label=name)
        if weighting.monotone and name != "elbo":
            density = weightings.elbo_mixture(weighting, -5.0, 12.0).density(lam)
            right.plot(lam, density, color=color, linewidth=2, label=name)
    right.annotate("elbo", (12.0, 0), (12.0, 0.3), ha="center", arrowprops={"arrowstyle": "<-", "linewidth": 2})
    annotate(left, "Weightings, scaled (dashed: not monotone)", "w(λ)/max w", "λ = log SNR")
    right.set_ylim(0)
    annotate(right, "Noise levels of the ELBOs averaged", "density", "λ = log SNR")
    return figure


def samplers_() -> Figure:
    """Plot trajectories of DDIM and ancestral sampling from the same noise, and errors against network calls."""
    figure, (left, right) = _panels()
    gamma = partial(schedules.linear(-6.0, 8.0).gamma, {})
    gammas = samplers.grid(gamma, 100)
    _density(left, ORACLE, jnp.linspace(-6.0, 8.0, 281))
    for sampler, color, name in ((samplers.ddim(), BLUE, "ddim"), (samplers.ancestral(), RED, "ancestral")):
        _, frames = samplers.sample_trajectory(
            jax.random.key(5), ORACLE.denoise, sampler, gammas, (6, 1), range(100), keep=lambda step: step.z
        )
        _, z_1 = samplers.initial_latents(jax.random.key(5), (6, 1))
        paths = jnp.concatenate([z_1[None], frames])[..., 0]
        lines = left.plot(gammas, paths, color=color, linewidth=1)
        lines[0].set_label(name)
    left.invert_xaxis()
    annotate(left, "From noise to data", "z", "γ = −log SNR")
    calls = [4, 8, 16, 32, 64, 128]
    chosen = {
        "ancestral": (samplers.ancestral(), RED, "o-"),
        "ddim": (samplers.ddim(), BLUE, "s-"),
        "heun": (samplers.heun(), GREEN, "^-"),
        "dpm_solver_pp(2)": (samplers.dpm_solver_pp(2), PURPLE, "D-"),
    }
    for name, (sampler, color, style) in chosen.items():
        errors = [_distance(gamma, sampler, count // sampler.calls) for count in calls]
        right.loglog(calls, errors, style, color=color, label=name)
    right.set_xticks(calls, map(str, calls), minor=False)
    right.minorticks_off()
    annotate(right, "Distance to the exact distribution", "Wasserstein distance", "network calls")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "bound": bound,
    "schedules": schedules_,
    "time": time,
    "objectives": objectives,
    "samplers": samplers_,
}


def _panels() -> tuple[Figure, tuple[Axes, Axes]]:
    figure = Figure(figsize=SIZE, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    return figure, (left, right)


def _density(axes: Axes, oracle: oracles.Oracle, gammas: Array) -> None:
    """Draw p(z) of one-dimensional data as shades, each noise level scaled to its own maximum."""
    z = jnp.linspace(-2.5, 2.5, 301)
    log_density = jax.vmap(lambda gamma: oracle.log_marginal(z[:, None], gamma))(gammas)
    shades = jnp.exp(log_density - log_density.max(axis=1, keepdims=True)).T
    axes.pcolormesh(gammas, z, shades, cmap="Greys", vmax=1.6, rasterized=True)


def _half_errors(oracle: oracles.Oracle, gammas: Array, power: int = 1) -> np.ndarray:
    """Return the mean of (½‖ε − ε̂‖²)^power at each γ, over 4096 draws of data and noise."""
    x = oracle.sample(jax.random.key(0), 4096)
    eps = jax.random.normal(jax.random.key(1), x.shape)
    ones = jnp.ones(len(x))

    def at(gamma: Array) -> Array:
        return jnp.mean(bounds.diffusion_loss_at(oracle.denoise, gamma * ones, ones, x, eps) ** power)

    return np.asarray(jax.jit(partial(jax.lax.map, at))(gammas))


def _ends(gamma: bounds.GammaFn, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (γ_s, γ_t) for each step."""
    levels = np.asarray(jax.vmap(gamma)(jnp.arange(num_steps + 1) / num_steps))
    return levels[:-1], levels[1:]


def _discrete(gamma: bounds.GammaFn, num_steps: int) -> float:
    """Return L_T in nats, from the same draws as `_half_errors`."""
    s, t = _ends(gamma, num_steps)
    return float(np.sum(np.expm1(t - s) * _half_errors(ORACLE, jnp.asarray(t))))


def _learned(oracle: oracles.Oracle, ends: tuple[float, float]) -> bounds.GammaFn:
    """Return a schedule whose shape has minimized E[loss²] for 300 steps, as on the page."""
    schedule = schedules.learned_monotone(*ends, hidden=64)
    params = schedule.init(jax.random.key(2))
    optimizer = optax.adam(3e-2)

    def second_moment(shape: dict[str, Array], key: Array) -> Array:
        keys = jax.random.split(key, 3)
        x, t = oracle.sample(keys[0], 256), jax.random.uniform(keys[1], (256,))
        gamma = partial(schedule.gamma, {**params, "shape": shape})
        eps = jax.random.normal(keys[2], x.shape)
        return jnp.mean(bounds.continuous_diffusion_loss(oracle.denoise, gamma, x, t, eps) ** 2)

    def step(carry: tuple[dict[str, Array], optax.OptState], key: Array) -> tuple[tuple, None]:
        shape, state = carry
        updates, state = optimizer.update(jax.grad(second_moment)(shape, key), state)
        return (optax.apply_updates(shape, updates), state), None

    start = params["shape"], optimizer.init(params["shape"])
    (shape, _), _ = jax.jit(partial(jax.lax.scan, step))(start, jax.random.split(jax.random.key(3), 300))
    return partial(schedule.gamma, {**params, "shape": shape})


def _distance(gamma: bounds.GammaFn, sampler: samplers.Sampler, num_steps: int, num: int = 10_000) -> float:
    """Return the Wasserstein distance of `num` samples from the distribution of z₀."""
    gammas = samplers.grid(gamma, num_steps)
    z_0 = jax.jit(lambda key: samplers.sample(key, ORACLE.denoise, sampler, gammas, (num, 1)))(jax.random.key(0))
    points = jnp.linspace(-2.0, 2.0, 20_001)
    alpha, sigma = gaussian.alpha(gammas[-1]), gaussian.sigma(gammas[-1])
    std = jnp.sqrt((alpha * jnp.array([0.05, 0.15])) ** 2 + sigma**2)
    z = (points[:, None] - alpha * jnp.array(MEANS)[:, 0]) / std
    cdf = jnp.sum(jnp.array(WEIGHTS) * jax.scipy.stats.norm.cdf(z), axis=1)
    quantiles = jnp.interp((jnp.arange(num) + 0.5) / num, cdf, points)
    return float(jnp.abs(jnp.sort(z_0[:, 0]) - quantiles).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="The figures of docs/learn.")
    parser.add_argument("--only", choices=sorted(FIGURES), help="one figure; all by default")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "pictures", help="folder")
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else FIGURES:
        save(FIGURES[name](), arguments.out / f"learn_{name}.png")
        print(arguments.out / f"learn_{name}.png")


if __name__ == "__main__":
    main()
