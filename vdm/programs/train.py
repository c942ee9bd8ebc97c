"""The training loop: from a config and a folder to a trained model, its test bits/dim and its samples."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from vdm import memory, parallel, plots
from vdm import model as model_lib
from vdm.config import Config, TrainingConfig, validate
from vdm.data import Dataset, load, train_iterator
from vdm.errors import InputError, Stopped, WorkerDied, is_disk_full
from vdm.evaluation.bound import Evaluation, Evaluator, bin_centers, exact_draws
from vdm.evaluation.images import ImageSampler, NonFiniteLatents, with_steps_of
from vdm.keys import Stream, stream_key
from vdm.plots import images as pictures
from vdm.programs.profile import Profile
from vdm.programs.progress import Stopwatch, progress_bar, signals
from vdm.progress import duration
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.folder import EventFile, MetricsFile, RunDir, read_metrics
from vdm.runs.results import write_evaluation
from vdm.training import objective as objective_lib
from vdm.training.prefetch import Prefetched
from vdm.training.state import (
    TrainState,
    abstract_state,
    init_state,
    learning_rate,
    make_optimizer,
)
from vdm.training.step import FINITE_TERMS, Metrics, empty_metrics, jit_train_step


class NonFiniteError(InputError):
    """A loss term or gradient is NaN or infinite: the run stops, its last good checkpoint is kept."""


def train(
    config: Config,
    workdir: Path,
    console: Console,
    on_log: Callable[[int], None] = lambda step: None,
    profile: tuple[int, int] | None = None,
) -> Evaluation:
    """Trains, or goes on training, the run in `workdir`; returns the final evaluation of the moving average.

    `on_log` is called with the step after each log line. The steps from `profile[0]` to `profile[1]` are traced.

    Raises `InputError` for bad input, `NonFiniteError` with step and term, and `Stopped` after SIGTERM or Ctrl-C.
    """
    validate(config)
    dataset = load(config.data)
    config = resolve(config, dataset)
    mesh = parallel.make_mesh(config.training.batch_size, config.training.fsdp, config.training.accumulate)
    if profile is not None and profile[0] > config.training.steps:
        raise InputError(f"--profile_steps={profile[0]}:{profile[1]}: the run has {config.training.steps} steps")
    iterator = train_iterator(
        dataset,
        batch_size=config.training.batch_size,
        seed=config.seed,
        augmentations=config.data.augmentations,
        num_workers=config.data.num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    try:
        with ExitStack() as stack:
            stack.enter_context(closing(iterator))

            def hold_folder() -> None:
                run = stack.enter_context(closing(RunDir(workdir, config, dataset.info.to_dict())))
                run.write_record(parallel.describe(mesh))

            # Nothing is written before all input has been checked.
            parallel.on_main(hold_folder)
            checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints", config.training.keep_checkpoints))
            tracer = stack.enter_context(Profile(workdir / "profile", profile, console))
            return _Training(config, dataset, mesh, workdir, checkpoints, console, on_log, tracer).run(iterator)
    except Exception as error:
        # Logs and pictures fill a disk as well as checkpoints do.
        if isinstance(error, InputError) or not is_disk_full(error):
            raise
        complete = sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit())
        raise InputError(
            f"--workdir={workdir}: the disk is full; complete checkpoints: {complete or 'none'}"
        ) from error


def resolve(config: Config, dataset: Dataset) -> Config:
    """The config with shape and levels as the data have them."""
    info = dataset.info
    return replace(config, data=replace(config.data, shape=tuple(info.shape), levels=info.levels))


class Due(NamedTuple):
    """What is to be done after a step, stopped or not."""

    log: bool
    sample: bool
    evaluate: bool
    save: bool


def due(training: TrainingConfig, step: int) -> Due:
    """By the rhythms of the config; after an evaluation and at the end, a checkpoint is saved as well."""
    t, last = training, step == training.steps
    log, sample, evaluate, save = (
        every > 0 and (step % every == 0 or last)
        for every in (t.log_every, t.sample_every, t.evaluate_every, t.checkpoint_every)
    )
    return Due(log, sample and not last, evaluate, save or evaluate or last)


class _Training:
    """One run of the loop. Python state here is only what is printed; all that training depends on is in `state`."""

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        mesh: Mesh,
        path: Path,
        checkpoints: Checkpoints,
        console: Console,
        on_log: Callable[[int], None],
        profile: Profile,
    ):
        self.config, self.dataset, self.path, self.checkpoints = config, dataset, path, checkpoints
        self.console, self.on_log, self.mesh, self.profile = console, on_log, mesh, profile
        self.model = model_lib.from_config(config)
        self.objective, self.optimizer = objective_lib.from_config(config), make_optimizer(config)
        self.sampler = ImageSampler(self.model, self.mesh, with_steps_of(config.sampling, self.model.num_steps))
        self.evaluator = Evaluator(self.model, self.mesh, config.evaluation.batch_size)
        self.gamma = jax.jit(self.model.gamma, out_shardings=parallel.replicated(mesh))

    def run(self, iterator: grain.DatasetIterator) -> Evaluation:
        batches = Prefetched(iterator, self.mesh)
        with memory.guarded("the training state", memory.TRAINING):
            state, metrics = self._start(batches)
        step = int(state.step)
        with ExitStack() as stack:
            self.stop = stack.enter_context(signals())
            if parallel.is_main():
                self.records = MetricsFile(self.path / "metrics.jsonl", step)
                self.events = stack.enter_context(closing(EventFile(self.path / "tensorboard", step)))
            self._catch_up(state, metrics, batches)
            with memory.guarded("the training step", memory.TRAINING):
                state = self._steps(state, metrics, batches)
            self._sample(state, "final")
            result = self._evaluate("final", state, self.config.evaluation.draws, 0)
            self._plot(state, result)
            # Last: to compare.py it says that the run is done.
            if parallel.is_main():
                write_evaluation(self.path, result, self.dataset, int(state.step))
        return result

    def _start(self, iterator: grain.DatasetIterator) -> tuple[TrainState, Metrics]:
        """A fresh state, or that of the newest checkpoint."""
        self.reset = jax.jit(empty_metrics, out_shardings=parallel.replicated(self.mesh))
        like = abstract_state(self.config, self.mesh)
        restored = self.checkpoints.restore(like, parallel.abstract(empty_metrics, self.mesh), iterator)
        if restored is None:
            shardings = parallel.state_sharding(like, self.mesh)
            make = jax.jit(
                lambda: init_state(self.model, self.objective, self.optimizer, self.config.seed),
                out_shardings=shardings,
            )
            state, metrics = make(), self.reset()
        else:
            state, metrics, warnings = restored
            for warning in warnings:
                self.console.print(f"warning: {warning}", style="yellow")
        network = sum(x.size for x in jax.tree.leaves(state.variables["network"]))
        devices = parallel.describe(self.mesh)
        info = self.dataset.info
        self.console.print(
            f"{info.name}: {info.num_train} training and {info.num_test} test images of shape {info.shape} with "
            f"{info.levels} levels; network of {network:,} parameters; {devices['num_devices']} {devices['platform']} "
            f"device(s); {'resuming at step ' + str(int(state.step)) if restored else 'from scratch'}",
        )
        return state, metrics

    def _steps(self, state: TrainState, metrics: Metrics, batches: Prefetched) -> TrainState:
        training = self.config.training
        step = int(state.step)
        if step < training.steps:
            step_fn = self._compile(state, metrics)
        with progress_bar(self.console) as progress:
            task = progress.add_task("training", total=training.steps, completed=step, speed="")
            watch = Stopwatch()
            while step < training.steps:
                try:
                    batch = next(batches)
                except WorkerDied:
                    # The state and the batches taken are whole; other processes cannot join in to save.
                    if jax.process_count() == 1:
                        self._check_finite(metrics)
                        self.checkpoints.save(state, metrics, batches.get_state(), wait=True, of_a_stop=True)
                    raise
                step += 1
                last = step == training.steps
                with self.profile.step(step):
                    state, metrics = step_fn(state, metrics, batch)
                    if not last:
                        batches.prefetch()
                    parallel.throttle(metrics)
                with watch.paused():
                    self.profile.after(step, metrics)
                progress.update(task, completed=step)
                stop = self._poll()
                now = due(training, step)
                if not (any(now) or stop):
                    continue
                self._check_finite(metrics)
                with watch.paused():
                    if now.log:
                        record = self._log(step, metrics, watch.seconds())
                        speed = f"{record['images_per_second']:,.0f} images/s, {record['bits_per_dim']:.3f} bits/dim"
                        progress.update(task, speed=speed)
                        metrics = self.reset()
                        watch.restart()
                    bits = None
                    # A request to stop cuts these short: the checkpoint comes first.
                    try:
                        bits = self._look(state, now.sample, now.evaluate)
                    except Stopped as stopped:
                        stop = [stopped.signal_number]
                    if now.save or stop:
                        self.checkpoints.save(
                            state, metrics, batches.get_state(), bits, wait=last or bool(stop), of_a_stop=not now.save
                        )
                if stop:
                    raise Stopped(stop[0], step)
        return state

    def _look(self, state: TrainState, sample: bool, evaluate: bool) -> float | None:
        """Samples and test bits/dim on the way; returns the latter. Raises `Stopped` if a signal has come."""
        step, evaluation = int(state.step), self.config.evaluation
        if sample:
            self._sample(state, _sample_name(step))
        if not evaluate:
            return None
        result = self._evaluate("evaluation", state, evaluation.training_draws, evaluation.max_images)
        if step < self.config.training.steps:
            self._plot(state, result)
        return result.total

    def _catch_up(self, state: TrainState, metrics: Metrics, batches: Prefetched) -> None:
        """What a request to stop had cut short at the step that it saved."""
        step = int(state.step)
        if not step:
            return
        then = due(self.config.training, step)
        sample, evaluate = then.sample, then.evaluate
        # A process may see the folder later than another.
        if sample:
            sample = not parallel.all_true((self.path / "samples" / f"{_sample_name(step)}.png").exists())
        if evaluate:
            records = read_metrics(self.path / "metrics.jsonl")
            there = ("evaluation", step) in ((record["kind"], record["step"]) for record in records)
            evaluate = not parallel.all_true(there)
        bits = self._look(state, sample, evaluate)
        self.checkpoints.save(state, metrics, batches.get_state(), bits)

    def _poll(self) -> list[int]:
        """The signals that have come by now, to any process."""
        parallel.share_signals(self.stop)
        return list(self.stop)

    def _heed(self, step: int) -> None:
        """Raises `Stopped` if a signal has come."""
        if stop := self._poll():
            raise Stopped(stop[0], step)

    def _compile(self, state: TrainState, metrics: Metrics) -> Callable[..., tuple[TrainState, Metrics]]:
        """The train step as one compiled program that reuses the memory of its arguments."""
        start = time.perf_counter()
        model = model_lib.for_training(self.config)
        step_fn = jit_train_step(model, self.objective, self.optimizer, self.config, self.mesh)
        shape = (self.config.training.batch_size, *self.model.shape)
        image = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=parallel.batch_sharding(self.mesh))
        compiled = step_fn.lower(state, metrics, {"image": image}).compile()
        parallel.meet("compiled")
        self.console.print(f"compiled the training step in {time.perf_counter() - start:.0f} s")
        return compiled

    def _check_finite(self, metrics: Metrics) -> None:
        bad_step, bad_term = int(metrics.bad_step), int(metrics.bad_term)
        if bad_step:
            kept = self.checkpoints.steps()
            raise NonFiniteError(
                f"step {bad_step}: the {FINITE_TERMS[bad_term]} is not finite; stopped, "
                f"{f'checkpoint of step {kept[-1]} is kept' if kept else 'no checkpoint was made yet'}"
            )

    def _log(self, step: int, metrics: Metrics, seconds: float) -> dict[str, Any]:
        sums = jax.device_get(metrics)
        speed = int(sums.num_steps) * self.config.training.batch_size / seconds
        terms = {name: float(value) / int(sums.num_steps) for name, value in sums.bits_per_dim._asdict().items()}
        record = {
            "kind": "train",
            "step": step,
            "bits_per_dim": sum(terms.values()),
            **terms,
            "images_per_second": speed,
            "learning_rate": float(learning_rate(self.config.optimizer, self.config.training.steps)(step - 1)),
            "grad_norm": float(sums.grad_norm) / int(sums.num_steps),
        }
        self._record(record)
        left = (self.config.training.steps - step) * self.config.training.batch_size / speed
        self.console.print(
            f"step {step:>{len(str(self.config.training.steps))}}  {record['bits_per_dim']:.4f} bits/dim  "
            f"{speed:,.0f} images/s  {duration(left)} left"
        )
        self.on_log(step)
        return record

    def _evaluate(self, kind: str, state: TrainState, num_draws: int, max_images: int) -> Evaluation:
        """Of the moving average, recorded as `kind`. Raises `Stopped` between batches if a signal has come."""
        step = int(state.step)
        key = stream_key(self.config.seed, Stream.EVALUATION)
        result = self.evaluator(
            state.ema,
            self.dataset.test,
            key,
            exact_draws(self.model.num_steps, num_draws),
            max_images,
            lambda done, total: self._heed(step),
            self.model.num_steps,
        )
        terms = {"reconstruction": result.reconstruction, "prior": result.prior, "diffusion": result.diffusion}
        rest = {"stderr": result.stderr, "variance": result.variance}
        self._record({"kind": kind, "step": step, "bits_per_dim": result.total, **rest, **terms})
        self.console.print(f"step {step}  test {result}", style="bold")
        return result

    def _record(self, record: dict[str, Any]) -> None:
        if not parallel.is_main():
            return
        self.records.append(record)
        self.events.append(record)

    def _sample(self, state: TrainState, name: str) -> None:
        key = stream_key(self.config.seed, Stream.SAMPLING)
        step = int(state.step)
        try:
            images, _ = self.sampler(state.ema, key, self.config.sampling.num, lambda done, total: self._heed(step))
        except NonFiniteLatents as error:
            # A sampler may fail on a model that is young; training need not.
            self.console.print(f"warning: step {step}: no samples: {error}", style="yellow")
            return
        if parallel.is_main():
            pictures.grid(images, self.path / "samples" / f"{name}.png", self.model.levels)

    def _plot(self, state: TrainState, result: Evaluation) -> None:
        """The plots of the run so far."""
        t = np.linspace(0, 1, 201, dtype=np.float32)
        gamma = np.asarray(self.gamma(state.ema, jnp.asarray(t)))
        if not parallel.is_main():
            return
        folder, records = self.path / "plots", read_metrics(self.path / "metrics.jsonl")
        plots.loss(folder / "loss.png", records)
        plots.terms(folder / "terms.png", records)
        plots.variance(folder / "variance.png", records)
        plots.schedule(folder / "schedule.png", t, gamma)
        plots.times(folder / "times.png", bin_centers(), result.time_mean, result.time_std, result.diffusion)


def _sample_name(step: int) -> str:
    return f"step_{step:08d}"
