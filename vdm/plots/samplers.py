"""Pictures of samplers: their paths from noise to data in one dimension."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from vdm import gaussian, oracles, samplers, schedules
from vdm.plots.axes import BLACK, BLUE, RED, annotate, save
from vdm.samplers import Sampler, grids

MODES, STD, WEIGHTS = (-0.7, 0.5), 0.1, (0.4, 0.6)
BETWEEN = -0.1
"""The boundary between the two modes."""
STEPS, PATHS = 100, 20
SHADES = 10
EXTENT = 2.9


class Paths(NamedTuple):
    """Paths in one dimension along a grid of noise levels, from data (first) to noise (last)."""

    t: Float[np.ndarray, " points"]
    """Time of the cosine schedule, from 0 to 1."""
    gamma: Float[np.ndarray, " points"]
    forward: Float[np.ndarray, "points paths"]
    """Paths of the forward process q, each from its own data point (Strümke & Langseth 2023, Fig. 3)."""
    ddpm: Float[np.ndarray, "points paths"]
    """Ancestral sampling, with all paths from the same z₁ (Strümke & Langseth 2023, Fig. 8)."""
    ddim: Float[np.ndarray, "points paths"]
    """DDIM from evenly spaced quantiles of z₁ (Strümke & Langseth 2023, Fig. 9)."""
    ddim_of_one: Float[np.ndarray, " points"]
    """DDIM from the z₁ that `ddpm` starts from."""


def bimodal() -> oracles.Oracle:
    """Return the exact model of data with two narrow modes in one dimension."""
    return oracles.mixture(np.array(WEIGHTS), np.array(MODES)[:, None], np.full(len(MODES), STD))


def paths(gamma_min: float, gamma_max: float, num: int = PATHS, seed: int = 0, start: float = -0.1) -> Paths:
    """Draw `num` paths each of the forward process, of DDPM from the single z₁ `start`, and of DDIM.

    Both samplers use the exact denoiser.

    Raises ValueError unless gamma_min < gamma_max.
    """
    if not gamma_min < gamma_max:
        raise ValueError(f"gamma_min={gamma_min}: must be below gamma_max={gamma_max}")
    oracle, key = bimodal(), jax.random.key(seed)
    gamma = partial(schedules.linear(gamma_min, gamma_max).gamma, {})
    down = grids.cosine().gammas(gamma, STEPS)
    quantiles = jnp.asarray((np.arange(num) + 0.5) / num, jnp.float32)
    spread = jax.scipy.stats.norm.ppf(quantiles)[:, None]
    one = jnp.full((1, 1), start)
    keys = jax.random.split(key, 3)
    walk = partial(_walk, oracle)
    found = (
        _forward(keys[0], oracle.sample(keys[1], num), down[::-1]),
        walk(samplers.ancestral(), keys[2], jnp.repeat(one, num, axis=0), down)[::-1],
        walk(samplers.ddim(0.0), keys[2], spread, down)[::-1],
        walk(samplers.ddim(0.0), keys[2], one, down)[::-1],
    )
    forward, ddpm, ddim, ddim_of_one = (np.asarray(z)[..., 0] for z in found)
    t = np.arange(STEPS + 1) / STEPS
    return Paths(t, np.asarray(down[::-1]), forward, ddpm, ddim, ddim_of_one[:, 0])


@partial(jax.jit, static_argnums=(0, 1))
def _walk(
    oracle: oracles.Oracle, sampler: Sampler, key: Array, z_1: Float[Array, "paths 1"], gammas: Float[Array, " points"]
) -> Float[Array, "points paths 1"]:
    """Return z at every level of the grid, for a sampler without memory: each step runs as a grid of its own."""

    def step(z: Array, inputs: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        step_key, gamma_t, gamma_s = inputs
        z = samplers.sample_from(step_key, oracle.denoise, sampler, jnp.stack([gamma_t, gamma_s]), z)
        return z, z

    steps = jax.random.split(key, gammas.size - 1), gammas[:-1], gammas[1:]
    return jnp.concatenate([z_1[None], jax.lax.scan(step, z_1, steps)[1]])


@jax.jit
def _forward(key: Array, x: Float[Array, "paths 1"], gammas: Float[Array, " points"]) -> Float[Array, "points paths 1"]:
    """Draw z at every level of an increasing grid, each from the one before by q(z_t|z_s)."""

    def step(z: Array, inputs: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        step_key, gamma_s, gamma_t = inputs
        signal, var = gaussian.transition(gamma_s, gamma_t)
        z = signal * z + jnp.sqrt(var) * jax.random.normal(step_key, z.shape)
        return z, z

    keys = jax.random.split(key, gammas.size)
    z_0 = gaussian.diffuse(x, jax.random.normal(keys[0], x.shape), gammas[0])
    return jnp.concatenate([z_0[None], jax.lax.scan(step, z_0, (keys[1:], gammas[:-1], gammas[1:]))[1]])


def density(gamma: Float[np.ndarray, " points"], z: Float[np.ndarray, " values"]) -> Float[np.ndarray, "points values"]:
    """Return p(z_t) at the values z for the bimodal data at each γ."""
    log_marginal = jax.vmap(bimodal().log_marginal, in_axes=(None, 0))
    return np.exp(np.asarray(log_marginal(jnp.asarray(z, jnp.float32)[:, None], jnp.asarray(gamma, jnp.float32))))


def trajectories(path: Path, gamma_min: float, gamma_max: float) -> None:
    """Plot paths of the forward process, DDPM and DDIM over the density p(z_t) for data with two modes.

    The figure follows Figs. 3, 8 and 9 of Strümke & Langseth (2023). The color of a path tells the mode at its data
    end. Raises ValueError unless gamma_min < gamma_max.
    """
    found = paths(gamma_min, gamma_max)
    values = np.linspace(-EXTENT, EXTENT, 281)
    shade = density(found.gamma, values)
    figure = Figure(figsize=(11, 4.1), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    # Shades are relative to the maximum at the same time, since the peaks grow where the modes narrow.
    relative = shade / shade.max(axis=1, keepdims=True)
    cmap = LinearSegmentedColormap.from_list("density", ["white", "#A8A8A8"])
    titles = (
        "Forward: data become noise",
        "DDPM: from one z₁ to either mode",
        "DDIM: every z₁ has one x",
    )
    for axes, title, several in zip(panels, titles, (found.forward, found.ddpm, found.ddim), strict=True):
        axes.contourf(found.t, values, relative.T, levels=np.linspace(0, 1, SHADES), cmap=cmap)
        _lines(axes, found.t, several)
        axes.set_xlim(0, 1)
        annotate(axes, title, "$z_t$" if axes is panels[0] else "", "t (0: data, 1: noise)")
        axes.grid(visible=False)
    panels[1].plot(1, found.ddpm[-1, 0], "o", color=BLACK, markersize=7, clip_on=False, zorder=5)
    panels[2].plot(found.t, found.ddim_of_one, color=BLACK, linewidth=2.4, label="from the z₁ of the middle panel")
    panels[2].plot(1, found.ddim_of_one[-1], "o", color=BLACK, markersize=7, clip_on=False, zorder=5)
    panels[2].legend(loc="upper left", fontsize="small")
    panels[0].set_ylim(-EXTENT, EXTENT)
    save(figure, path)


def _lines(axes: Axes, t: np.ndarray, several: Float[np.ndarray, "points paths"]) -> None:
    for z in several.T:
        axes.plot(t, z, color=BLUE if z[0] < BETWEEN else RED, linewidth=0.9)
