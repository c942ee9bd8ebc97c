"""Where what is measured and drawn of a run goes, under names that tell what it is of: nothing replaces another."""

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
    """The folder `name` of a run's `home`, or of `out`, found to be writable.

    Raises `InputError` if it is not; of several processes, all must call it.
    """
    flag, hint = ("--workdir", "; --out=FOLDER writes elsewhere") if out is None else ("--out", "")
    folder = (home(workdir) if out is None else out) / name
    parallel.on_main(lambda: check_writable(folder, flag, hint))
    return folder


def stem(run: Run, *fields: str, data: bool = True, **settings: Any) -> str:
    """What results of these settings are called: step_2000_draws_50_T_inf.

    In it are the checkpoint's step, every setting, the data if they are not the run's own (and it depends on `data`),
    and those of the config's `fields` that are not as the run was trained with: step_2000_data_letters_1f2e3d4c_….
    """
    own, here = flatten(read_config(run.path, *RUNS)), flatten(run.config)
    others = {name.rpartition(".")[2]: here[name] for name in fields if here[name] != own[name]}
    words = [f"step_{run.step}", *([f"data_{other}"] if data and (other := other_data(run)) else [])]
    return "_".join([*words, *(as_word(f"{name}_{value}") for name, value in {**others, **settings}.items())])


def other_data(run: Run) -> str:
    """ "" for the run's own data; of others their name and version, letters_1f2e3d4c."""
    info, record = run.dataset.info, read_record(run.path)
    if info.name == read_config(run.path, *RUNS).data.name or _same_data(record, info, run.path):
        return ""
    short = Path(info.name.partition(":")[2]).stem or info.name
    return as_word(f"{short}_{info.version.removeprefix('sha256:')[:8]}")


def _same_data(record: dict[str, Any], info: DatasetInfo, path: Path) -> bool:
    """Whether they are those of the record under another name, as of data that were moved."""
    try:
        check_same_data(record, info.to_dict(), path)
    except InputError:
        return False
    return bool(record.get("data"))


def check_same_weights(path: Path, digest: str) -> None:
    """Raises `InputError` if a result there is of other weights: of another run, or one trained anew to that step.

    `digest` is their `vdm.runs.records.weights_digest`.
    """
    try:
        there = field(read_json(path, {}), "weights_digest", str | None, path, None)
    except InputError as error:
        raise InputError(f"{error}; move it away") from error
    if there not in (None, digest):
        raise InputError(f"{path}: is of other weights; move it away, or write elsewhere with --out=FOLDER")
