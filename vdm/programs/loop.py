"""`run`: the training loop of every task: steps and hooks, until all steps are done or a stop is requested."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from vdm import memory, parallel
from vdm.config import RunConfig
from vdm.data import Dataset
from vdm.errors import InputError, WorkerDied, is_disk_full
from vdm.model import Batch
from vdm.programs import compilation
from vdm.programs.hooks import Hook, call
from vdm.programs.profile import Profile
from vdm.programs.session import Session, open_session
from vdm.programs.task import Task
from vdm.progress import progress_of
from vdm.reading import is_whole
from vdm.runs.records import write_evaluation
from vdm.training.state import TrainState, make_optimizer
from vdm.training.step import Metrics, jit_train_step, jit_train_steps

Steps = Callable[..., tuple[TrainState, Metrics]]
"""(state, metrics, *batches) -> (state, metrics), after a training step with each batch."""


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
    """Train, or resume, the run in `workdir` on any task, and return the final evaluation; arguments as of `vdm.train`.

    Config and data must be checked already and fit each other; `given` lists which of "dataset" and "model" the caller
    of `vdm.train` passed. The evaluation returned is `session.final` if a hook made it, else `task.evaluate`'s. Raises
    what `vdm.train` raises.
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
        # First, the hooks that a request to stop cut short at the restored step.
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
        # Written last: vdm compare takes this file to mean that the run is done.
        if parallel.is_main():
            write_evaluation(workdir, result.to_dict(), dataset.info.to_dict(), session.step)
    return result


def _num_steps(session: Session, hooks: Sequence[Hook], profiler: Profile) -> int:
    """Return the steps of the next call: up to the next step with something due, `training.steps_per_call` at most."""
    most = min(session.config.training.steps_per_call, session.config.training.steps - session.step)
    for num in range(1, most):
        step = session.step + num
        if profiler.cuts(step) or any(hook.due(session.at(step)) for hook in hooks):
            return num
    return most


def _compile(session: Session, task: Task) -> Steps:
    """Compile one or more training steps, one per batch, into one program that reuses the memory of its arguments."""
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
        # A CPU accepts the option too, but is deterministic anyway, as is a TPU, whose compiler does not know it.
        exact = config.training.deterministic and mesh.devices.flat[0].platform != "tpu"
        program = lowered.compile({"xla_gpu_deterministic_ops": True} if exact else None)
    parallel.meet("compiled")
    what = "the training step" if most == 1 else f"a program of up to {most} training steps"
    done = f"loaded {what} from the cache" if hits else f"compiled {what}"
    session.console.print(f"{done} in {time.perf_counter() - start:.0f} s")
    if most == 1:
        return program

    def steps(state: TrainState, metrics: Metrics, *batches: Batch) -> tuple[TrainState, Metrics]:
        # With fewer steps, the program does not use the remaining batches, which must still be passed.
        given = (*batches, *batches[-1:] * (most - len(batches)))
        result: tuple[TrainState, Metrics] = program(state, metrics, np.int32(len(batches)), *given)
        return result

    return steps


def _take(session: Session, num: int) -> list[Batch]:
    try:
        return session.batches.take(num)
    except WorkerDied:
        # State and batches are consistent and can be saved, except with other processes, which would not take part.
        if jax.process_count() == 1:
            session.save(wait=True, of_a_stop=True)
        raise


@contextmanager
def _full_disk_in_one_line(workdir: Path) -> Iterator[None]:
    """Turn any error of a full disk, whether from checkpoints, logs or pictures, into an `InputError`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError) or not is_disk_full(error):
            raise
        complete = sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if is_whole(path.name))
        raise InputError(
            f"--workdir={workdir}: the disk is full; complete checkpoints: {complete or 'none'}"
        ) from error
