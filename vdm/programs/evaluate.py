"""evaluate.py: bits/dim of a run's checkpoint on the test split."""

import math
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from vdm import parallel, plots
from vdm.config import Config
from vdm.errors import InputError
from vdm.evaluation.bound import Evaluation, Evaluator, exact_draws
from vdm.evaluation.ode import OdeEvaluation, OdeEvaluator, evaluate_ode
from vdm.evaluation.planned import Plan, TooManyDrawsError, evaluate_to
from vdm.evaluation.variance import Report, variance_report, with_equal_ends
from vdm.files import write_json
from vdm.keys import Stream
from vdm.model import Model, Variables
from vdm.progress import progress_of
from vdm.runs.open import open_run
from vdm.runs.records import measured, write_evaluation
from vdm.settings import MAX_STEPS

ODE_TOLERANCE = 1e-4
"""--tolerance by default."""


def parse_steps(text: str) -> list[int | None]:
    """The T of "5,10,inf"; None is ∞. Raises `InputError` for anything else."""
    result: list[int | None] = []
    for word in text.split(","):
        if word != "inf" and not (word.isdecimal() and 1 <= int(word) <= MAX_STEPS):
            raise InputError(f"--T={text}: {word!r} is neither inf nor a number from 1 to {MAX_STEPS}")
        result.append(None if word == "inf" else int(word))
    return result


class Evaluate:
    """A checkpoint of the run in `workdir` and its test images, ready to be measured."""

    def __init__(self, config: Config, workdir: Path, checkpoint: str, console: Console):
        """Raises `InputError` if config, data and checkpoint do not belong together."""
        self.run, self.console = open_run(workdir, checkpoint, config=config), console
        self.key = self.run.key(Stream.EVALUATION)

    def bound(self, steps: Sequence[int | None] | None, stderr: float | None) -> list[Evaluation]:
        """The bound at each T, or at the model's own: a table, and evaluation.json or evaluation_T_10.json, ….

        With `stderr`, the draws are those of `vdm.evaluation.planned`, else config.evaluation.draws.
        """
        if stderr is not None and not stderr > 0:
            raise InputError(f"--stderr={stderr}: must be above 0")
        run, data = self.run, self.run.dataset.info.to_dict()
        evaluator = Evaluator(run.model, run.mesh, run.config.evaluation.batch_size)
        results = []
        for num_steps in [run.model.num_steps] if steps is None else steps:
            name = "inf" if num_steps is None else str(num_steps)
            plan = None
            with progress_of(self.console, f"evaluating at T = {name}") as progress:
                if stderr is None:
                    draws = exact_draws(num_steps, run.config.evaluation.draws)
                    result = evaluator(
                        run.variables, run.dataset.test, self.key, draws, progress=progress, num_steps=num_steps
                    )
                else:
                    planned_to = (run.variables, run.dataset.test, self.key, stderr, num_steps, progress)
                    try:
                        result, plan = evaluate_to(evaluator, *planned_to)
                    except TooManyDrawsError as error:
                        raise InputError(f"--stderr={stderr:g}: {error}") from error
            file = "evaluation.json" if steps is None else f"evaluation_T_{name}.json"
            if parallel.is_main():
                planned = None if plan is None else plan.to_dict()
                write_evaluation(run.path, result.to_dict(), data, run.step, file, planned)
            results.append(result)
            if plan is not None and stderr is not None:
                self.console.print(_account(result, plan, stderr))
        self.console.print(_table(results, f"{run.dataset.info.name}, test split, step {run.step}"))
        return results

    def ode(self, draws: int, probes: int | None, tolerance: float | None, images: int | None) -> OdeEvaluation:
        """The bounds of `vdm.evaluation.ode` on all test images or the first so many: two lines, evaluation_ode.json.

        Raises `InputError` for a flag out of its range, a model of discrete time, and an image without a solution.
        """
        tolerance = ODE_TOLERANCE if tolerance is None else tolerance
        for flag, value, least in (("ode", draws, 1), ("probes", probes, 0), ("images", images, 1)):
            if value is not None and value < least:
                raise InputError(f"--{flag}={value}: must be {least} or more")
        if not 0 < tolerance < math.inf:
            raise InputError(f"--tolerance={tolerance}: must be above 0, and finite")
        run, settings = self.run, self.run.config.evaluation
        evaluator = OdeEvaluator(run.model, run.mesh, settings.batch_size, probes, tolerance)
        with progress_of(self.console, "solving the ODE") as progress:
            result = evaluate_ode(
                evaluator,
                run.variables,
                run.dataset.test,
                self.key,
                num_draws=draws,
                variational_draws=settings.draws,
                batch_size=settings.batch_size,
                max_images=images or 0,
                progress=progress,
            )
        if parallel.is_main():
            of = measured(run.dataset.info.to_dict(), run.step)
            write_json(run.path / "evaluation_ode.json", result.to_dict() | of)
        self.console.print(_both(result), soft_wrap=True)
        return result

    def variance(self, rounds: int) -> Report:
        """The report of `vdm.evaluation.variance`: a table, variance.json and plots/estimator_variance.png."""
        if rounds < 3:
            raise InputError(f"--variance={rounds}: must be 3 or more")
        run = self.run
        with progress_of(self.console, "variance by schedule") as progress:
            report = variance_report(
                run.model,
                run.variables,
                run.mesh,
                run.dataset.test,
                self.key,
                batch_size=run.config.training.batch_size,
                max_images=run.config.evaluation.max_images,
                rounds=rounds,
                progress=progress,
            )
        curves = _curves(run.model, run.variables)
        if not parallel.is_main():
            return report
        result = report.to_dict()
        write_json(run.path / "variance.json", {"checkpoint_step": run.step} | result)
        path = run.path / "plots" / "estimator_variance.png"
        plots.estimator_variance(path, result["lines"], *curves)
        caption = (
            f"continuous time, step {run.step}, {report.num_images} images with {rounds} draws each; "
            f"stratified over batches of {report.batch_size}"
        )
        table = Table(title="variance of the bits/dim of one draw, an image given", caption=caption)
        for column in ("schedule", "independent times", "stratified times", "bound, bits/dim"):
            table.add_column(column, justify="left" if column == "schedule" else "right")
        for line in report.lines:
            table.add_row(
                line.schedule,
                f"{line.iid:.4g} ± {line.iid_stderr:.2g}",
                f"{line.stratified:.4g} ± {line.stratified_stderr:.2g}",
                f"{line.bits_per_dim:.4f} ± {line.bits_per_dim_stderr:.4f}",
            )
        table.add_row("least of all schedules", f"{report.least:.4g}", "", "")
        self.console.print(table)
        return report


def _curves(model: Model, variables: Variables) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(t, γ(t) of every schedule of the variance report)."""
    t = np.linspace(0, 1, 201, dtype=np.float32)
    table = with_equal_ends(model, variables)
    return t, {name: np.asarray(jax.jit(s.gamma)(params, jnp.asarray(t))) for name, (s, params) in table.items()}


def _account(result: Evaluation, plan: Plan, target: float) -> str:
    """What a planned evaluation took."""
    saving, whole = plan.iid_calls / plan.calls, plan.iid_calls / (plan.calls + plan.pilot_calls)
    return (
        f"noise ± {result.noise_stderr:.4f} bits/dim (asked for {target:g}) with {plan.times} times: {plan.calls} "
        f"network calls an image and {plan.pilot_calls:.2g} for the pilot; independent uniform times would take "
        f"{plan.iid_calls:.0f}: {saving:.1f} times as many ({whole:.1f} with the pilot)"
    )


def _both(result: OdeEvaluation) -> str:
    """The ODE's bound and the variational bound, a line each."""
    own, probes = result.variational, result.num_probes
    divergence = f"{probes} probe{'s' * (probes > 1)}" if probes else "exact divergence"
    error = "" if result.difference_stderr is None else f" ± {result.difference_stderr:.4f}"
    solver = (
        f"no solution at tolerance {result.tolerance / 10:g} to tell the solver's error by"
        if result.solver_error is None
        else f"solver's error at most {result.solver_error:.2g}"
    )
    return (
        f"ODE {result}: reconstruction {result.reconstruction:.4f}, latent {result.latent:.4f}, dequantization "
        f"{result.dequantization:.4f}; {result.num_images} images, draws an image: {result.num_draws}, {divergence}, "
        f"{result.mean_calls:.0f} network calls a draw (at most {result.max_calls}), {solver}\n"
        f"variational bound {own}, same images, draws an image: {own.num_draws}; ODE − bound "
        f"{result.difference:+.4f}{error}. Two kinds of number: across papers, compare each with its own kind only"
    )


def _table(results: Sequence[Evaluation], title: str) -> Table:
    first = results[0]
    table = Table(title=title, caption=f"{first.num_images} images, EMA, float32", min_width=len(title) + 4)
    for column in ("T", "total, bits/dim", "reconstruction", "prior", "diffusion", "draws an image"):
        table.add_column(column, justify="right")
    for result in results:
        table.add_row(
            "∞" if result.num_steps is None else str(result.num_steps),
            str(result).removesuffix(" bits/dim"),
            *(f"{getattr(result, name):.4f}" for name in ("reconstruction", "prior", "diffusion")),
            f"{result.num_draws}{', all terms' if result.exact_sum else ''}",
        )
    return table
