"""`train`: train the model of a config in a folder, evaluate it on the test split and draw samples."""

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
    """Train, or resume, the run in `workdir`, and return the final evaluation of the moving average.

        config = Config(training=TrainingConfig(steps=1000))
        evaluation = vdm.train(config, "runs/mine")
        print(evaluation.total, "bits/dim")

    A `Config` describes a diffusion model and leads to an `Evaluation`, a `PredecessorConfig` a model before diffusion,
    which leads to a `LatentEvaluation` or a `LadderEvaluation`. The rest applies to both.

    `dataset` replaces the data that `config.data` names, and `model` the model that the config describes: its network
    may be any Flax module (see `Model`) and computes in the precisions of the config (`training.precision`, …). To
    resume, pass the same ones again: data are identified by their record (`DatasetInfo`), models by the names and
    shapes of their variables.

    With more `config.training.steps`, a run with a constant learning rate continues past its end, bit for bit as if it
    had been that long from the start. With cosine decay this would be another schedule of the rate, and is refused. A
    new run can start from the weights of another run of the same model: `init_from` is RUN or RUN:CHECKPOINT (`latest`,
    `best` or a step). That run's moving average becomes the variables and the moving average of step 0; optimizer,
    learning rate schedule, random streams and data order start anew. run.json records the origin.

    `hooks` are called between steps, in this order; by default `vdm.programs.hooks.standard()`: log, sample, evaluate,
    plot, save. Without these a run leaves no logs, no pictures or no checkpoints. Whatever the hooks, samples are
    measured as `config.evaluation.metrics` asks, the final evaluation is made, and a request to stop is heeded and its
    checkpoint saved. The steps from `profile[0]` to `profile[1]` are traced. With several processes, all call it with
    the same arguments.

    Raises `InputError` for bad input, `NonFiniteError` with the step and the term that is not finite, and `Stopped`
    after SIGTERM or Ctrl-C.
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
