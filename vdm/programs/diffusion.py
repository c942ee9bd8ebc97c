"""What the commands do with a diffusion model: train it, evaluate it and draw samples from it."""

from pathlib import Path
from typing import Any

from rich.console import Console

from vdm import guides
from vdm import model as model_lib
from vdm.config import Config
from vdm.data import Dataset
from vdm.errors import InputError
from vdm.evaluation.conditions import requested
from vdm.evaluation.images import ModelSampling, with_steps_of
from vdm.model import Model
from vdm.programs.evaluate import Evaluate, parse_steps
from vdm.programs.hooks import Hook
from vdm.programs.hooks import evaluate as evaluate_session
from vdm.programs.measured import SCORING, WEIGHTING, mode_of
from vdm.programs.measured_samples import MeasureSamples
from vdm.programs.sample import Sample, scales_of, text_of, with_eta
from vdm.programs.score_samples import score_by
from vdm.programs.task import Task
from vdm.runs.kinds import model_of, objective_of

MODES = {
    "ode": ("it is in continuous time, with --ode=DRAWS draws", ("probes", "tolerance", "images")),
    "classify": ("its bounds are at the model's own T, with --classify=DRAWS draws", ("drop_error", "prior", "images")),
    "metrics": SCORING,
    "importance": WEIGHTING,
}
"""What `vdm evaluate` can measure instead of the bound; see `mode_of`."""


def task_of(config: Config, model: Model | None = None) -> Task:
    """Return the training task: the given model, or the one that the config describes, with its objective."""
    return Task(
        model=model_of(config, model),
        for_training=model_lib.for_training(config, model),
        objective=objective_of(config),
        evaluate=evaluate_session,
    )


def samples_of(config: Config, model: Any, dataset: Dataset, console: Console) -> list[Hook]:
    """Return the hook that measures samples during training, if the config asks for metrics.

    Raises `InputError` for settings that no samples can be drawn with.
    """
    sampling = with_steps_of(config.sampling, model.num_steps)
    ModelSampling(model, None, sampling, guides.of_text(dataset.text))
    requested(model, sampling, config.seed, dataset.info.classes, lambda: dataset.test, dataset.text)
    return [MeasureSamples(config, dataset, model, console)] if config.evaluation.metrics else []


def evaluate(config: Config, workdir: Path, console: Console, given: Any, out: Path | None) -> None:
    """Run `vdm evaluate` with these flags."""
    if given.variance is not None and (given.T is not None or given.stderr is not None):
        raise InputError("--variance: cannot be combined with --T or --stderr; it is in continuous time")
    mode_of(given, MODES, ("T", "stderr", "variance"), together=("importance", "T"))
    if given.metrics is not None:
        if given.num is not None:
            config.sampling.num = given.num
        config.sampling = with_steps_of(config.sampling, config.objective.num_steps)
        score_by(given, Sample(config, workdir, given.checkpoint, 0, console, out), config.evaluation.batch_size)
        return
    steps = None if given.T is None else parse_steps(given.T)
    measured = Evaluate(config, workdir, given.checkpoint, console, out)
    if given.ode is not None:
        measured.ode(given.ode, given.probes, given.tolerance, given.images)
    elif given.importance is not None:
        measured.importance_at(steps, given.importance, given.images)
    elif given.classify is not None:
        measured.classify(given.classify, given.drop_error, given.prior or "uniform", given.images)
    elif given.variance is not None:
        measured.variance(given.variance)
    else:
        measured.bound(steps, given.stderr)


def sample(config: Config, workdir: Path, console: Console, given: Any, out: Path | None) -> None:
    """Run `vdm sample` with these flags."""
    if given.text is not None or given.texts is not None:
        config.sampling.text = text_of(given.text, given.texts)
    for name in ("num", "sampler", "grid", "labels", "guidance", "clip", "decode", "precision"):
        if given[name].value is not None:
            setattr(config.sampling, name, given[name].value)
    if given.eta is not None:
        config.sampling.sampler = with_eta(config.sampling.sampler, given.eta)
    if given.steps is None:
        config.sampling = with_steps_of(config.sampling, config.objective.num_steps)
    else:
        config.sampling.steps = given.steps
    instead = [name for name in ("sweep_guidance", "interpolate", "reconstruct") if given[name].value is not None]
    if len(instead) + (given.trajectory != 0) > 1:
        raise InputError("--trajectory, --sweep_guidance, --interpolate, --reconstruct: one at a time")
    scales = None if given.sweep_guidance is None else scales_of(given.sweep_guidance)
    drawn = Sample(config, workdir, given.checkpoint, given.seed, console, out)
    if scales is not None:
        drawn.sweep(scales)
    elif given.interpolate is not None:
        drawn.interpolation(given.interpolate)
    elif given.reconstruct is not None:
        drawn.reconstruction(given.reconstruct)
    else:
        drawn.images(given.trajectory)
