"""`vdm report`: one HTML page about a run, or several side by side; training ends by writing that of its run."""

import math
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from vdm import parts
from vdm.config import to_dict
from vdm.data import Dataset, examples, load, selected
from vdm.errors import InputError
from vdm.files import replace_text
from vdm.keys import Stream, stream_key
from vdm.plots.images import grid
from vdm.plots.samples import is_image
from vdm.programs import config_files
from vdm.report import Collected, collect, page
from vdm.report.collect import list_of
from vdm.report.configs import FILLED, flat
from vdm.report.numbers import shown_value
from vdm.runs.kinds import model_of
from vdm.runs.places import home, located, name_of
from vdm.runs.records import RUNS, read_config, read_record

NAME = "report.html"
EXAMPLES = 64
"""Number of test images that a report shows."""


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page about these runs to `out`, by default report.html in the first run's folder; return its path.

    The folder of a released model, `vdm:NAME`, is not written to: its report goes to runs/vdm_NAME. Raises `InputError`
    for a folder that is not a run's.
    """
    found = []
    for path in map(located, runs):
        with _examples_of(path) as data:
            found.append(collect(path, data))
            found[-1].parameters = num_parameters(path)
    out = home(runs[0]) / NAME if out is None else out
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_text(out, page(found, [commands(run) for run in found]))
    return out


def report_of_training(path: Path, dataset: Dataset, console: Console) -> None:
    """Write the report of a run that has just been trained; any failure is only a warning on the console."""
    try:
        draw_examples(dataset, path / "plots" / "data.png")
        console.print(f"report: {write_report([path])}", soft_wrap=True, markup=False)
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        console.print(f"warning: no report was written: {said}", style="yellow", markup=False)


def draw_examples(dataset: Dataset, path: Path) -> None:
    """Draw a grid of test images, spread over the split; nothing for vectors, which are plotted with their samples."""
    if is_image(dataset.info.shape):
        some = examples(dataset.test, selected(len(dataset.test), EXAMPLES))["image"]
        grid(some, path, dataset.info.levels, f"{dataset.info.name}: test images")


def num_parameters(path: Path) -> int | None:
    """Count the parameters of a run's network by the shapes in its config; None if `train` was given the model."""
    try:
        record, config = read_record(path), read_config(path, *RUNS)
        if any("model" in session.get("given", ()) for session in record.get("sessions", ())):
            return None
        variables = jax.eval_shape(model_of(config).init, stream_key(0, Stream.INIT))
    except InputError:
        return None
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["network"]))


def commands(run: Collected) -> dict[str, str]:
    """Return the command lines that train the run again, evaluate it, draw samples from it and write its report."""
    sessions = list_of(run.record, "sessions", dict)
    made = sessions[-1].get("given") if sessions else None
    again = None if made or not run.config else training_command(run.config, f"runs/{run.path.resolve().name}")
    called = name_of(run.path)
    where = shlex.quote(f"--workdir={called}")
    return ({"Train the same run again": again} if again else {}) | {
        "Measure its bits/dim on the test split": f"vdm evaluate {where}",
        "Draw samples from it": f"vdm sample {where} --num=64",
        "Write this report again": f"vdm report {shlex.quote(called)}",
    }


def training_command(config: Mapping[str, Any], workdir: str) -> str | None:
    """Return a `vdm train` command with the nearest config that comes with vdm, and flags for what differs from it.

    None if no such config is for the same task. Fields that training reads from the data are left out.
    """
    found = {name: overrides for name in config_files.names() if (overrides := _overrides(name, config)) is not None}
    if not found:
        return None
    name = min(found, key=lambda each: len(found[each]))
    imports = [f"--import={','.join(given)}"] if (given := list_of(config, "imports", str)) else []
    flags = [f"--config.{field}={shown_value(value)}" for field, value in found[name].items()]
    return shlex.join(["vdm", "train", f"--config={name}", *imports, *flags, f"--workdir={workdir}"])


def _overrides(name: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the fields of a config that differ from a config file's; None if the two are for different tasks."""
    try:
        base = flat(to_dict(config_files.load(config_files.find(name), RUNS).config))
    except InputError:
        return None
    wanted = flat(dict(config))
    if base.keys() != wanted.keys():
        return None
    base = {field: list(value) if isinstance(value, tuple) else value for field, value in base.items()}
    of_data = {field for field in FILLED if base.get(field) is None}
    return {
        field: value
        for field, value in wanted.items()
        if value != base[field] and field not in of_data and field != "imports"
    }


@contextmanager
def _examples_of(path: Path) -> Iterator[Path | None]:
    """Yield a temporary picture of a run's data, or None if the run has its own or its data would need a download."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "data.png"
        try:
            if not (path / "plots" / "data.png").exists():
                config = read_config(path, *RUNS).data
                if _is_at_hand(config.name):
                    draw_examples(load(config), drawn)
        except InputError:  # no run, or data that were moved: the page goes without
            pass
        yield drawn if drawn.exists() else None


def _is_at_hand(name: str) -> bool:
    """Return whether data are files or come with a package; those of TFDS may need a download."""
    kind = name.partition(":")[0].partition("(")[0]
    return kind in parts.names("source") and kind != "tfds"
