"""sample.py: images from a run's checkpoint."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config, validate
from vdm.data import load
from vdm.errors import InputError
from vdm.evaluation.images import SHOWN, ImageSampler, check_steps, frame_steps
from vdm.evaluation.latents import Latents, mean_absolute_error, to_frames
from vdm.keys import Stream, stream_key
from vdm.model import Variables
from vdm.plots import images as pictures
from vdm.programs.train import resolve
from vdm.progress import progress_of
from vdm.runs import shards
from vdm.runs.checkpoints import restore
from vdm.runs.folder import check_model_and_data, check_same_model, lock, read_config, weights_digest
from vdm.settings import in_file_name, recorded

ROWS, COLUMNS = 8, 16
"""Pairs of an interpolation; images in the picture of a reconstruction."""


def with_eta(sampler: str, eta: float) -> str:
    """A config's `ddim` with this η. Raises `InputError` for another sampler."""
    if sampler.partition("(")[0].strip() != "ddim":
        raise InputError(f"--eta={eta}: sampler {sampler} has no eta; must go with --sampler=ddim")
    return f"ddim({eta!r})"


class Sample:
    """A checkpoint of the run in `workdir`, to draw images with the settings of `config.sampling`."""

    def __init__(self, config: Config, workdir: Path, checkpoint: str, seed: int, console: Console):
        """Raises `InputError` if config and checkpoint do not belong together, or the model has fewer steps."""
        validate(config)
        if not 0 <= seed < 2**32:
            raise InputError(f"--seed={seed}: must be from 0 to 2**32 - 1")
        check_same_model(read_config(workdir), config, workdir)
        check_steps(config.sampling, config.objective.num_steps)
        self.config, self.settings, self.workdir, self.console = config, config.sampling, workdir, console
        self.mesh, self.model = parallel.make_mesh(), model_lib.from_config(config)
        state = restore(config, workdir, self.mesh, checkpoint)
        self.variables: Variables = state.ema
        self.step, self.seed, self.key = int(state.step), seed, stream_key(seed, Stream.SAMPLING)
        self.stem = workdir / "samples" / stem(config, self.step, seed)

    def images(self, num_frames: int = 0) -> Path:
        """`config.sampling.num` images as shards (see `shards.stream`) in the returned folder, and what they look like.

        Beside it a PNG of the first `SHOWN`, and with `num_frames` a strip and an animation of their guesses x̂. Raises
        `InputError` if another process is drawing into that folder.
        """
        if num_frames < 0:
            raise InputError(f"--trajectory={num_frames}: must be 0 or more")
        settings, num = self.settings, self.settings.num
        steps = frame_steps(num_frames, settings.steps) if num_frames else []
        sampler = ImageSampler(self.model, self.mesh, settings, steps)
        frames: list[np.ndarray] = []

        def draw(first: int, count: int) -> np.ndarray:
            images, kept = sampler(
                self.variables, self.key, count, lambda done, total: progress(first + done, num), first
            )
            if first == 0:
                frames.append(kept)
            return images

        held = parallel.on_main(lambda: lock(self.stem))
        with held or nullcontext(), progress_of(self.console, "sampling") as progress:
            drawn = shards.stream(self.stem, num, self._record(), draw)
            if steps and not frames:
                # The first images were there, but not their frames.
                frames.append(sampler(self.variables, self.key, min(num, SHOWN))[1])
        if not parallel.is_main():
            return self.stem
        first = next(shards.read(self.stem))
        pictures.grid(first[: min(num, SHOWN)], self._path(".png"), self.model.levels)
        written = [self._path(".png")]
        if steps:
            written += [self._path("_strip.png"), self._path(".gif")]
            pictures.strip(frames[0][:, :ROWS], written[1])
            pictures.animation(frames[0], written[2])
        self.console.print(f"drew {drawn} images, {num - drawn} were there: {self.stem}/shard_*.npz", soft_wrap=True)
        self._wrote(written)
        return self.stem

    def interpolation(self, num_frames: int) -> Path:
        """A PNG with a row a pair of latents, and a GIF: `num_frames` images from one to the other. Returns the PNG."""
        if num_frames < 2:
            raise InputError(f"--interpolate={num_frames}: must be 2 or more")
        latents = Latents(self.model, self.mesh, self.settings, self.variables)
        with progress_of(self.console, "interpolating") as progress:
            images = latents.interpolate(self.key, min(self.settings.num, ROWS), num_frames, progress)
        frames = to_frames(images, self.model.levels)
        written = [self._path("_interpolation.png"), self._path("_interpolation.gif")]
        if parallel.is_main():
            pictures.strip(frames, written[0])
            pictures.animation(frames, written[1])
        self._wrote(written)
        return written[0]

    def reconstruction(self, num: int) -> float:
        """The mean absolute error, in grey levels, of the first `num` test images made anew from their latents.

        It is printed; a PNG has the first `COLUMNS` images in a row above their reconstructions.
        """
        dataset = load(self.config.data)
        if not 1 <= num <= len(dataset.test):
            raise InputError(f"--reconstruct={num}: must be from 1 to {len(dataset.test)}, the number of test images")
        check_model_and_data(resolve(self.config, dataset), dataset.info.to_dict(), self.workdir)
        images = np.stack([dataset.test[k] for k in range(num)])
        latents = Latents(self.model, self.mesh, self.settings, self.variables)
        with progress_of(self.console, "reconstructing") as progress:
            again = latents.reconstruct(images, progress)
        error = mean_absolute_error(images, again)
        rows = np.stack([images, again], axis=1)[:COLUMNS]
        if parallel.is_main():
            pictures.strip(to_frames(rows, self.model.levels), self._path("_reconstruction.png"))
        self.console.print(
            f"mean absolute error of {num} reconstructions: {error:.4g} of {self.model.levels} grey levels"
        )
        self._wrote([self._path("_reconstruction.png")])
        return error

    def _path(self, suffix: str) -> Path:
        return self.stem.with_name(self.stem.name + suffix)

    def _record(self) -> dict[str, Any]:
        """All that image k depends on."""
        weights = weights_digest(self.variables)
        return {"checkpoint_step": self.step, "weights": weights, "seed": self.seed} | recorded(self.settings)

    def _wrote(self, paths: list[Path]) -> None:
        for path in paths:
            self.console.print(f"wrote {path}", soft_wrap=True)


def stem(config: Config, step: int, seed: int) -> str:
    """The name of the samples of a checkpoint, seed and settings: step_1000_seed_0_T_250_ddim_0.5, …."""
    return f"step_{step}_seed_{seed}_{in_file_name(config.sampling)}"
