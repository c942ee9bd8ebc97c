"""`vdm sample`: draw images from a checkpoint of a diffusion model's run."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from vdm import parallel, parts
from vdm.config import Config, validate
from vdm.data import examples
from vdm.data.dataset import Source
from vdm.data.selection import CHOICE, order
from vdm.errors import InputError
from vdm.evaluation.conditions import TEST
from vdm.evaluation.images import ImageSampler, ModelSampling, check_steps, frame_steps, num_shown
from vdm.evaluation.latents import Latents, mean_absolute_error, to_frames
from vdm.evaluation.texts import captions_of_lines, unknown_words
from vdm.files import expanded
from vdm.guides import LABEL, Companion, Guide
from vdm.keys import Stream
from vdm.likelihoods import REAL
from vdm.plots import images as pictures
from vdm.plots.captioned import of_lines
from vdm.plots.images import TILE
from vdm.plots.reconstructions import reconstructions, ways
from vdm.plots.samples import is_image, samples, trajectory
from vdm.plots.vectors import MOST_POINTS
from vdm.programs import captions
from vdm.progress import progress_of
from vdm.reading import number, read_text
from vdm.runs import results, shards
from vdm.runs.companions import open_companions
from vdm.runs.folder import lock
from vdm.runs.open import open_run
from vdm.runs.records import weights_digest
from vdm.settings import in_file_name, recorded

ROWS, COLUMNS = 8, 16
"""Number of pairs in an interpolation, and of images in the picture of a reconstruction."""


def with_eta(sampler: str, eta: float) -> str:
    """Return the sampler `ddim` with this η. Raises `InputError` for another sampler, and if it has an η already."""
    try:
        call = parts.read("sampler", sampler)
    except parts.PartError as error:
        raise InputError(str(error)) from error
    if call.name != "ddim":
        raise InputError(f"--eta={eta}: sampler {sampler} has no eta; must go with --sampler=ddim")
    if call.arguments:
        raise InputError(f"--eta={eta}: sampler {sampler} has one already; must go with --sampler=ddim")
    return f"ddim({eta!r})"


def text_of(captions: Sequence[str] | None, file: str | None) -> str:
    """Return `config.sampling.text` for the captions of --text, or for --texts, a file with one caption per line.

    Raises `InputError` if both are given, for an empty caption, and for a file that is missing or has no caption.
    """
    if captions is not None and file is not None:
        raise InputError("--text, --texts: must be only one of them")
    if file is None:
        given = [" ".join(caption.split()) for caption in captions or ()]
        if not all(given):
            raise InputError("--text=: must be a caption, not empty")
        return "\n".join(given)
    lines = captions_of_lines(read_text(expanded(file)))
    if not lines:
        raise InputError(f"--texts={file}: has no captions; must have one per line")
    return "\n".join(lines)


def scales_of(words: Sequence[str]) -> list[float]:
    """Parse the numbers of --sweep_guidance. Raises `InputError` for other text and for repeated numbers."""
    scales: list[float] = []
    for word in words:
        try:
            scales.append(number(word))
        except ValueError as error:
            raise InputError(f"--sweep_guidance={','.join(words)}: {word!r}: {error}") from error
    if not scales or len(set(scales)) < len(scales):
        raise InputError(f"--sweep_guidance={','.join(words)}: must be different numbers, one or more")
    return scales


def with_scale(guidance: str, scale: float) -> str:
    """Return a guidance with another scale; `none` becomes `classifier_free`.

    Raises `InputError` for a guidance without a scale, and for a scale that it cannot have.

    >>> with_scale("classifier_free(2, rescale=0.7)", 0.5), with_scale("none", 3.0)
    ('classifier_free(scale=0.5, rescale=0.7)', 'classifier_free(scale=3.0)')
    """
    try:
        call = parts.read("guidance", "classifier_free" if guidance == "none" else guidance)
    except parts.PartError as error:
        raise InputError(str(error)) from error
    if "scale" not in call.signature.parameters:
        raise InputError(f"guidance={guidance}: {call.name} has no scale")
    given = call.arguments | {"scale": scale}
    text = str(call._replace(arguments={name: given[name] for name in call.signature.parameters if name in given}))
    try:
        parts.check("guidance", text)
    except parts.PartError as error:
        raise InputError(f"--sweep_guidance: {error}") from error
    return text


class Sample:
    """A checkpoint of the run in `workdir`, ready to draw images with the settings in `config.sampling`."""

    def __init__(
        self, config: Config, workdir: Path, checkpoint: str, seed: int, console: Console, out: Path | None = None
    ):
        """Open the run; images go to `samples/` in its folder, or to `out`, and nothing else of it is changed.

        Raises `InputError` if config and checkpoint do not belong together, the model has fewer steps than the sampler,
        or the folder cannot be written.
        """
        validate(config)
        if not 0 <= seed < 2**32:
            raise InputError(f"--seed={seed}: must be from 0 to 2**32 - 1")
        check_steps(config.sampling, config.objective.num_steps)
        folder = results.folder_of(workdir, out, "samples")
        self.run, self.console = open_run(workdir, checkpoint, config=config), console
        self.settings, self.seed, self.key = config.sampling, seed, self.run.key(Stream.SAMPLING, seed)
        self.conditions = self.run.conditions(self.settings, seed)
        guide: Guide = parts.make("guidance", self.settings.guidance)
        if unknown := unknown_words(self.conditions.text, [*self.conditions.captions, *guide.captions]):
            self.console.print(f"words never seen in training: {', '.join(unknown)}", style="yellow", soft_wrap=True)
        name = results.stem(self.run, data=self.conditions.said == TEST, seed=seed)
        self.stem = folder / f"{name}_{in_file_name(config.sampling)}"

    def images(self, num_frames: int = 0) -> Path:
        """Draw `config.sampling.num` images into a folder of shards (see `shards.stream`), and return the folder.

        Beside it, writes a PNG of the first `num_shown` images and, with `num_frames`, what `plots.samples.trajectory`
        makes of their predictions x̂ on the way. Raises `InputError` if another process is drawing into the folder.
        """
        if num_frames < 0:
            raise InputError(f"--trajectory={num_frames}: must be 0 or more")
        settings, num, model = self.settings, self.settings.num, self.run.model
        steps = frame_steps(num_frames, settings.steps) if num_frames else []
        sampler = self._sampler(steps)
        frames: list[np.ndarray] = []

        def draw(first: int, count: int) -> np.ndarray:
            images, kept = sampler(
                self.run.variables,
                self.key,
                count,
                lambda done, total: progress(first + done, num),
                first,
                self.conditions(count, first),
            )
            if first == 0:
                frames.append(kept)
            return images

        held = parallel.on_main(lambda: lock(self.stem))
        with held or nullcontext(), progress_of(self.console, "sampling") as progress:
            drawn = shards.stream(self.stem, num, self._record(), draw, model.shape, model.levels)
            if steps and not frames:
                # The first images exist already, but their frames were not kept.
                shown = min(num, num_shown(model.shape))
                frames.append(sampler(self.run.variables, self.key, shown, condition=self.conditions(shown))[1])
        # Every process must call what computes with the model.
        of_steps = self._gammas(steps) if steps else []
        if not parallel.is_main():
            return self.stem
        first = next(shards.read(self.stem))
        in_picture = first[: min(num, num_shown(model.shape))]
        written = [self._path(".png")]
        names = self.conditions.names(len(in_picture))
        samples(in_picture, written[0], model.levels, self._test, self._caption(), self.conditions.rows, names)
        if steps:
            caption = self._caption("guesses x̂ on the way from noise to data")
            path = self._path(f"_trajectory_{num_frames}")
            written += trajectory(frames[0], path, self._test, caption, of_steps, ROWS)
        self.console.print(
            f"drew {drawn} images, {num - drawn} existed already: {self.stem}/shard_*.npz", soft_wrap=True
        )
        self._wrote(written)
        return self.stem

    def sweep(self, scales: Sequence[float]) -> Path:
        """Draw a PNG with a row of images for each scale of the guidance, all from the same latents; return its path.

        The guidance is that of the settings, or `classifier_free` if they have none; one compiled program draws all
        rows. Raises `InputError` for a guidance without a scale.
        """
        if not is_image(self.run.model.shape):
            raise InputError(f"--sweep_guidance: makes a picture of images; the model of {self.run.path} is of vectors")
        texts = [with_scale(self.settings.guidance, scale) for scale in scales]
        settings = replace(self.settings, guidance=texts[0], num=min(self.settings.num, COLUMNS))
        run, num, rows = self.run, settings.num, []
        sampler = ImageSampler(run.model, run.mesh, settings, companions=self._companions)
        condition = self.conditions(num)
        with progress_of(self.console, "sampling") as progress:
            for k, text in enumerate(texts):

                def report(done: int, total: int, k: int = k) -> None:
                    progress(k * total + done, len(texts) * total)

                rows.append(sampler(run.variables, self.key, num, report, condition=condition, guidance=text)[0])
        # One column per image, one row per scale.
        frames = np.swapaxes(to_frames(np.stack(rows), run.model.levels), 0, 1)
        path = self._path(f"_scales_{'_'.join(f'{scale:g}' for scale in scales)}.png")
        if parallel.is_main():
            names = self.conditions.names(num) or self.conditions.rows
            told = [] if len(set(self.conditions.captions)) == 1 else names
            columns = ["\n".join(of_lines(told[k % len(told)], TILE)) for k in range(num)] if told else ()
            family = parts.read("guidance", texts[0]).name if self.settings.guidance == "none" else ""
            caption = self._caption(" ".join(filter(None, [family, "by scale w, from the same latents"])))
            pictures.strip(frames, path, caption, columns, [f"w = {scale:g}" for scale in scales])
        self._wrote([path])
        return path

    def interpolation(self, num_frames: int) -> Path:
        """Interpolate between pairs of latents in `num_frames` images; return the path of the PNG.

        The PNG has a row for each pair; a GIF is written beside it.
        """
        if num_frames < 2:
            raise InputError(f"--interpolate={num_frames}: must be 2 or more")
        model = self.run.model
        latents = Latents(model, self.run.mesh, self.settings, self.run.variables, self._companions)
        with progress_of(self.console, "interpolating") as progress:
            pairs = min(self.settings.num, ROWS)
            images = latents.interpolate(self.key, pairs, num_frames, progress, self.conditions(pairs))
        path = self._path(f"_interpolation_{num_frames}")
        if parallel.is_main():
            caption, frames = (
                "from one latent to another, by the weight of the second one",
                to_frames(images, model.levels),
            )
            self._wrote(ways(frames, path, self._caption(caption), self._beside()))
        return path.with_name(f"{path.name}.png")

    def reconstruction(self, num: int) -> float:
        """Encode and decode `num` test images; return the mean absolute error in gray levels.

        The images are spread over the split and drawn with their own conditions. The error is printed, and a PNG shows
        the first `COLUMNS` images in a row above their reconstructions.
        """
        dataset = self.run.dataset
        if not 1 <= num <= len(dataset.test):
            raise InputError(f"--reconstruct={num}: must be from 1 to {len(dataset.test)}, the number of test images")
        batch = examples(dataset.test, order(len(dataset.test))[:num])
        images, own = batch["image"], self.run.model.condition_of(batch)
        if (leads := self.conditions.leads) and leads not in (own or {}):
            if leads not in batch:
                raise InputError(f"--reconstruct={num}: the test images have no {leads}, which the guidance needs")
            own = {**(own or {}), leads: batch[leads].astype(np.int32) if leads == LABEL else batch[leads]}
        latents = Latents(self.run.model, self.run.mesh, self.settings, self.run.variables, self._companions)
        with progress_of(self.console, "reconstructing") as progress:
            again = latents.reconstruct(images, progress, own)
        error = mean_absolute_error(images, again)
        unit = "" if self.run.model.levels == REAL else f" of {self.run.model.levels} gray levels"
        self.console.print(f"mean absolute error of {num} reconstructions: {error:.4g}{unit}")
        # Unless the stem names the data already.
        other = None if self.conditions.said == TEST else results.other_data(self.run)
        path = self._path(f"_reconstruction_{num}{f'_data_{other}' if other else ''}.png")
        if parallel.is_main():
            shown = min(num, COLUMNS) if is_image(images.shape[1:]) else num
            only = "" if shown == num else f": the first {shown} of {num}"
            given, made = (to_frames(each[:shown], self.run.model.levels) for each in (images, again))
            caption = self._caption(f"test images, and their reconstructions from latents{only}")
            reconstructions(given, made, path, caption)
        self._wrote([path])
        return error

    def _test(self) -> Source:
        """Return the test split, whose vectors are plotted beside those drawn."""
        return self.run.dataset.test

    def _beside(self) -> np.ndarray:
        """Return test vectors to plot beside those drawn; none for images."""
        if is_image(self.run.model.shape):
            return np.zeros((0, *self.run.model.shape), np.float32)
        return examples(self._test(), order(len(self._test()))[:MOST_POINTS])["image"]

    def _sampler(self, frames: Sequence[int] = ()) -> ImageSampler:
        run = self.run
        return ImageSampler(run.model, run.mesh, self.settings, frames, self._companions)

    @cached_property
    def _companions(self) -> dict[str, Companion]:
        """Networks that guide the model, by name."""
        return open_companions(self.run, self.settings.guidance)

    def _caption(self, what: str = "") -> str:
        of_samples = captions.of_samples(self.run.path, self.run.step, self.seed, self.settings)
        return "\n".join(filter(None, [of_samples, what]))

    def _gammas(self, steps: Sequence[int]) -> list[str]:
        """Return labels with the γ of the z that each prediction x̂ was made from."""
        of_model = ModelSampling(self.run.model, self.run.mesh, self.settings, self._companions)
        return captions.of_gammas(np.asarray(jax.jit(of_model.gammas)(self.run.variables))[np.asarray(steps)])

    def _path(self, suffix: str) -> Path:
        return self.stem.with_name(self.stem.name + suffix)

    def _record(self) -> dict[str, Any]:
        """Return everything that image k depends on."""
        weights = weights_digest(self.run.variables)
        of_all = {"checkpoint_step": self.run.step, "weights": weights, "seed": self.seed} | recorded(self.settings)
        with_weights = {name: each.variables for name, each in self._companions.items() if each.variables}
        of_all |= {f"weights_{name}": weights_digest(variables) for name, variables in with_weights.items()}
        if self.conditions.said != TEST:
            return of_all | {"labels": self.conditions.said}
        other = results.other_data(self.run)
        return of_all | {"labels": None, "conditions": f"of test images: {CHOICE}{f'; of {other}' if other else ''}"}

    def _wrote(self, paths: list[Path]) -> None:
        for path in paths:
            self.console.print(f"wrote {path}", soft_wrap=True)
