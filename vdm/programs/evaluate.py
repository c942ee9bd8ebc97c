"""`vdm evaluate` of a diffusion model: bounds in bits/dim, and others, of a checkpoint on the test split."""

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
from vdm.evaluation import race
from vdm.evaluation.bound import Evaluation, Evaluator, exact_draws, total_with_error
from vdm.evaluation.classify import LABEL, Classification, Classifier
from vdm.evaluation.conditional import Dropped, difference
from vdm.evaluation.importance import ImportanceEvaluation
from vdm.evaluation.ode import OdeEvaluation, OdeEvaluator, evaluate_ode
from vdm.evaluation.planned import Plan, TooManyDrawsError, evaluate_by, evaluate_to
from vdm.evaluation.variance import Report, variance_report, with_equal_ends
from vdm.model import DROPPED, Model, Variables
from vdm.programs.classification import classification_lines, classification_table
from vdm.programs.measured import Measured
from vdm.progress import progress_of
from vdm.reading import whole
from vdm.settings import MAX_INT, MAX_STEPS

PRIORS = ("uniform", "train")
"""Values of --prior: all classes equally likely, or as frequent as among the training images."""

ODE_TOLERANCE = 1e-4
"""Default of --tolerance."""


def parse_steps(text: str) -> list[int | None]:
    """Parse a list of T such as "5,10,inf"; None is ∞. Raises `InputError` for other text and for repeated numbers."""
    result: list[int | None] = []
    for word in text.split(","):
        try:
            num_steps = None if word == "inf" else whole(word, 1, MAX_STEPS)
        except ValueError as error:
            raise InputError(f"--T={text}: {word!r}: {error}, or inf") from error
        if num_steps in result:
            raise InputError(f"--T={text}: {word} is listed twice")
        result.append(num_steps)
    return result


class Evaluate(Measured):
    """A checkpoint of a diffusion model's run and its test images, with a method for each way to measure it."""

    def __init__(self, config: Config, workdir: Path, checkpoint: str, console: Console, out: Path | None = None):
        super().__init__(config, workdir, checkpoint, console, out)
        self._condition = " and ".join(self.condition)
        """The conditions of the bounds in words, such as "label"; "" for none."""
        self._given = f" given {self._condition}" if self._condition else ""

    @property
    def condition(self) -> Sequence[str]:
        """Names of the conditions that the bounds are given."""
        return tuple(self.model.condition)

    def importance_at(
        self, steps: Sequence[int | None] | None, draws: int, images: int | None
    ) -> list[ImportanceEvaluation]:
        """Measure the importance-weighted bound at each T, or at the model's own.

        Raises `InputError` for continuous time.
        """
        several = [self.model.num_steps] if steps is None else steps
        if None in several:
            raise InputError(
                f"--importance={draws}: in continuous time there are infinitely many latents; must go with --T=STEPS"
            )
        return [self.importance(draws, images, num_steps) for num_steps in several]

    def bound(self, steps: Sequence[int | None] | None, stderr: float | None) -> list[Evaluation]:
        """Measure the variational bound at each T, or at the model's own.

        Prints a table and writes a file for each T, such as step_2000_draws_50_T_10.json. With `stderr`, in bits/dim,
        `vdm.evaluation.planned` chooses the draws for this standard error; else config.evaluation.draws are taken.
        If conditions were dropped at random in training, the bound without them is measured as well.
        """
        if stderr is not None and not 0 < stderr < math.inf:
            raise InputError(f"--stderr={stderr}: must be above 0, and finite")
        run, draws = self.run, self.run.config.evaluation.draws
        asked = {"draws": draws} if stderr is None else {"stderr": f"{stderr:g}"}
        names = {n: "inf" if n is None else str(n) for n in ([run.model.num_steps] if steps is None else steps)}
        paths = {num_steps: self._path(**asked, T=name) for num_steps, name in names.items()}
        evaluator = Evaluator(self.model, run.mesh, run.config.evaluation.batch_size)
        found = []
        for num_steps, name in names.items():
            plan, dropped = None, None
            of_all = (run.variables, run.dataset.test, self.key)
            with progress_of(self.console, f"evaluating at T = {name}") as progress:
                if stderr is None:
                    exact = exact_draws(num_steps, draws)
                    result = evaluator(*of_all, exact, progress=progress, num_steps=num_steps)
                else:
                    try:
                        result, plan = evaluate_to(evaluator, *of_all, stderr, num_steps, progress)
                    except TooManyDrawsError as error:
                        raise InputError(f"--stderr={stderr:g}: {error}") from error
            if DROPPED in self.model.conditions:
                of_all = (run.variables, Dropped(run.dataset.test), self.key)
                with progress_of(self.console, f"with {self._condition} dropped, at T = {name}") as progress:
                    if plan is None:
                        dropped = evaluator(*of_all, result.num_draws, progress=progress, num_steps=num_steps)
                    else:
                        dropped = evaluate_by(plan, evaluator, *of_all, num_steps, progress)
            found.append((result, dropped))
            # Printed before the file is written, in case the disk is full.
            self.console.print(f"T = {name}: {result}{self._given}")
            if plan is not None and stderr is not None:
                self.console.print(_account(result, plan, stderr))
            numbers = result.to_dict() | ({} if plan is None else {"plan": plan.to_dict()})
            if dropped is not None:
                worth = difference(dropped, result)
                self.console.print(f"T = {name}: {dropped} with {self._condition} dropped: {worth}, paired")
                numbers["dropped"] = dropped.to_dict() | {"difference": worth.to_dict()}
            self._write(paths[num_steps], numbers)
        self.console.print(_table(found, f"{self._title}{self._given and ',' + self._given}"), soft_wrap=False)
        return [result for result, _ in found]

    def ode(self, draws: int, probes: int | None, tolerance: float | None, images: int | None) -> OdeEvaluation:
        """Measure the bounds of `vdm.evaluation.ode` on all test images or `images` of them: two lines, and a file.

        Raises `InputError` for a flag out of range, a model of discrete time, and an image whose ODE has no solution.
        """
        tolerance = ODE_TOLERANCE if tolerance is None else tolerance
        for flag, value, least in (("ode", draws, 1), ("probes", probes, 0), ("images", images, 1)):
            if value is not None and not least <= value <= MAX_INT:
                raise InputError(f"--{flag}={value}: must be from {least} to {MAX_INT}")
        if not 0 < tolerance < math.inf:
            raise InputError(f"--tolerance={tolerance}: must be above 0, and finite")
        run, settings = self.run, self.run.config.evaluation
        given = {"probes": probes, "tolerance": f"{tolerance:g}", "images": images, "draws": settings.draws}
        # Where the solver's error is large, the result may depend on the batch size.
        path = self._path(
            "evaluation.batch_size", ode=draws, **{name: value for name, value in given.items() if value is not None}
        )
        evaluator = OdeEvaluator(self.model, run.mesh, settings.batch_size, probes, tolerance)
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
        self.console.print(_both(result, self._given), soft_wrap=True)
        self._write(path, result.to_dict())
        return result

    def variance(self, rounds: int) -> Report:
        """Measure the variance of the bound by schedule (`vdm.evaluation.variance`): a table, a file and a plot."""
        if not 3 <= rounds <= MAX_INT:
            raise InputError(f"--variance={rounds}: must be from 3 to {MAX_INT}")
        run = self.run
        path = self._path("evaluation.max_images", "training.batch_size", variance=rounds)
        with progress_of(self.console, "variance by schedule") as progress:
            report = variance_report(
                self.model,
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
        caption = (
            f"continuous time{self._given}, step {run.step}, {report.num_images} images with {rounds} draws each; "
            f"stratified over batches of {report.batch_size}"
        )
        table = Table(title="variance of the one-draw estimate of an image's bits/dim", caption=caption)
        for column in ("schedule", "independent times", "stratified times", "bound, bits/dim"):
            table.add_column(column, justify="left" if column == "schedule" else "right")
        for line in report.lines:
            table.add_row(
                line.schedule,
                f"{line.iid:.4g} ± {line.iid_stderr:.2g}",
                f"{line.stratified:.4g} ± {line.stratified_stderr:.2g}",
                f"{line.bits_per_dim:.4f} ± {line.bits_per_dim_stderr:.4f}",
            )
        table.add_row("least for any schedule", f"{report.least:.4g}", "", "")
        self.console.print(table, soft_wrap=False)
        self._write(path, report.to_dict() | {"precision": self.precision})
        if parallel.is_main():
            plots.estimator_variance(path.with_suffix(".png"), report.to_dict()["lines"], *curves)
            self.console.print(f"wrote {path.with_suffix('.png')}", soft_wrap=True)
        return report

    def classify(self, draws: int, error: float | None, prior: str, images: int | None) -> Classification:
        """Classify the test images by their bounds (`vdm.evaluation.classify`): lines, a table, a file and a picture.

        `error` is the probability at most with which dropping classes early may change an image's class; None drops
        none. `prior` is one of `PRIORS`. Raises `InputError` for a flag out of range and for a model without labels.
        """
        least = 1 if error is None else 2 * race.MIN_DRAWS
        for flag, value, smallest in (("classify", draws, least), ("images", images, 1)):
            if value is not None and not smallest <= value <= MAX_INT:
                early = " with --drop_error" if smallest > 1 else ""
                raise InputError(f"--{flag}={value}: must be from {smallest} to {MAX_INT}{early}")
        if error is not None and not 0 < error < 1:
            raise InputError(f"--drop_error={error:g}: must be between 0 and 1")
        run, settings = self.run, self.run.config.evaluation
        names = run.dataset.info.classes
        if LABEL not in self.model.condition or names is None:
            has = self._condition or "nothing"
            raise InputError(
                f"--classify: the model of {run.path} is given {has}; must be given labels of named classes"
            )
        given = {"drop_error": None if error is None else f"{error:g}", "images": images}
        given |= {"prior": None if prior == PRIORS[0] else prior}
        path = self._path(classify=draws, **{name: value for name, value in given.items() if value is not None})
        classifier = Classifier(self.model, run.mesh, settings.batch_size, len(names))
        shares = None if prior == PRIORS[0] else self._class_shares(len(names))
        with progress_of(self.console, "classifying") as progress:
            result = classifier(
                run.variables,
                run.dataset.test,
                self.key,
                draws,
                log_prior=None if shares is None else np.log(shares),
                error=error,
                max_images=images or 0,
                progress=progress,
            )
        self.console.print(classification_lines(result, prior), soft_wrap=True)
        self.console.print(classification_table(result, names, self._title), soft_wrap=False)
        probabilities = None if shares is None else shares.tolist()
        self._write(
            path, result.to_dict() | {"classes": list(names), "prior": {"kind": prior, "shares": probabilities}}
        )
        if parallel.is_main():
            plots.confusion(path.with_suffix(".png"), result.confusion, names, f"{self._title}: accuracy {result}")
            self.console.print(f"wrote {path.with_suffix('.png')}", soft_wrap=True)
        return result

    def _class_shares(self, num_classes: int) -> np.ndarray:
        """Return the class frequencies of the training images, (n + 1)/(N + C) by Laplace's rule: none is zero."""
        train = self.run.dataset.train
        with progress_of(self.console, "counting the classes") as progress:
            counts = np.ones(num_classes)
            for k in range(len(train)):
                counts[int(train[k][LABEL])] += 1
                progress(k + 1, len(train))
        return counts / counts.sum()


def _curves(model: Model, variables: Variables) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return (t, γ(t) of each schedule of the variance report by name)."""
    t = np.linspace(0, 1, 201, dtype=np.float32)
    table = with_equal_ends(model, variables)
    return t, {name: np.asarray(jax.jit(s.gamma)(params, jnp.asarray(t))) for name, (s, params) in table.items()}


def _account(result: Evaluation, plan: Plan, target: float) -> str:
    """Return a line on what a planned evaluation cost and what the plan saved."""
    saving, whole = plan.iid_calls / plan.calls, plan.iid_calls / (plan.calls + plan.pilot_calls)
    return (
        f"noise ± {result.noise_stderr:.4f} bits/dim (asked for {target:g}) with {plan.times} times: {plan.calls} "
        f"network calls per image and {plan.pilot_calls:.2g} for the pilot; independent uniform times would take "
        f"{plan.iid_calls:.0f}: {saving:.1f} times as many ({whole:.1f} with the pilot)"
    )


def _both(result: OdeEvaluation, given: str) -> str:
    """Return a line for the ODE's bound and one for the variational bound; `given` names the condition of both."""
    own, probes = result.variational, result.num_probes
    divergence = f"{probes} probe{'s' * (probes > 1)}" if probes else "exact divergence"
    error = "" if result.difference_stderr is None else f" ± {result.difference_stderr:.4f}"
    solver = (
        f"no solution at tolerance {result.tolerance / 10:g}, so the solver's error is unknown"
        if result.solver_error is None
        else f"solver's error at most {result.solver_error:.2g} ({result.num_checked} of the images solved again)"
    )
    return (
        f"ODE {result}{given}: reconstruction {result.reconstruction:.4f}, latent {result.latent:.4f}, dequantization "
        f"{result.dequantization:.4f}; {result.num_images} images (± over {own.stderr_over}), draws per image: "
        f"{result.num_draws}, {divergence}, "
        f"{result.mean_calls:.0f} network calls per draw (at most {result.max_calls}), {solver}\n"
        f"variational bound {own}{given}, same images, draws per image: {own.num_draws}; ODE − bound "
        f"{result.difference:+.4f}{error}. The two are different quantities: compare each only with its own kind"
    )


def _table(results: Sequence[tuple[Evaluation, Evaluation | None]], title: str) -> Table:
    """Return a table with a row for each bound.

    Where the bound with the condition dropped is known, a second row has it, and a third the paired difference.
    """
    first, _ = results[0]
    caption = f"{first.num_images} images, EMA, {first.precision}; ± over {first.stderr_over}"
    table = Table(title=title, caption=caption, min_width=max(len(title), len(caption)) + 4)
    for column in ("T", "total, bits/dim", "reconstruction", "prior", "diffusion", "draws/image"):
        table.add_column(column, justify="right", no_wrap=column != "draws/image")

    def add(row: str, result: Evaluation) -> None:
        table.add_row(
            row,
            total_with_error(result.total, result.stderr).removesuffix(" bits/dim"),
            *(f"{getattr(result, name):.4f}" for name in ("reconstruction", "prior", "diffusion")),
            f"{result.num_draws}{', all terms' if result.exact_sum else ''}",
        )

    for result, dropped in results:
        add("∞" if result.num_steps is None else str(result.num_steps), result)
        if dropped is not None:
            add("dropped", dropped)
            table.add_row("worth", str(difference(dropped, result)))
    return table
