"""What vdm evaluate has whatever it measures: a checkpoint of a run, its test images, and files of results."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vdm import parallel, precisions
from vdm.errors import InputError
from vdm.evaluation.importance import ImportanceEvaluation, ImportanceEvaluator
from vdm.files import write_json
from vdm.keys import Stream
from vdm.model import at_precision
from vdm.progress import progress_of
from vdm.runs import results
from vdm.runs.open import open_run
from vdm.runs.records import measured, weights_digest
from vdm.settings import MAX_INT

MOST_DRAWS = 100_000
"""Of the latents of an image, whose log weights are kept."""


Modes = Mapping[str, tuple[str, Sequence[str]]]
"""What vdm evaluate may measure, by its flag: why it goes without the others, and the flags that go with it."""

SCORING = ("it is of samples, not of bounds", ("samples", "num", "real", "weights", "classifier"))
WEIGHTING = ("it is of the draws that it weights, with --importance=DRAWS", ("images",))


def mode_of(given: Any, modes: Modes, others: Sequence[str] = (), together: tuple[str, str] = ("", "")) -> str | None:
    """Which of the modes is asked for by the flags given, if any.

    Raises `InputError` for two of them or of `others`, but for the pair `together`, and for a flag without its mode.
    """
    asked = [name for name in (*others, *modes) if given[name].value is not None]
    mode = next((name for name in modes if name in asked), None)
    for name in asked:
        if mode not in (None, name) and (mode, name) != together:
            raise InputError(f"--{mode}: goes without --{name}; {modes[mode][0]}")
    for name in dict.fromkeys(option for _, options in modes.values() for option in options):
        of = {each: f"--{each}={'NAMES' if each == 'metrics' else 'DRAWS'}" for each in modes if name in modes[each][1]}
        if given[name].value is not None and mode not in of:
            raise InputError(f"--{name}: goes with {' or '.join(of.values())} only")
    return mode


class Measured:
    """A checkpoint of the run in `workdir` and its test images, ready to be measured.

    What is measured goes to `evaluations/` in the run's folder, or in `out`, under a name of its own: see
    `vdm.runs.results.stem`. The run's evaluation.json stays what training found at its end.
    """

    def __init__(self, config: Any, workdir: Path, checkpoint: str, console: Console, out: Path | None = None):
        """Raises `InputError` if config, data and checkpoint do not belong together, or the folder cannot be written.

        The run itself is only read.
        """
        self.folder = results.folder_of(workdir, out, "evaluations")
        self.run, self.console = open_run(workdir, checkpoint, config=config), console
        with progress_of(console, "reading the data") as progress:
            self.run.load(progress)
        self.precision = self.run.config.evaluation.precision
        self.model = at_precision(self.run.model, self.precision, "evaluation")
        self.key = self.run.key(Stream.EVALUATION)
        self._weights = weights_digest(self.run.variables)
        self._title = f"{self.run.dataset.info.name}, test split, step {self.run.step}"

    @property
    def condition(self) -> Sequence[str]:
        """What the bounds are given, by name."""
        return ()

    def importance(self, draws: int, images: int | None, num_steps: int | None = None) -> ImportanceEvaluation:
        """The importance-weighted bound of so many draws of the latents: a table, and step_2000_importance_50.json.

        Of all test images, or so many of them. `num_steps` is T of a diffusion model. Raises `InputError` for numbers
        out of range.
        """
        for flag, value, most in (("importance", draws, MOST_DRAWS), ("images", images, MAX_INT)):
            if value is not None and not 1 <= value <= most:
                raise InputError(f"--{flag}={value}: must be from 1 to {most}")
        run = self.run
        given = {"T": num_steps, "images": images}
        path = self._path(importance=draws, **{name: value for name, value in given.items() if value is not None})
        evaluator = ImportanceEvaluator(self.model, run.mesh, run.config.evaluation.batch_size, num_steps)
        with progress_of(self.console, "weighting draws by importance") as progress:
            result = evaluator(run.variables, run.dataset.test, self.key, draws, images or 0, progress)
        title = self._title + ("" if num_steps is None else f", T = {num_steps}")
        # Before the file: a disk may be full by now.
        self.console.print(_table(result, title), soft_wrap=False)
        self._write(path, result.to_dict())
        return result

    def _path(self, *fields: str, **settings: Any) -> Path:
        """The file of what is measured with these settings; see `results.stem`. Another precision than float32 is one.

        Raises `InputError` if there is one of other weights.
        """
        if self.precision != precisions.FLOAT32:
            settings["precision"] = self.precision
        path = self.folder / f"{results.stem(self.run, 'seed', *fields, **settings)}.json"
        parallel.on_main(lambda: results.check_same_weights(path, self._weights))
        return path

    def _write(self, path: Path, numbers: dict[str, Any]) -> None:
        """The numbers, with what they are of."""
        if not parallel.is_main():
            return
        run = self.run
        of: dict[str, Any] = {"weights_digest": self._weights, "seed": run.config.seed, "command": sys.argv}
        if self.condition:
            of["condition"] = list(self.condition)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, numbers | measured(run.dataset.info.to_dict(), run.step) | of)
        self.console.print(f"wrote {path}", soft_wrap=True)


def _table(result: ImportanceEvaluation, title: str) -> Table:
    """A row for each number of draws."""
    caption = (
        f"{result.num_images} images, the same {result.sizes[-1]} draws of each in every row, which are worth "
        f"{result.effective} of equal weight; ± one standard error over {result.stderr_over}"
    )
    table = Table(title=title, caption=caption, min_width=len(title) + 4)
    for column in ("draws weighted together", "bits/dim", "below the plain bound, paired"):
        table.add_column(column, justify="right")
    for size, bound, gain in zip(result.sizes, result.bounds, result.gains, strict=True):
        table.add_row(str(size), str(bound), "" if size == 1 else str(gain))
    return table
