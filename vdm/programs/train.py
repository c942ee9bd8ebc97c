"""`train`: from a config and a folder to a trained model, its test bits/dim and its samples."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config, validate
from vdm.data import Dataset, load, resolve
from vdm.evaluation.bound import Evaluation
from vdm.evaluation.conditions import Conditions
from vdm.evaluation.images import ModelSampling, with_steps_of
from vdm.files import check_writable
from vdm.model import Model
from vdm.programs import streams
from vdm.programs.hooks import Hook, evaluate, standard
from vdm.programs.loop import run
from vdm.programs.measured_samples import MeasureSamples
from vdm.programs.task import Task
from vdm.progress import progress_of
from vdm.runs.open import model_of
from vdm.training import objective as objective_lib


def train(
    config: Config,
    workdir: str | Path,
    dataset: Dataset | None = None,
    model: Model | None = None,
    hooks: Sequence[Hook] | None = None,
    console: Console | None = None,
    profile: tuple[int, int] | None = None,
    init_from: str | None = None,
) -> Evaluation:
    """Trains, or goes on training, the run in `workdir`; returns the final evaluation of the moving average.

        config = Config(training=TrainingConfig(steps=1000))
        evaluation = vdm.train(config, "runs/mine")
        print(evaluation.total, "bits/dim")

    `dataset` is trained on in place of the one that `config.data` names, and `model` is trained in place of the one
    that the config describes: its network may be any Flax module (see `Model`), and computes in what
    `config.training.precision`, … say. To go on, give the same ones again:
    data are told apart by their record (`DatasetInfo`), models by the names and shapes of their variables.

    With more `config.training.steps`, a run of constant learning rate goes on past its end, to the bit as if it had
    been that long from the start. With cosine decay that would be another course of the rate, and is refused. A new run
    may start from another one's weights: `init_from` is RUN or RUN:CHECKPOINT (`latest`, `best` or a step), of the same
    model. Its moving average becomes the variables and the moving average of step 0; the optimizer, the course of the
    learning rate, the random streams and the data order begin anew. run.json records it.

    `hooks` are what is done beside the steps, in this order; by default `vdm.programs.hooks.standard()`: log, sample,
    evaluate, plot, save. Without those a run leaves no logs, no pictures or no checkpoint. Whatever they are, samples
    are measured as `config.evaluation.metrics` says, the final evaluation is made, a request to stop is heeded, and its
    checkpoint saved. The steps from `profile[0]` to `profile[1]` are traced. Of several processes, all call it with the
    same arguments.

    Raises `InputError` for bad input, `NonFiniteError` with step and term, and `Stopped` after SIGTERM or Ctrl-C.
    """
    # Nothing is written before all input has been checked.
    validate(config)
    workdir, hooks = Path(workdir), standard() if hooks is None else list(hooks)
    console = streams.make_console(quiet=not parallel.is_main()) if console is None else console
    parallel.on_main(lambda: check_writable(workdir, "--workdir"))
    given = [] if model is None else ["model"]
    if dataset is None:
        with progress_of(console, "reading the data") as progress:
            dataset = load(config.data, progress)
    elif dataset.info.name != config.data.name:
        given.append("dataset")
        config = replace(config, data=replace(config.data, name=dataset.info.name))
    config = resolve(config, dataset)
    task = task_of(config, model)
    _check_sampling(config, task.model, dataset)
    if config.evaluation.metrics:
        hooks = [*hooks, MeasureSamples(config, dataset, task.model, console)]
    result: Evaluation = run(task, config, workdir, dataset, hooks, console, given, profile, init_from)
    return result


def _check_sampling(config: Config, model: Any, dataset: Dataset) -> None:
    """Raises `InputError` for settings that samples could not be drawn with while training."""
    sampling = with_steps_of(config.sampling, model.num_steps)
    ModelSampling(model, None, sampling)
    Conditions(model, sampling.labels, dataset.info.classes, lambda: dataset.test, config.seed)


def task_of(config: Config, model: Model | None = None) -> Task:
    """That of a diffusion model: the one that the config describes, or the given one."""
    return Task(
        model=model_of(config, model),
        for_training=model_lib.for_training(config, model),
        objective=objective_lib.from_config(config),
        evaluate=evaluate,
    )
