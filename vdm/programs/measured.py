"""What all modes of `vdm evaluate` share: a checkpoint of a run, its test images, and files of results."""

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
"""Limit of --importance: the log weights of all draws of an image's latents are kept in memory."""


Modes = Mapping[str, tuple[str, Sequence[str]]]
"""What `vdm evaluate` can measure, by flag: why it excludes the other flags, and the flags that go with it."""

SCORING = ("it measures samples, not bounds", ("samples", "num", "real", "weights", "classifier"))
WEIGHTING = ("its draws are those of --importance=DRAWS", ("images",))


def mode_of(given: Any, modes: Modes, others: Sequence[str] = (), together: tuple[str, str] = ("", "")) -> str | None:
    """Return which of the modes the flags ask for, or None.

    Raises `InputError` for two of `modes` and `others` at once, except the pair `together`, and for a flag without the
    mode that it belongs to.
    """
    asked = [name for name in (*others, *modes) if given[name].value is not None]
    mode = next((name for name in modes if name in asked), None)
    for name in asked:
        if mode not in (None, name) and (mode, name) != together:
            raise InputError(f"--{mode}: cannot be combined with --{name}; {modes[mode][0]}")
    for name in dict.fromkeys(option for _, options in modes.values() for option in options):
        of = {each: f"--{each}={'NAMES' if each == 'metrics' else 'DRAWS'}" for each in modes if name in modes[each][1]}
        if given[name].value is not None and mode not in of:
            raise InputError(f"--{name}: goes with {' or '.join(of.values())} only")
    return mode


class Measured:
    """A checkpoint of the run in `workdir` and its test images, with methods to measure it.

    Results go to `evaluations/` in the run's folder, or to `out`, each under the name that `vdm.runs.results.stem`
    gives it. The run's evaluation.json, from the end of training, is not changed.
    """

    def __init__(self, config: Any, workdir: Path, checkpoint: str, console: Console, out: Path | None = None):
        """Open the checkpoint and load the data.

        Raises `InputError` if config, data and checkpoint do not belong together, or the folder cannot be written.
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
        """Names of the conditions that the bounds are given."""
        return ()

    def importance(self, draws: int, images: int | None, num_steps: int | None = None) -> ImportanceEvaluation:
        """Measure the importance-weighted bound: a table, and a file such as step_2000_importance_50.json.

        `draws` is the number of draws of each image's latents, `images` the number of test images (None: all), and
        `num_steps` T of a diffusion model. Raises `InputError` for numbers out of range.
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
        # Printed before the file is written, in case the disk is full.
        self.console.print(_table(result, title), soft_wrap=False)
        self._write(path, result.to_dict())
        return result

    def _path(self, *fields: str, **settings: Any) -> Path:
        """Return the path for results with these settings (`results.stem`), which include a precision unless float32.

        Raises `InputError` if the file exists and was measured with other weights.
        """
        if self.precision != precisions.FLOAT32:
            settings["precision"] = self.precision
        path = self.folder / f"{results.stem(self.run, 'seed', *fields, **settings)}.json"
        parallel.on_main(lambda: results.check_same_weights(path, self._weights))
        return path

    def _write(self, path: Path, numbers: dict[str, Any]) -> None:
        """Write the numbers, with the weights, data and command that they belong to."""
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
    """Return a table with a row for each number of draws."""
    caption = (
        f"{result.num_images} images, the same {result.sizes[-1]} draws of each in every row, with an effective sample "
        f"size of {result.effective}; ± one standard error over {result.stderr_over}"
    )
    table = Table(title=title, caption=caption, min_width=len(title) + 4)
    for column in ("draws weighted together", "bits/dim", "below the plain bound, paired"):
        table.add_column(column, justify="right")
    for size, bound, gain in zip(result.sizes, result.bounds, result.gains, strict=True):
        table.add_row(str(size), str(bound), "" if size == 1 else str(gain))
    return table
