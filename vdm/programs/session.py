"""A run while it is trained, as `train` carries it from step to step and hooks see it."""

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
    """A run while it is trained; what it has in common with an opened one (`vdm.open_run`) has the same name.

    Every process of several has one, with its part of `state`. What computes with it, all of them call at the same
    places; what writes files is for `is_main` alone.
    """

    path: Path
    config: Any
    """A `Config`; of another task than a diffusion model, what has the same groups, as far as the loop goes
    (`RunConfig`)."""
    model: Any
    """A `Model`, or what else is trained; computed in float32: steps, evaluation and sampling have their precisions."""
    task: Task
    """What is trained: the model again, and its objective and evaluation."""
    mesh: Mesh
    dataset: Dataset
    console: Console
    """That of a process other than the first prints nothing."""
    step: int
    """Steps done."""
    state: TrainState
    """Its arrays are gone after the next step, which reuses their memory: keep copies, `jax.device_get`."""
    metrics: Metrics
    """Sums over the steps since the last log line."""
    evaluation: Any = None
    """An `Evaluation`, or the task's own: of the moving average on the test split at this very step, once made."""
    final: Any = None
    """The evaluation after the last step, once it was made."""
    speed: str = ""
    """What the progress bar shows beside the steps."""
    watch: Stopwatch = field(default_factory=Stopwatch)
    """Time spent in steps since the last log line."""
    checkpoints: Checkpoints
    batches: Prefetched
    trackers: Sequence[Tracker]
    signals: list[int]
    """Of requests to stop that have come."""

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
        """The key that a stream of the run's seed starts from."""
        return stream_key(self.config.seed, stream)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Compiled once."""
        settings = self.config.evaluation
        model = at_precision(self.model, settings.precision, "evaluation")
        return Evaluator(model, self.mesh, settings.batch_size)

    @cached_property
    def sampler(self) -> ImageSampler:
        """Compiled once."""
        sampling = with_steps_of(self.config.sampling, self.model.num_steps)
        return ImageSampler(self.model, self.mesh, sampling, companions=guides.of_text(self.dataset.text))

    @cached_property
    def conditions(self) -> Conditions:
        """Those of the images that are drawn."""
        c, info = self.config, self.dataset.info
        return requested(self.model, c.sampling, c.seed, info.classes, lambda: self.dataset.test, self.dataset.text)

    @cached_property
    def gamma(self) -> Callable[[Variables, Array], Array]:
        """γ(variables, t), compiled once."""
        return jax.jit(self.model.gamma, out_shardings=parallel.replicated(self.mesh))

    @cached_property
    def peak_images_per_second(self) -> float | None:
        """Of training steps on devices that do nothing but the model's products, at their peak; None if not known."""
        if not isinstance(self.model, Model):
            return None
        peak = speed.peak_flops(self.mesh.devices.flat[0].device_kind, self.config.training.precision)
        return None if peak is None else peak * self.mesh.size / speed.step_flops(self.model, batch_size=1)

    def record(self, kind: str, **numbers: SupportsFloat | None) -> None:
        """Numbers by name, at this step, for every tracker: a line of metrics.jsonl, points in TensorBoard, …."""
        plain = {name: None if number is None else float(number) for name, number in numbers.items()}
        for tracker in self.trackers:
            tracker.scalars(kind, self.step, plain)

    def show(self, name: str, picture: Picture) -> None:
        """A PNG file, a figure or an image, at this step, for every tracker that shows pictures.

        It is shown beside the tests while training; after the last step, beside the final evaluation.
        """
        if self.trackers:
            content = png(picture)
            for tracker in self.trackers:
                tracker.picture("final" if self.is_last else "evaluation", self.step, name, content)

    def at(self, step: int) -> "Session":
        """Itself as it will be after a later step, as far as that is known: for hooks to say whether they are due."""
        return replace(self, step=step, evaluation=None)

    def advance(self, num_steps: int, state: TrainState, metrics: Metrics) -> None:
        """After so many steps, with what they returned."""
        self.state, self.metrics = state, metrics
        self.step, self.evaluation = self.step + num_steps, None

    @cached_property
    def _no_metrics(self) -> Callable[[], Metrics]:
        return jax.jit(lambda: empty_metrics(self.task.objective.terms), out_shardings=parallel.replicated(self.mesh))

    def restart_metrics(self) -> None:
        """Sums and time start anew, after a log line."""
        self.metrics = self._no_metrics()
        self.watch.restart()

    def check_finite(self) -> None:
        """Raises `NonFiniteError` if a loss term or gradient was not finite since the last log line."""
        if bad_step := int(self.metrics.bad_step):
            kept = self.checkpoints.steps()
            raise NonFiniteError(
                f"step {bad_step}: the {self.metrics.bad.replace('_', ' ')} is not finite; stopped, "
                f"{f'checkpoint of step {kept[-1]} is kept' if kept else 'no checkpoint was made yet'}"
            )

    def save(self, wait: bool = False, of_a_stop: bool = False) -> None:
        """A checkpoint of this step; see `Checkpoints.save`. Raises `NonFiniteError` where there is nothing to save."""
        self.check_finite()
        bits = None if self.evaluation is None else self.evaluation.total
        self.checkpoints.save(self.state, self.metrics, self.batches.get_state(), bits, wait, of_a_stop)

    @property
    def stopping(self) -> bool:
        """Whether a request to stop is known, in every process."""
        return bool(self.signals)

    def asked_to_stop(self) -> bool:
        """Asks the other processes as well: all must call it at the same places."""
        parallel.share_signals(self.signals)
        return self.stopping

    def stop(self) -> None:
        """Raises `Stopped` if a request is known."""
        if self.signals:
            raise Stopped(self.signals[0], self.step)

    def heed(self, *_: Any) -> None:
        """Raises `Stopped` if a request to stop has come; for what takes long, often. All processes must call it.

        `train` then saves and ends. Takes and ignores arguments, so that it can be a `progress`.
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
    """The run in `path` held and its newest checkpoint restored, or a fresh state made; see `train` for `init_from`.

    Nothing is written before all input has been checked. `given` is for the record: see `session_record`.
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
            # It holds the only state: a step reuses the memory of the one before.
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
    """State and metrics of the newest checkpoint, with the batches put in their place, or of no steps; and which."""
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
    # Two copies: a step reuses the memory of both.
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
    """The folder, held by the first process against other writers."""
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
    """Where records of later steps go: the first process has trackers."""
    if not parallel.is_main():
        yield []
        return

    def warn(line: str) -> None:
        _warn(console, [line])

    run = TrackedRun(path, step, settings.flatten(config), task.objective.total, warn)
    with trackers.started(config.training.loggers, run) as found:
        yield found
