"""Figures of trained runs with learned latents: what `vdm plots holes` and `vdm plots traversals` draw."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vdm.config import Config
from vdm.data import examples, selected
from vdm.errors import InputError
from vdm.evaluation.latents import Latents, to_frames
from vdm.keys import Stream
from vdm.plots import holes, traversals
from vdm.predecessors.latent import LatentModel
from vdm.runs.open import Run, open_run
from vdm.runs.places import split_checkpoint

FRAMES, ROWS, PAIRS = 11, 6, 3
"""Number of images in a row, of latents at most, and of pairs of images."""
IMAGES = 2000
"""Number of training images at most by which the most active latents are found."""


def opened(runs: Sequence[str]) -> list[Run]:
    """Open runs, each given as RUN or RUN:CHECKPOINT. Raises `InputError` as `open_run` does."""
    return [open_run(*split_checkpoint(run)) for run in runs]


def draw_holes(path: Path, runs: Sequence[Run]) -> None:
    """Draw `plots.holes.aggregate` with a row for each run.

    Raises `InputError` for a run unless its data are points in the plane and its top layer has two latents.
    """
    panels = []
    for run in runs:
        _check_latent(run)
        train = run.dataset.train
        images = examples(train, selected(len(train), holes.POINTS))["image"]
        # Shuffled, as many data are sorted, and the first images would be of one kind.
        images = images[np.random.default_rng(0).permutation(len(images))]
        name = f"{run.path.name}: {run.config.model.name}, β = {run.config.objective.beta:g}"
        try:
            panels.append(holes.panel(name, run.model, run.variables, images, run.key(Stream.EVALUATION)))
        except ValueError as error:
            raise InputError(f"--runs={run.path}: {error}") from error
    holes.aggregate(path, panels)


def draw_traversals(path: Path, runs: Sequence[Run]) -> None:
    """Draw `plots.traversals` of a run with learned latents and, if a second run is given, of a diffusion model.

    Raises `InputError` for other runs, and for data that are not images.
    """
    latent, diffusion = runs[0], runs[1] if len(runs) == 2 else None
    if len(runs) > 2 or (diffusion is not None and not isinstance(diffusion.config, Config)):
        raise InputError("--runs: must be a run with learned latents and, if any, one of a diffusion model")
    _check_latent(latent)
    if len(latent.model.shape) != 3:
        raise InputError(f"--runs={latent.path}: data of shape {tuple(latent.model.shape)}; must be images")
    key, train = latent.key(Stream.EVALUATION), latent.dataset.train
    images = examples(train, selected(len(train), IMAGES))["image"]
    chosen = traversals.most_active(latent.model, latent.variables, images, key, ROWS)
    frames = traversals.along(latent.model, latent.variables, images[:1], chosen, FRAMES)
    between = None
    if diffusion is not None:
        if tuple(diffusion.model.shape) != tuple(latent.model.shape):
            raise InputError(f"--runs={diffusion.path}: data of another shape, {tuple(diffusion.model.shape)}")
        sampling = replace(diffusion.config.sampling, sampler="ddim")
        latents = Latents(diffusion.model, diffusion.mesh, sampling, diffusion.variables)
        condition = diffusion.conditions(sampling, diffusion.config.seed)(PAIRS)
        drawn = latents.interpolate(diffusion.key(Stream.SAMPLING), PAIRS, FRAMES, condition=condition)
        between = to_frames(drawn, diffusion.model.levels)
    reach = f"{latent.config.model.name}: one latent from −{traversals.REACH:g} to {traversals.REACH:g} in each row"
    below = "\nDDIM: from one image to another, by interpolating their z₁" if between is not None else ""
    traversals.traversals(path, frames, [f"latent {k + 1}" for k in chosen], between, reach + below)


def _check_latent(run: Run) -> None:
    if not isinstance(run.model, LatentModel):
        raise InputError(f"--runs={run.path}: has no learned latents; must be of a VAE or a hierarchical VAE")
