"""Hooks: what is done between training steps. `train` calls a hook with the session after each step where it is due."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vdm import parallel, plots
from vdm.data.selection import VERSION
from vdm.errors import Stopped
from vdm.evaluation.bound import Evaluation, bin_centers, exact_draws, total_with_error
from vdm.evaluation.images import NonFiniteLatents
from vdm.files import write_json
from vdm.keys import Stream
from vdm.plots import samples as pictures
from vdm.programs import captions
from vdm.programs.session import Session
from vdm.progress import duration, progress_of
from vdm.runs.records import read_metrics
from vdm.training.state import learning_rate


class Hook:
    """Something that is done after some training steps; write a subclass for your own.

        class Noise(Hook):
            def due(self, session):
                return session.step % 1000 == 0

            def __call__(self, session):
                noise = measure(session.model, session.variables)
                session.record("noise", trace=float(noise))

    Hooks are called in order, in every process; a later hook sees what an earlier one left in the session. A hook must
    not affect training: it may read the state, but takes its randomness from keys of its own. A hook that takes long
    should call `session.heed()` now and then, so that a request to stop cuts it short and the checkpoint is saved.
    """

    def due(self, session: Session) -> bool:
        """Return whether to call the hook after this step; must be the same in every process.

        With `training.steps_per_call` this is asked in advance, for `session.at(step)`, so it may depend only on the
        step.
        """
        raise NotImplementedError

    def __call__(self, session: Session) -> None:
        """Do what the hook is for."""
        raise NotImplementedError

    def missing(self, session: Session) -> bool:
        """Return whether a stop cut the hook short at the step at which a run now resumes; it is then called again."""
        return False

    def finish(self, session: Session) -> None:
        """Called once after the last step; hooks after `Evaluate` see the final evaluation in `session.evaluation`."""


def every(num_steps: int, function: Callable[[Session], None]) -> Hook:
    """Return a hook that calls a function with the session after every `num_steps` steps and after the last one.

    vdm.train(config, workdir, hooks=[every(100, lambda session: print(session.step)), *standard()])

    Put it before the standard hooks, the last of which saves a checkpoint: if the process is killed before that, the
    resumed run calls the function again.
    """
    return _Every(num_steps, function)


class _Every(Hook):
    def __init__(self, num_steps: int, function: Callable[[Session], None]):
        self.num_steps, self.function = num_steps, function

    def due(self, session: Session) -> bool:
        return rhythm(self.num_steps, session)

    def __call__(self, session: Session) -> None:
        self.function(session)


def standard() -> list[Hook]:
    """Return the default hooks, in order: log, sample, evaluate, plot, save; `config.training` says how often."""
    return [Log(), Sample(), Evaluate(), Plot(), Save()]


def call(hooks: Sequence[Hook], session: Session, resuming: bool = False) -> None:
    """Call the hooks that are due; when `resuming`, only those that a stop cut short. A request to stop skips none."""
    for hook in hooks:
        if hook.due(session) and (not resuming or hook.missing(session)):
            with session.watch.paused(), contextlib.suppress(Stopped):
                hook(session)


class Log(Hook):
    """Prints a line and records numbers every `log_every` steps: means since the previous line."""

    def due(self, session: Session) -> bool:
        return rhythm(session.config.training.log_every, session)

    def __call__(self, session: Session) -> None:
        config, step, seconds = session.config, session.step, session.watch.seconds()
        sums = jax.device_get(session.metrics)
        num_steps, batch_size = int(sums.num_steps), config.training.batch_size
        speed = num_steps * batch_size / seconds
        # Model FLOPs utilization, if the peak of the devices is known.
        peak = session.peak_images_per_second
        mfu = {} if peak is None else {"mfu": speed / peak}
        terms = {name: float(value) / num_steps for name, value in sums.bits_per_dim._asdict().items()}
        total, name, unit = sum(terms.values()), session.task.objective.total, session.task.objective.unit
        session.record(
            "train",
            **({name: total} | terms),
            images_per_second=speed,
            **mfu,
            learning_rate=float(learning_rate(config.optimizer, config.training.steps)(step - 1)),
            grad_norm=float(sums.grad_norm) / num_steps,
        )
        left = (config.training.steps - step) * batch_size / speed
        session.console.print(
            f"step {step:>{len(str(config.training.steps))}}  {total:.4f} {unit}  "
            f"{speed:,.0f} images/s  {''.join(f'{share:.0%} MFU  ' for share in mfu.values())}{duration(left)} left"
        )
        session.speed = f"{speed:,.0f} images/s, {total:.3f} {unit}"
        session.restart_metrics()


class Sample(Hook):
    """Draws samples into samples/step_00001000.png, … every `sample_every` steps, and into samples/final.png."""

    def due(self, session: Session) -> bool:
        return rhythm(session.config.training.sample_every, session) and not session.is_last

    def missing(self, session: Session) -> bool:
        # On a network file system, processes may see a new file at different times.
        return not parallel.all_true((session.path / "samples" / self._name(session)).exists())

    def __call__(self, session: Session) -> None:
        self._draw(session, self._name(session))

    def finish(self, session: Session) -> None:
        self._draw(session, "final.png")

    def _name(self, session: Session) -> str:
        return f"step_{session.step:08d}.png"

    def _draw(self, session: Session, name: str) -> None:
        session.heed()
        key, num = session.key(Stream.SAMPLING), session.config.sampling.num
        try:
            condition = session.conditions(num)
            with heeding_progress(session, "sampling") as progress:
                images, _ = session.sampler(session.variables, key, num, progress, condition=condition)
        except NonFiniteLatents as error:
            # A sampler may fail on a barely trained model; training can go on.
            session.console.print(f"warning: step {session.step}: no samples: {error}", style="yellow")
            return
        if session.is_main:
            path, sampling = session.path / "samples" / name, session.sampler.config
            caption = captions.of_samples(session.path, session.step, session.config.seed, sampling)
            levels, test = session.model.levels, session.dataset.test
            rows, names = session.conditions.rows, session.conditions.names(len(images))
            pictures.samples(images, path, levels, lambda: test, caption, rows, names)
            session.show("samples", path)


class Evaluate(Hook):
    """Evaluates the moving average every `evaluate_every` steps, into `session.evaluation`.

    The evaluation is the task's: for a diffusion model, the bits/dim of test images.
    """

    def due(self, session: Session) -> bool:
        return rhythm(session.config.training.evaluate_every, session)

    def missing(self, session: Session) -> bool:
        made = ((record["kind"], record["step"]) for record in read_metrics(session.path / "metrics.jsonl"))
        return not parallel.all_true(("evaluation", session.step) in made)

    def __call__(self, session: Session) -> None:
        settings = session.config.evaluation
        session.task.evaluate(session, "evaluation", settings.training_draws, settings.max_images)

    def finish(self, session: Session) -> None:
        session.final = session.task.evaluate(session, "final", session.config.evaluation.draws, 0)


def evaluate(session: Session, kind: str, num_draws: int, max_images: int = 0) -> Evaluation:
    """Evaluate the bits/dim of a diffusion model's moving average; print a line and record the numbers as `kind`.

    Raises `Stopped` if a request to stop has come.
    """
    session.heed()
    num_steps = session.model.num_steps
    draws = exact_draws(num_steps, num_draws)
    key, images = session.key(Stream.EVALUATION), session.dataset.test
    what = "final evaluation" if kind == "final" else "evaluating"
    with heeding_progress(session, what) as progress:
        result = session.evaluator(session.variables, images, key, draws, max_images, progress, num_steps)
    session.record(
        kind,
        bits_per_dim=result.total,
        stderr=result.stderr,
        variance=result.variance,
        reconstruction=result.reconstruction,
        prior=result.prior,
        diffusion=result.diffusion,
        **({} if result.rounding is None else {"rounding": result.rounding.mean}),
        # Only numbers from the same images are comparable; no version is needed where all images were evaluated.
        **({} if result.num_images == len(images) else {"sample": VERSION}),
    )
    final = "final " if kind == "final" else ""
    total = total_with_error(result.total, result.stderr)
    if session.model.condition:
        total += f" given {' and '.join(session.model.condition)}"
    line = f"step {session.step}  {final}test {total} ({extent(result, len(images))}; {result.accuracy})"
    session.console.print(line, style="bold", soft_wrap=True)
    session.evaluation = result
    return result


def extent(result: Any, available: int) -> str:
    """Say how many of the available test images an evaluation used, with how many draws of each."""
    images = f"all {available}" if result.num_images == available else f"{result.num_images} of {available}"
    return f"{images} test images, {result.num_draws} draw{'s' * (result.num_draws > 1)} each"


class Plot(Hook):
    """Draws the figures in plots/ of the run so far, after each evaluation."""

    def due(self, session: Session) -> bool:
        return session.evaluation is not None and not session.is_last

    def missing(self, session: Session) -> bool:
        return True

    def __call__(self, session: Session) -> None:
        t = np.linspace(0, 1, 201, dtype=np.float32)
        gamma = np.asarray(session.gamma(session.variables, jnp.asarray(t)))
        result = session.evaluation
        if not session.is_main or result is None:
            return
        folder, records = session.path / "plots", read_metrics(session.path / "metrics.jsonl")
        plots.loss(folder / "loss.png", records)
        plots.terms(folder / "terms.png", records)
        plots.variance(folder / "variance.png", records)
        plots.schedule(folder / "schedule.png", t, gamma)
        plots.times(folder / "times.png", bin_centers(), result.time_mean, result.time_std, result.diffusion)
        write_curves(folder / "curves.json", session.step, t, gamma, result)
        for name in ("schedule", "times"):
            session.show(name, folder / f"{name}.png")

    def finish(self, session: Session) -> None:
        self(session)


def write_curves(
    path: Path, step: int, t: Float[np.ndarray, " points"], gamma: Float[np.ndarray, " points"], result: Evaluation
) -> None:
    """Write the numbers of schedule.png and times.png, which `vdm report` plots; null in bins of t without draws."""

    def plain(values: np.ndarray) -> list[float | None]:
        return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]

    times = {"t": plain(bin_centers()), "mean": plain(result.time_mean), "std": plain(result.time_std)}
    write_json(path, {"step": step, "schedule": {"t": plain(t), "gamma": plain(gamma)}, "times": times})


class Save(Hook):
    """Saves a checkpoint every `checkpoint_every` steps, with every evaluation and at the end. Put it last."""

    def due(self, session: Session) -> bool:
        training = session.config.training
        rhythms = (training.checkpoint_every, training.evaluate_every)
        return session.is_last or any(rhythm(num_steps, session) for num_steps in rhythms)

    def missing(self, session: Session) -> bool:
        """Return whether an evaluation was made just now: the checkpoint of the stop was saved without its bits/dim."""
        return session.evaluation is not None

    def __call__(self, session: Session) -> None:
        session.save(wait=session.is_last or session.stopping)


@contextlib.contextmanager
def heeding_progress(session: Session, description: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress, and raise `Stopped` at the next report after a request to stop."""
    with progress_of(session.console, description) as progress:

        def report(done: int, total: int) -> None:
            session.heed()
            progress(done, total)

        yield report


def rhythm(num_steps: int, session: Session) -> bool:
    """Return whether the session's step is a multiple of `num_steps` or the last; never for 0."""
    return num_steps > 0 and (session.step % num_steps == 0 or session.is_last)
