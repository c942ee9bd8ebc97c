"""`train`: from a config and a folder to a trained model, its test bits/dim and its samples."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from vdm import memory, parallel
from vdm import model as model_lib
from vdm.config import Config, RunConfig, validate
from vdm.data import Dataset, load, resolve
from vdm.errors import InputError, WorkerDied, is_disk_full
from vdm.evaluation.bound import Evaluation
from vdm.evaluation.images import ModelSampling, with_steps_of
from vdm.files import check_writable
from vdm.model import Batch, Model
from vdm.programs import compilation, streams
from vdm.programs.hooks import Hook, call, evaluate, standard
from vdm.programs.profile import Profile
from vdm.programs.session import Session, open_session
from vdm.programs.task import Task
from vdm.progress import progress_of
from vdm.reading import is_whole
from vdm.runs.open import model_of
from vdm.runs.records import write_evaluation
from vdm.training import objective as objective_lib
from vdm.training.state import TrainState, make_optimizer
from vdm.training.step import Metrics, jit_train_step, jit_train_steps

Steps = Callable[..., tuple[TrainState, Metrics]]
"""(state, metrics, *batches) -> (state, metrics): a step with each batch."""


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
    evaluate, plot, save. Without those a run leaves no logs, no pictures or no checkpoint; the final evaluation is
    always made. A request to stop is heeded, and its checkpoint saved, whatever they are. The steps from `profile[0]`
    to `profile[1]` are traced. Of several processes, all call it with the same arguments.

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
    result: Evaluation = run(
        task_of(config, model), config, workdir, dataset, hooks, console, given, profile, init_from
    )
    return result


def task_of(config: Config, model: Model | None = None) -> Task:
    """That of a diffusion model: the one that the config describes, or the given one.

    Raises `InputError` as `model_of` does, and for a guidance of samples that it cannot have.
    """
    evaluated = model_of(config, model)
    # The first samples are drawn when it has trained for long.
    ModelSampling(evaluated, None, with_steps_of(config.sampling, evaluated.num_steps))
    return Task(
        model=evaluated,
        for_training=model_lib.for_training(config, model),
        objective=objective_lib.from_config(config),
        evaluate=evaluate,
    )


def run(
    task: Task,
    config: RunConfig,
    workdir: Path,
    dataset: Dataset,
    hooks: Sequence[Hook],
    console: Console,
    given: Sequence[str] = (),
    profile: tuple[int, int] | None = None,
    init_from: str | None = None,
) -> Any:
    """The training loop, of any task: trains, or goes on training, the run in `workdir`; see `train` for the arguments.

    Config and data have been checked, and fit each other; `given` says which of them the caller made. Returns the final
    evaluation: that of the hooks, `session.final`, or `task.evaluate`'s. Raises as `train` does.
    """
    for note in dataset.info.notes:
        console.print(f"{dataset.info.name}: {note}", markup=False, soft_wrap=True)
    steps = config.training.steps
    if profile is not None and profile[0] > steps:
        raise InputError(f"--profile_steps={profile[0]}:{profile[1]}: the run has {steps} steps")

    with (
        _full_disk_in_one_line(workdir),
        open_session(config, workdir, dataset, task, console, given, init_from) as session,
        Profile(workdir / "profile", profile, console) as profiler,
    ):
        # What a request to stop had cut short at the step that it saved.
        if session.step:
            call(hooks, session, resuming=True)
            session.stop()

        if session.step < steps:
            with memory.guarded("the training step", memory.TRAINING):
                train_steps = _compile(session, task)
        with memory.guarded("the training step", memory.TRAINING), progress_of(console, "training") as progress:
            progress(session.step, steps)
            session.watch.restart()
            while session.step < steps:
                num = _num_steps(session, hooks, profiler)
                batches = _take(session, num)
                with profiler.steps(session.step + 1, num):
                    session.advance(num, *train_steps(session.state, session.metrics, *batches))
                    session.batches.prefetch(min(config.training.steps_per_call, steps - session.step))
                    parallel.throttle(session.metrics)
                with session.watch.paused():
                    profiler.after(session.step, session.metrics)
                progress(session.step, steps, session.speed)
                if session.asked_to_stop() or any(hook.due(session) for hook in hooks):
                    session.check_finite()
                    call(hooks, session)
                if session.stopping:
                    session.save(wait=True, of_a_stop=True)
                    session.stop()

        for hook in hooks:
            hook.finish(session)
        result = session.final or task.evaluate(session, "final", config.evaluation.draws, 0)
        # Last: to compare.py it says that the run is done.
        if parallel.is_main():
            write_evaluation(workdir, result.to_dict(), dataset.info.to_dict(), session.step)
    return result


def _num_steps(session: Session, hooks: Sequence[Hook], profiler: Profile) -> int:
    """Steps of the next call: up to the next after which something is due, at most `training.steps_per_call`."""
    most = min(session.config.training.steps_per_call, session.config.training.steps - session.step)
    for num in range(1, most):
        step = session.step + num
        if profiler.cuts(step) or any(hook.due(session.at(step)) for hook in hooks):
            return num
    return most


def _compile(session: Session, task: Task) -> Steps:
    """One or more train steps, one with each batch, as one compiled program that reuses the memory of its arguments."""
    start, config, mesh = time.perf_counter(), session.config, session.mesh
    most = config.training.steps_per_call
    parts = task.for_training, task.objective, make_optimizer(config), config, mesh
    arguments = session.state, session.metrics
    if most == 1:
        lowered = jit_train_step(*parts).lower(*arguments, *session.batches.peek())
    else:
        batches = session.batches.peek() * most
        lowered = jit_train_steps(*parts).lower(*arguments, np.int32(most), *batches)
    with compilation.counted_hits() as hits:
        # A CPU takes it as well, and is deterministic anyhow; a TPU, which is too, has another compiler.
        exact = config.training.deterministic and mesh.devices.flat[0].platform != "tpu"
        program = lowered.compile({"xla_gpu_deterministic_ops": True} if exact else None)
    parallel.meet("compiled")
    what = "the training step" if most == 1 else f"a program of up to {most} training steps"
    done = f"loaded {what} from the cache" if hits else f"compiled {what}"
    session.console.print(f"{done} in {time.perf_counter() - start:.0f} s")
    if most == 1:
        return program

    def steps(state: TrainState, metrics: Metrics, *batches: Batch) -> tuple[TrainState, Metrics]:
        # Of fewer steps, the rest stands for batches that are not used.
        given = (*batches, *batches[-1:] * (most - len(batches)))
        result: tuple[TrainState, Metrics] = program(state, metrics, np.int32(len(batches)), *given)
        return result

    return steps


def _take(session: Session, num: int) -> list[Batch]:
    try:
        return session.batches.take(num)
    except WorkerDied:
        # The state and the batches taken are whole; other processes cannot join in to save.
        if jax.process_count() == 1:
            session.save(wait=True, of_a_stop=True)
        raise


@contextmanager
def _full_disk_in_one_line(workdir: Path) -> Iterator[None]:
    """Logs and pictures fill a disk as well as checkpoints do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError) or not is_disk_full(error):
            raise
        complete = sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if is_whole(path.name))
        raise InputError(
            f"--workdir={workdir}: the disk is full; complete checkpoints: {complete or 'none'}"
        ) from error
