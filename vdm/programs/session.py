"""The session of a run in training: its state, which `train` carries from step to step and hooks see."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray
from rich.console import Console

from vdm import guides, memory, parallel, precisions, settings, speed
from vdm.config import RunConfig
from vdm.data import Dataset, train_iterator
from vdm.errors import NonFiniteError, Stopped
from vdm.evaluation.bound import Evaluator
from vdm.evaluation.conditions import Conditions, requested
from vdm.evaluation.images import ImageSampler, with_steps_of
from vdm.keys import Stream, stream_key
from vdm.model import Model, at_precision
from vdm.plots.png import Picture, png
from vdm.programs import stops
from vdm.programs.progress import Stopwatch
from vdm.programs.start import Start
from vdm.programs.task import Task
from vdm.runs import trackers
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.folder import RunDir
from vdm.runs.records import checkpoint_steps, inexact_resume, read_record
from vdm.runs.texts import write_text
from vdm.runs.trackers.tracker import TrackedRun, Tracker
from vdm.training.prefetch import Prefetched
from vdm.training.state import TrainState, init_state, make_optimizer
from vdm.training.step import Metrics, empty_metrics
from vdm.training.task import Variables


@dataclass(kw_only=True)
class Session:
    """A run in training; attributes that an opened run (`vdm.open_run`) also has go by the same names.

    With several processes, each has a session with its part of `state`. All of them must make the same calls that
    compute with it, in the same order; only the process with `is_main` writes files.
    """

    path: Path
    config: Any
    """A `Config`, or the `RunConfig` of a task other than a diffusion model."""
    model: Any
    """A `Model`, or another task's network, in float32; steps, evaluation and sampling have their own precisions."""
    task: Task
    """The training task: the model again, its objective and its evaluation."""
    mesh: Mesh
    dataset: Dataset
    console: Console
    """Console of this process; only that of the first process prints."""
    step: int
    """Number of steps done."""
    state: TrainState
    """Training state. The next step reuses the memory of its arrays: keep copies instead, by `jax.device_get`."""
    metrics: Metrics
    """Sums of loss terms and gradient norms over the steps since the last log line."""
    evaluation: Any = None
    """Evaluation of the moving average on the test split at this step, an `Evaluation` or the task's own; else None."""
    final: Any = None
    """The evaluation after the last step; None until it is made."""
    speed: str = ""
    """Text that the progress bar shows beside the steps."""
    watch: Stopwatch = field(default_factory=Stopwatch)
    """Time spent in steps since the last log line."""
    checkpoints: Checkpoints
    batches: Prefetched
    trackers: Sequence[Tracker]
    signals: list[int]
    """Signals received that request a stop."""

    @property
    def variables(self) -> Variables:
        """The moving average of the model's variables."""
        return self.state.ema

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files."""
        return parallel.is_main()

    @property
    def is_last(self) -> bool:
        """Whether all steps are done."""
        return self.step == self.config.training.steps

    def key(self, stream: Stream) -> PRNGKeyArray:
        """Return the first key of a random stream of the run's seed."""
        return stream_key(self.config.seed, stream)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Evaluator of the bound, compiled once."""
        settings = self.config.evaluation
        model = at_precision(self.model, settings.precision, "evaluation")
        return Evaluator(model, self.mesh, settings.batch_size)

    @cached_property
    def sampler(self) -> ImageSampler:
        """Sampler with the settings of `config.sampling`, compiled once."""
        sampling = with_steps_of(self.config.sampling, self.model.num_steps)
        return ImageSampler(self.model, self.mesh, sampling, companions=guides.of_text(self.dataset.text))

    @cached_property
    def conditions(self) -> Conditions:
        """Conditions of the images that are drawn."""
        c, info = self.config, self.dataset.info
        return requested(self.model, c.sampling, c.seed, info.classes, lambda: self.dataset.test, self.dataset.text)

    @cached_property
    def gamma(self) -> Callable[[Variables, Array], Array]:
        """(variables, t) -> γ(t), compiled once."""
        return jax.jit(self.model.gamma, out_shardings=parallel.replicated(self.mesh))

    @cached_property
    def peak_images_per_second(self) -> float | None:
        """Training images per second if devices did only the model's products, at peak FLOP/s; None if unknown."""
        if not isinstance(self.model, Model):
            return None
        peak = speed.peak_flops(self.mesh.devices.flat[0].device_kind, self.config.training.precision)
        return None if peak is None else peak * self.mesh.size / speed.step_flops(self.model, batch_size=1)

    def record(self, kind: str, **numbers: SupportsFloat | None) -> None:
        """Record numbers by name at this step with every tracker: a line of metrics.jsonl, points in TensorBoard, …."""
        plain = {name: None if number is None else float(number) for name, number in numbers.items()}
        for tracker in self.trackers:
            tracker.scalars(kind, self.step, plain)

    def show(self, name: str, picture: Picture) -> None:
        """Show a PNG file, a figure or an image, at this step with every tracker that shows pictures.

        It appears beside the evaluations during training; after the last step, beside the final evaluation.
        """
        if self.trackers:
            content = png(picture)
            for tracker in self.trackers:
                tracker.picture("final" if self.is_last else "evaluation", self.step, name, content)

    def at(self, step: int) -> "Session":
        """Return the session as it will be after a later step, as far as known, to ask hooks whether they are due."""
        return replace(self, step=step, evaluation=None)

    def advance(self, num_steps: int, state: TrainState, metrics: Metrics) -> None:
        """Advance by `num_steps` steps to the state and metrics that they returned."""
        self.state, self.metrics = state, metrics
        self.step, self.evaluation = self.step + num_steps, None

    @cached_property
    def _no_metrics(self) -> Callable[[], Metrics]:
        return jax.jit(lambda: empty_metrics(self.task.objective.terms), out_shardings=parallel.replicated(self.mesh))

    def restart_metrics(self) -> None:
        """Reset the sums and the stopwatch, after a log line."""
        self.metrics = self._no_metrics()
        self.watch.restart()

    def check_finite(self) -> None:
        """Raise `NonFiniteError` if a loss term or gradient was not finite since the last log line."""
        if bad_step := int(self.metrics.bad_step):
            kept = self.checkpoints.steps()
            raise NonFiniteError(
                f"step {bad_step}: the {self.metrics.bad.replace('_', ' ')} is not finite; stopped, "
                f"{f'checkpoint of step {kept[-1]} is kept' if kept else 'no checkpoint was made yet'}"
            )

    def save(self, wait: bool = False, of_a_stop: bool = False) -> None:
        """Save a checkpoint of this step; see `Checkpoints.save`. Raises `NonFiniteError` as `check_finite` does."""
        self.check_finite()
        bits = None if self.evaluation is None else self.evaluation.total
        self.checkpoints.save(self.state, self.metrics, self.batches.get_state(), bits, wait, of_a_stop)

    @property
    def stopping(self) -> bool:
        """Whether a request to stop is known; the same in every process."""
        return bool(self.signals)

    def asked_to_stop(self) -> bool:
        """Return whether any process was asked to stop; all processes must call it at the same points."""
        parallel.share_signals(self.signals)
        return self.stopping

    def stop(self) -> None:
        """Raise `Stopped` if a request to stop is known."""
        if self.signals:
            raise Stopped(self.signals[0], self.step)

    def heed(self, *_: Any) -> None:
        """Raise `Stopped` if a request to stop has come. Call it often in anything that takes long, in all processes.

        `train` then saves a checkpoint and ends. Arguments are ignored, so that it can serve as a `progress` callback.
        """
        self.asked_to_stop()
        self.stop()


@contextmanager
def open_session(
    config: Any,
    path: Path,
    dataset: Dataset,
    task: Task,
    console: Console,
    given: Sequence[str],
    init_from: str | None = None,
) -> Iterator[Session]:
    """Lock the run's folder, restore its newest checkpoint or make a new state, and yield the session.

    Nothing is written before all input has been checked. `init_from` is as of `train`; `given` goes to run.json, see
    `session_record`.
    """
    training = config.training
    mesh = parallel.make_mesh(training.batch_size, training.fsdp, training.accumulate)
    begun = not parallel.all_true(not checkpoint_steps(path))
    own: Any = task.model if "model" in given else None
    start = None if init_from is None else Start.read(init_from, config, own, mesh, begun)
    iterator = train_iterator(
        dataset,
        batch_size=training.batch_size,
        seed=config.seed,
        augmentations=config.data.augmentations,
        num_workers=config.data.num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    with (
        closing(Prefetched(iterator, mesh)) as batches,
        _held(path, config, dataset, parallel.describe(mesh), given, start, console),
        Checkpoints(path / "checkpoints", training.keep_checkpoints) as checkpoints,
    ):
        with memory.guarded("the training state", memory.TRAINING):
            state, metrics, origin = _restore_or_init(config, mesh, task, checkpoints, batches, start, console)
            del start
            step = int(state.step)
        num_parameters = sum(x.size for x in jax.tree.leaves(state.variables["network"]))
        info, devices, precision = dataset.info, parallel.describe(mesh), training.precision
        if precision != precisions.FLOAT32 and precisions.is_float32(precision, mesh.devices.flat[0]):
            precision += precisions.AS_FLOAT32
        console.print(
            f"{info.name}: {info.num_train} training and {info.num_test} test images of shape {info.shape} with "
            f"{info.values}; network of {num_parameters:,} parameters; {devices['num_devices']} "
            f"{devices['platform']} device(s), training in {precision}; {origin}"
        )
        with stops.gracefully() as received, _trackers(path, step, config, task, console) as tracking:
            session = Session(
                path=path,
                config=config,
                model=task.model,
                task=task,
                mesh=mesh,
                dataset=dataset,
                console=console,
                step=step,
                state=state,
                metrics=metrics,
                checkpoints=checkpoints,
                batches=batches,
                trackers=tracking,
                signals=received,
            )
            # The session must hold the only reference: a step reuses the memory of the state before it.
            del state, metrics
            yield session


def _restore_or_init(
    config: RunConfig,
    mesh: Mesh,
    task: Task,
    checkpoints: Checkpoints,
    batches: Prefetched,
    start: Start | None,
    console: Console,
) -> tuple[TrainState, Metrics, str]:
    """Return state, metrics and their origin in words: the newest checkpoint, another run's weights, or nothing.

    The batches are moved to the checkpoint's position in the data.
    """
    optimizer = make_optimizer(config)

    def first() -> tuple[TrainState, Metrics]:
        return init_state(task.model, task.objective, optimizer, config.seed), empty_metrics(task.objective.terms)

    like, of_metrics = parallel.abstract(first, mesh)
    restored = checkpoints.restore(like, of_metrics, batches)
    if restored is not None:
        state, metrics, warnings = restored
        _warn(console, warnings)
        return state, metrics, f"resuming at step {int(state.step)}"
    make = jax.jit(lambda: first()[0], out_shardings=parallel.state_sharding(like, mesh))
    state, metrics = make(), jax.jit(lambda: first()[1], out_shardings=parallel.replicated(mesh))()
    if start is None or start.variables is None:
        return state, metrics, "from scratch"
    # Variables and average need a copy each, as a step reuses the memory of both.
    copied = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=parallel.state_sharding(like.ema, mesh))
    return state._replace(variables=start.variables, ema=copied(start.variables)), metrics, str(start)


@contextmanager
def _held(
    path: Path,
    config: RunConfig,
    dataset: Dataset,
    devices: dict[str, Any],
    given: Sequence[str],
    start: Start | None,
    console: Console,
) -> Iterator[None]:
    """Lock the run's folder in the first process, and write its records."""
    with ExitStack() as stack:

        def hold() -> None:
            record = None if start is None else start.record
            held = stack.enter_context(closing(RunDir(path, config, dataset.info.to_dict(), record)))
            _warn(console, held.warnings)
            write_text(path, dataset.text)
            held.write_record(devices, given)
            sessions = read_record(path)["sessions"]
            if checkpoint_steps(path) and len(sessions) > 1 and (why := inexact_resume(*sessions[-2:])):
                console.print(why, markup=False, soft_wrap=True)

        parallel.on_main(hold)
        yield


def _warn(console: Console, warnings: Sequence[str]) -> None:
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)


@contextmanager
def _trackers(path: Path, step: int, config: RunConfig, task: Task, console: Console) -> Iterator[list[Tracker]]:
    """Yield the trackers that record the steps from here on; only the first process has any."""
    if not parallel.is_main():
        yield []
        return

    def warn(line: str) -> None:
        _warn(console, [line])

    run = TrackedRun(path, step, settings.flatten(config), task.objective.total, warn)
    with trackers.started(config.training.loggers, run) as found:
        yield found
