"""What the commands do with a model before diffusion: train it, evaluate it and draw samples from it."""

from typing import Any

from rich.console import Console

from vdm.data import Dataset, examples
from vdm.data.selection import VERSION, order
from vdm.evaluation.latents import to_frames
from vdm.keys import Stream
from vdm.model import at_precision
from vdm.plots.reconstructions import reconstructions
from vdm.plots.samples import is_image, samples
from vdm.predecessors.config import PredecessorConfig
from vdm.programs.families import family_of
from vdm.programs.hooks import Evaluate, Hook, Log, Plot, Sample, Save, extent, heeding_progress
from vdm.programs.session import Session
from vdm.programs.task import Task
from vdm.runs.kinds import model_of, objective_of
from vdm.runs.records import read_metrics

RECONSTRUCTED = 16
"""Number of test images in a picture of reconstructions."""


def task_of(config: PredecessorConfig, model: Any = None) -> Task:
    """Return the training task: the given model, or the one that the config describes, with its objective."""
    model = model_of(config, model)
    return Task(
        model=model,
        for_training=at_precision(model, config.training.precision, "training"),
        objective=objective_of(config),
        evaluate=_Evaluate(at_precision(model, config.evaluation.precision, "evaluation")),
    )


def standard() -> list[Hook]:
    """Return the default hooks: log, sample, evaluate, plot, save."""
    return [Log(), SampleLatents(), Evaluate(), PlotLayers(), Save()]


def samples_of(config: PredecessorConfig, model: Any, dataset: Dataset, console: Console) -> list[Hook]:
    """Return no further hooks."""
    return []


class _Evaluate:
    """The `Task.evaluate` of a model; its evaluator is made once."""

    def __init__(self, model: Any):
        self._model = model
        self._evaluator: Any = None

    def __call__(self, session: Session, kind: str, num_draws: int, max_images: int) -> Any:
        session.heed()
        family, images = family_of(self._model), session.dataset.test
        if self._evaluator is None:
            batch_size = session.config.evaluation.batch_size
            self._evaluator = family.evaluator(self._model, session.mesh, batch_size, session.dataset)
        key = session.key(Stream.EVALUATION)
        with heeding_progress(session, "final evaluation" if kind == "final" else "evaluating") as progress:
            result = self._evaluator(session.variables, images, key, num_draws, max_images, progress)
        # Only numbers from the same images are comparable; no version is needed where all images were evaluated.
        sample = {} if result.num_images == len(images) else {"sample": VERSION}
        session.record(kind, **family.numbers(result), **sample)
        final = "final " if kind == "final" else ""
        line = f"step {session.step}  {final}test {result} ({extent(result, len(images))})"
        session.console.print(line, style="bold", soft_wrap=True)
        session.evaluation = result
        return result


class SampleLatents(Sample):
    """Draws from the prior into samples/step_00001000.png, and reconstructs test data into …_reconstructions.png.

    For a model without a prior, only the reconstructions are drawn.
    """

    def __init__(self) -> None:
        self._sampler: Any = None

    def _draw(self, session: Session, name: str) -> None:
        session.heed()
        model, dataset, settings = session.model, session.dataset, session.config.sampling
        family = family_of(model)
        if self._sampler is None:
            self._sampler = family.sampler(model, session.mesh, settings, dataset)
        num, shown = len(dataset.test), RECONSTRUCTED if is_image(model.shape) else settings.num
        images = examples(dataset.test, order(num)[:shown])["image"]
        of_all, drawn = (session.variables, session.key(Stream.SAMPLING)), None
        with heeding_progress(session, "sampling") as progress:
            if self._sampler.draws:
                drawn = self._sampler(*of_all, settings.num, progress)
            again = self._sampler.reconstruct(*of_all, images)
        if not session.is_main:
            return
        path = session.path / "samples" / name
        caption = family.caption(session.path, session.step, session.config.seed, settings)
        if drawn is not None:
            samples(drawn, path, model.levels, lambda: dataset.test, caption)
            session.show("samples", path)
        beside = path.with_name(f"{path.stem}_reconstructions.png")
        given, made = (to_frames(each, model.levels) for each in (images, again))
        reconstructions(given, made, beside, f"{caption}\n{family.remade}")
        session.show("reconstructions", beside)


class PlotLayers(Plot):
    """Draws the loss so far, and its terms layer by layer, into plots/ after each evaluation."""

    def __call__(self, session: Session) -> None:
        result = session.evaluation
        if not session.is_main or result is None:
            return
        records = read_metrics(session.path / "metrics.jsonl")
        path = family_of(session.model).plot(session.path / "plots", records, result)
        session.show("layers", path)
