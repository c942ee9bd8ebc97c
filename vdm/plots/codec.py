"""Plot of bits-back coding: how many bits are on the stack while images are coded, in either of two possible orders."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.special import expit

from vdm import likelihoods
from vdm.codec.normals import BINS, entropy_bits
from vdm.plots.axes import BLACK, BLUE, ORANGE, annotate, save

NUM_VALUES, LEVELS, STD = 1 << 14, 256, 0.3
SEED = 0


class Heights(NamedTuple):
    """Bits per dimension added to the initial stack after 0, 1, … operations."""

    bottom_up: Float[np.ndarray, " operations"]
    """Draw z₀, code x, draw z₁, code z₀, and so on: the order that `vdm.codec.chain` uses."""
    top_down: Float[np.ndarray, " operations"]
    """Draw z_T, …, z₀, then code x, z₀, …, z_T."""


def heights(gamma_min: float, gamma_max: float, num_steps: int) -> Heights:
    """Compute the height of the stack for normal data with 256 levels and a T-step model with the exact denoiser.

    The heights follow from the densities along one path. Both orders end at the same number, an estimate of the bound
    in bits/dim.
    """
    gammas = np.linspace(gamma_min, gamma_max, num_steps + 1)
    alpha, var = np.sqrt(expit(-gammas)), expit(gammas)
    c = -np.expm1(-np.diff(gammas))
    std_up, std_down = np.sqrt(np.append(var[0], var[1:] * c)), np.sqrt(np.append(var[:-1] * c, 1))
    width = np.minimum(std_up, std_down) / BINS
    rng = np.random.default_rng(SEED)
    image = np.clip(np.floor((rng.normal(0, STD, NUM_VALUES) + 1) * LEVELS / 2), 0, LEVELS - 1).astype(np.int32)
    x = np.asarray(likelihoods.encode(image, LEVELS), np.float64)

    def bits(value: np.ndarray, mean: np.ndarray | float, std: float, width: float) -> float:
        return entropy_bits(std / width) + float(np.mean(((value - mean) / std) ** 2 - 1)) / np.log(4)

    z = [alpha[0] * x + std_up[0] * rng.normal(size=NUM_VALUES)]
    for i in range(1, num_steps + 1):
        z.append(alpha[i] / alpha[i - 1] * z[-1] + std_up[i] * rng.normal(size=NUM_VALUES))
    up = [bits(z[0], alpha[0] * x, std_up[0], width[0])]
    posterior, down = [], []
    for i in range(1, num_steps + 1):
        up.append(bits(z[i], alpha[i] / alpha[i - 1] * z[i - 1], std_up[i], width[i]))
        of_z, of_x = alpha[i] / alpha[i - 1] * var[i - 1] / var[i], alpha[i - 1] * c[i - 1]
        x_hat = alpha[i] * STD**2 / (alpha[i] ** 2 * STD**2 + var[i]) * z[i]
        down.append(bits(z[i - 1], of_z * z[i] + of_x * x_hat, std_down[i - 1], width[i - 1]))
        posterior.append(bits(z[i - 1], of_z * z[i] + of_x * x, std_down[i - 1], width[i - 1]))
    down.append(bits(z[-1], 0.0, 1.0, width[-1]))
    top = bits(z[-1], alpha[-1] * x, float(np.sqrt(var[-1])), width[-1])
    z_0 = jnp.asarray(z[0], jnp.float32)
    log_p = likelihoods.log_prob(jnp.asarray(image)[None], z_0[None], jnp.float32(gammas[0]), LEVELS)
    of_image = -float(log_p[0]) / NUM_VALUES / np.log(2)
    bottom_up = [-up[0], of_image]
    for drawn, coded in zip(up[1:], down[:-1], strict=True):
        bottom_up += [-drawn, coded]
    top_down = [-top, *(-b for b in posterior[::-1]), of_image, *down]
    return Heights(*(np.cumsum([0.0, *changes]) for changes in ([*bottom_up, down[-1]], top_down)))


def codec(path: Path, gamma_min: float, gamma_max: float, num_steps: int = 25) -> None:
    """Plot the stack for both orders, with the bits that each one borrows and the final height."""
    found = heights(gamma_min, gamma_max, num_steps)
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for name, values, color in (
        ("from the bottom: draw z₀, code x, draw z₁, code z₀, …", found.bottom_up, BLUE),
        ("from the top: draw all of z_T … z₀, then code all", found.top_down, ORANGE),
    ):
        axes.step(range(len(values)), values, where="post", color=color, label=f"{name}; borrows {-values.min():.1f}")
        axes.plot([len(values) - 1], values[-1:], "o", color=color, markersize=5)
    end = found.bottom_up[-1]
    axes.axhline(end, color=BLACK, linestyle=":", label=f"what stays, the bound: {end:.2f} bits/dim")
    axes.axhline(0, color=BLACK, linewidth=0.8)
    annotate(
        axes,
        f"Bits on the stack, T = {num_steps}",
        "bits/dim beyond those that were there",
        x="operation",
        legend=False,
    )
    figure.legend(loc="outside lower center", fontsize="small")
    save(figure, path)
