"""`train`: from a config and a folder to a trained model, its test bits/dim and its samples."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from vdm import parallel
from vdm.config import validate
from vdm.data import Dataset, load
from vdm.data.texts import encoded
from vdm.files import check_writable
from vdm.programs import kinds, streams
from vdm.programs.hooks import Hook
from vdm.programs.loop import run
from vdm.programs.report import report_of_training
from vdm.progress import progress_of
from vdm.runs import trackers
from vdm.runs.kinds import resolve
from vdm.runs.places import check_writable_run
from vdm.runs.records import checkpoint_steps
from vdm.runs.texts import read_text


def train(
    config: Any,
    workdir: str | Path,
    dataset: Dataset | None = None,
    model: Any = None,
    hooks: Sequence[Hook] | None = None,
    console: Console | None = None,
    profile: tuple[int, int] | None = None,
    init_from: str | None = None,
) -> Any:
    """Trains, or goes on training, the run in `workdir`; returns the final evaluation of the moving average.

        config = Config(training=TrainingConfig(steps=1000))
        evaluation = vdm.train(config, "runs/mine")
        print(evaluation.total, "bits/dim")

    A `Config` is of a diffusion model, whose evaluation is an `Evaluation`; a `PredecessorConfig` of a model before
    diffusion, with a `LatentEvaluation`. What follows is of both.

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
    kind = kinds.of(config)
    workdir, hooks = Path(workdir), kind.hooks() if hooks is None else list(hooks)
    console = streams.make_console(quiet=not parallel.is_main()) if console is None else console
    check_writable_run(workdir, "--workdir")
    parallel.on_main(lambda: check_writable(workdir, "--workdir"))
    trackers.check(config.training.loggers)
    given = [] if model is None else ["model"]
    text = read_text(workdir) if checkpoint_steps(workdir) else None
    if dataset is None:
        with progress_of(console, "reading the data") as progress:
            dataset = load(config.data, progress, text)
    else:
        dataset = encoded(dataset, text or config.data.text)
        if dataset.info.name != config.data.name:
            given.append("dataset")
            config = replace(config, data=replace(config.data, name=dataset.info.name))
    config = resolve(config, dataset)
    task = kind.task(config, model)
    hooks = [*hooks, *kind.samples(config, task.model, dataset, console)]
    result = run(task, config, workdir, dataset, hooks, console, given, profile, init_from)
    if parallel.is_main():
        report_of_training(workdir, dataset, console)
    return result
