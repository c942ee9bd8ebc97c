"""`vdm sample` of a model before diffusion: draws from the prior, interpolations of latents, reconstructions."""

from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vdm import parallel
from vdm.config import validate
from vdm.data import examples
from vdm.data.selection import order
from vdm.errors import InputError
from vdm.evaluation.images import num_shown
from vdm.evaluation.latents import mean_absolute_error, to_frames
from vdm.keys import Stream
from vdm.plots.reconstructions import reconstructions, ways
from vdm.plots.samples import is_image, samples
from vdm.plots.vectors import MOST_POINTS
from vdm.predecessors.config import PredecessorConfig
from vdm.predecessors.latent import LatentModel
from vdm.programs.families import Family, family_of
from vdm.programs.sample import COLUMNS, ROWS
from vdm.progress import progress_of
from vdm.runs import results, shards
from vdm.runs.folder import lock
from vdm.runs.open import open_run
from vdm.runs.records import weights_digest
from vdm.settings import in_file_name, recorded


def sample(config: PredecessorConfig, workdir: Path, console: Console, given: Any, out: Path | None) -> None:
    """Run `vdm sample` with these flags."""
    for name in ("num", "decode", "precision"):
        if given[name].value is not None:
            setattr(config.sampling, name, given[name].value)
    if given.interpolate is not None and given.reconstruct is not None:
        raise InputError("--interpolate, --reconstruct: one at a time")
    drawn = LatentSample(config, workdir, given.checkpoint, given.seed, console, out)
    if given.decode is not None and not isinstance(drawn.run.model, LatentModel):
        raise InputError("--decode: is for models that draw images; a ladder network only denoises")
    if given.interpolate is not None:
        drawn.interpolation(given.interpolate)
    elif given.reconstruct is not None:
        drawn.reconstruction(given.reconstruct)
    else:
        drawn.images()


class LatentSample:
    """A checkpoint of the run in `workdir`, ready to draw images with the settings in `config.sampling`."""

    def __init__(
        self,
        config: PredecessorConfig,
        workdir: Path,
        checkpoint: str,
        seed: int,
        console: Console,
        out: Path | None = None,
    ):
        """Open the run; images go to `samples/` in its folder, or to `out`, and nothing else of it is changed.

        Raises `InputError` if config and checkpoint do not belong together, or the folder cannot be written.
        """
        validate(config)
        if not 0 <= seed < 2**32:
            raise InputError(f"--seed={seed}: must be from 0 to 2**32 - 1")
        folder = results.folder_of(workdir, out, "samples")
        self.run, self.console = open_run(workdir, checkpoint, config=config), console
        self.settings, self.seed, self.key = config.sampling, seed, self.run.key(Stream.SAMPLING, seed)
        self.stem = folder / f"{results.stem(self.run, data=False, seed=seed)}_{in_file_name(config.sampling)}"

    def conditions(self, num: int) -> None:
        """Return None: these models have no conditions."""

    def images(self) -> Path:
        """Draw `config.sampling.num` images into a folder of shards (see `shards.stream`), and a PNG of the first ones.

        Returns the folder. Raises `InputError` if another process is drawing into it, and for a model without a prior.
        """
        num, model = self.settings.num, self.run.model
        if not self._sampler.draws:
            self._sampler()
        held = parallel.on_main(lambda: lock(self.stem))
        with held or nullcontext(), progress_of(self.console, "sampling") as progress:

            def draw(first: int, count: int) -> np.ndarray:
                def report(done: int, total: int) -> None:
                    progress(first + done, num)

                images: np.ndarray = self._sampler(self.run.variables, self.key, count, report, first)
                return images

            drawn = shards.stream(self.stem, num, self._record(), draw, model.shape, model.levels)
        if parallel.is_main():
            first = next(shards.read(self.stem))[: min(num, num_shown(model.shape))]
            samples(first, self._path(".png"), model.levels, lambda: self.run.dataset.test, self._caption())
            there = f"{num - drawn} existed already: {self.stem}/shard_*.npz"
            self.console.print(f"drew {drawn} images, {there}", soft_wrap=True)
            self._wrote(self._path(".png"))
        return self.stem

    def interpolation(self, num_frames: int) -> Path:
        """Interpolate between pairs of draws in `num_frames` images; return the path of the PNG.

        The PNG has a row for each pair; a GIF is written beside it.
        """
        if num_frames < 2:
            raise InputError(f"--interpolate={num_frames}: must be 2 or more")
        run = self.run
        with progress_of(self.console, "interpolating") as progress:
            pairs = min(self.settings.num, ROWS)
            frames = self._sampler.interpolate(run.variables, self.key, pairs, num_frames, progress)
        path = self._path(f"_interpolation_{num_frames}")
        if parallel.is_main():
            caption = self._caption("from one draw to another, by the weight of the second one's latents")
            self._wrote(*ways(to_frames(frames, run.model.levels), path, caption, self._test(MOST_POINTS)))
        return path.with_name(f"{path.name}.png")

    def reconstruction(self, num: int) -> float:
        """Reconstruct `num` test images from a draw of their latents; return the mean absolute error in gray levels.

        The images are spread over the split. The error is printed, and a PNG shows the first `COLUMNS` images in a row
        above their reconstructions, or all vectors beside theirs.
        """
        run, available = self.run, len(self.run.dataset.test)
        if not 1 <= num <= available:
            raise InputError(f"--reconstruct={num}: must be from 1 to {available}, the number of test images")
        images, levels = self._test(num), run.model.levels
        with progress_of(self.console, "reconstructing") as progress:
            again = self._sampler.reconstruct(run.variables, self.key, images, progress)
        error = mean_absolute_error(images, again)
        unit = f" of {levels} gray levels" if levels else ""
        self.console.print(f"mean absolute error of {num} reconstructions: {error:.4g}{unit}")
        other = results.other_data(run)
        path = self._path(f"_reconstruction_{num}{f'_data_{other}' if other else ''}.png")
        if parallel.is_main():
            shown = COLUMNS if is_image(run.model.shape) else num
            caption = self._caption(self._family.remade)
            given, made = (to_frames(each[:shown], levels) for each in (images, again))
            reconstructions(given, made, path, caption)
            self._wrote(path)
        return error

    def _test(self, num: int) -> np.ndarray:
        """Return `num` test images spread over the split, or all if there are fewer."""
        test = self.run.dataset.test
        images: np.ndarray = examples(test, order(len(test))[:num])["image"]
        return images

    @property
    def _family(self) -> Family:
        return family_of(self.run.model)

    @cached_property
    def _sampler(self) -> Any:
        run = self.run
        return self._family.sampler(run.model, run.mesh, self.settings, run.dataset)

    def _caption(self, what: str = "") -> str:
        of_samples = self._family.caption(self.run.path, self.run.step, self.seed, self.settings)
        return "\n".join(filter(None, [of_samples, what]))

    def _path(self, suffix: str) -> Path:
        return self.stem.with_name(self.stem.name + suffix)

    def _record(self) -> dict[str, Any]:
        """Return everything that image k depends on."""
        weights = weights_digest(self.run.variables)
        return {"checkpoint_step": self.run.step, "weights": weights, "seed": self.seed} | recorded(self.settings)

    def _wrote(self, *paths: Path) -> None:
        for path in paths:
            self.console.print(f"wrote {path}", soft_wrap=True)
