"""Pictures of the hole problem: aggregate posterior against prior (Fig. 2.4 of De Sousa Ribeiro & Glocker 2024)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from vdm import likelihoods
from vdm.evaluation.holes import FACTORS, Holes, holes, on_grid, posteriors
from vdm.model import Variables
from vdm.plots.axes import BLUE, RED, save
from vdm.predecessors.latent import LatentModel
from vdm.predecessors.normal import Normal

SHOWN = 400
"""Number of points of each kind in a scatter plot."""
POINTS = 5000
"""Largest number of posteriors whose mixture estimates the aggregate posterior."""
EXTENT, CELLS = 3.8, 160
MASSES = (0.5, 0.9, 0.99)
"""Probability mass of the prior inside each circle."""
SHADES = ("#D6604D", "#FDDBC7", "#FFFFFF")
"""Colors of the regions where q(z)/p(z) is below the lower factor, below the upper factor, and above both."""

Plane = Float[np.ndarray, "num 2"]


class Panel(NamedTuple):
    """The content of one row of the picture: a model with two latents, trained on points of the plane."""

    name: str
    """Name of the model, used as the title."""
    data: Plane
    """Training points."""
    reconstructions: Plane
    """Reconstructions of `data`."""
    samples: Plane
    """Samples of the model."""
    posterior: Normal
    """q(z|x_i) of shape (num, 2); their uniform mixture is the aggregate posterior."""
    measured: Holes
    """The size of the holes."""


def panel(
    name: str, model: LatentModel, variables: Variables, images: Num[np.ndarray, "num *data"], key: PRNGKeyArray
) -> Panel:
    """Compute a model's row from training points. Of p(x|z) it shows the centers, without the decoder's noise.

    Raises ValueError unless the data are points of the plane and the top layer has two latents.
    """
    if tuple(model.shape) != (2,) or model.latent_shapes[-1] != (2,):
        latents = "×".join(map(str, model.latent_shapes[-1]))
        raise ValueError(f"data of shape {tuple(model.shape)}, {latents} latents; must be points, (2,), and 2 latents")
    keys = jax.random.split(key, 4)
    posterior = posteriors(model, variables, images[:POINTS], keys[0])
    some = jnp.asarray(images[:SHOWN])

    return Panel(
        name,
        np.asarray(likelihoods.encode(some, model.levels)),
        np.asarray(model.reconstruct(variables, some, model.draw(keys[1], len(some))).center),
        np.asarray(model.generate(variables, model.draw(keys[2], len(some))).center),
        posterior,
        holes(posterior, keys[3]),
    )


def aggregate(path: Path, panels: Sequence[Panel], extent: float = EXTENT) -> None:
    """Write one row per model: its data, reconstructions and samples; q(z) with circles of the prior; and the holes.

    The circles contain the shares `MASSES` of the prior, and the axes of the latents run from −extent to extent.
    """
    figure = Figure(figsize=(10.5, 3.5 * len(panels)), layout="constrained")
    rows = figure.subplots(len(panels), 3, squeeze=False)
    limit = 1.1 * max(float(np.abs(values).max()) for each in panels for values in (each.data, each.samples))
    for (of_data, of_density, of_holes), each in zip(rows, panels, strict=True):
        _data(of_data, each, limit)
        z, ratio = on_grid(each.posterior, extent, CELLS)
        log_q = ratio - 0.5 * np.sum(np.square(z), axis=1)
        # The square root keeps one narrow peak from leaving everything else white.
        _latents(of_density, np.sqrt(np.exp(log_q - log_q.max())), extent, "Greys", (0.0, 1.0))
        of_density.set_title("aggregate posterior $q(z)$, prior $p(z)$", fontsize="medium")
        depth = np.searchsorted(np.log(FACTORS), ratio, side="right").astype(float)
        _latents(of_holes, depth, extent, ListedColormap(SHADES), (-0.5, len(FACTORS) + 0.5))
        of_holes.set_title(_said(each.measured), fontsize="small")
    figure.legend(*rows[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=3, fontsize="small")
    save(figure, path)


def _data(axes: Axes, each: Panel, limit: float) -> None:
    axes.scatter(each.data[:, 0], each.data[:, 1], s=7, color="silver", label="data")
    rings = (each.reconstructions, RED, "reconstructions"), (each.samples, BLUE, "samples")
    for points, color, label in rings:
        x, y = points.T
        axes.scatter(x, y, s=11, facecolors="none", edgecolors=color, linewidths=0.7, label=label)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    axes.set_title(each.name, fontsize="medium")


def _latents(
    axes: Axes, values: Float[np.ndarray, " num"], extent: float, cmap: str | ListedColormap, ends: tuple[float, float]
) -> None:
    """Draw values on a grid over two latents, with z_1 on the horizontal axis, and the prior's circles."""
    axes.imshow(
        values.reshape(CELLS, CELLS).T,
        origin="lower",
        extent=(-extent, extent, -extent, extent),
        cmap=cmap,
        vmin=ends[0],
        vmax=ends[1],
    )
    for mass in MASSES:
        radius = np.sqrt(-2 * np.log1p(-mass))
        axes.add_patch(Circle((0, 0), radius, fill=False, color=BLUE, linewidth=1))
    axes.set(xlabel="$z_1$", ylabel="$z_2$")


def _said(found: Holes) -> str:
    shares = [
        f"{shade}: $q < {each.factor:g}\\,p$, {each.share:.1%} of the prior"
        for shade, each in zip(("dark", "light"), found.below, strict=True)
    ]
    return "\n".join(
        [
            *shares,
            f"KL(q‖p) {found.forward.value:z.2f}, KL(p‖q) {found.reverse.value:z.2f}, rate {found.rate:.2f} nats",
        ]
    )
