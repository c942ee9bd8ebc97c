"""Where a run's results and plots go, under names that say what they are, so that none replaces another."""

from pathlib import Path
from typing import Any

from vdm import parallel
from vdm.data import DatasetInfo
from vdm.errors import InputError
from vdm.files import check_writable
from vdm.reading import field, read_json
from vdm.runs.folder import check_same_data
from vdm.runs.open import Run
from vdm.runs.places import home
from vdm.runs.records import RUNS, read_config, read_record
from vdm.settings import as_word, flatten


def folder_of(workdir: Path, out: Path | None, name: str) -> Path:
    """Return the folder `name` inside the run's `home` or inside `out`, after checking that it is writable.

    Raises `InputError` if it is not. With several processes, all must call it.
    """
    flag, hint = ("--workdir", "; --out=FOLDER writes elsewhere") if out is None else ("--out", "")
    folder = (home(workdir) if out is None else out) / name
    parallel.on_main(lambda: check_writable(folder, flag, hint))
    return folder


def stem(run: Run, *fields: str, data: bool = True, **settings: Any) -> str:
    """Return the base name of result files for these settings, such as step_2000_draws_50_T_inf.

    It contains the checkpoint's step, the data if they are not the run's own (unless `data` is False), those of the
    config's `fields` that differ from the run's own config, and all `settings`: step_2000_data_letters_1f2e3d4c_….
    """
    own, here = flatten(read_config(run.path, *RUNS)), flatten(run.config)
    others = {name.rpartition(".")[2]: here[name] for name in fields if here[name] != own[name]}
    words = [f"step_{run.step}", *([f"data_{other}"] if data and (other := other_data(run)) else [])]
    return "_".join([*words, *(as_word(f"{name}_{value}") for name, value in {**others, **settings}.items())])


def other_data(run: Run) -> str:
    """Return "" for the run's own data; for other data their name and version, such as letters_1f2e3d4c."""
    info, record = run.dataset.info, read_record(run.path)
    if info.name == read_config(run.path, *RUNS).data.name or _same_data(record, info, run.path):
        return ""
    short = Path(info.name.partition(":")[2]).stem or info.name
    return as_word(f"{short}_{info.version.removeprefix('sha256:')[:8]}")


def _same_data(record: dict[str, Any], info: DatasetInfo, path: Path) -> bool:
    """Whether the data match those in the record, even under another name (because they were moved, say)."""
    try:
        check_same_data(record, info.to_dict(), path)
    except InputError:
        return False
    return bool(record.get("data"))


def check_same_weights(path: Path, digest: str) -> None:
    """Raise `InputError` if the result at `path` was computed with other weights (another run, or trained anew).

    `digest` is the `vdm.runs.records.weights_digest` of the current weights.
    """
    try:
        there = field(read_json(path, {}), "weights_digest", str | None, path, None)
    except InputError as error:
        raise InputError(f"{error}; move it away") from error
    if there not in (None, digest):
        raise InputError(f"{path}: is of other weights; move it away, or write elsewhere with --out=FOLDER")
