"""The folder of a run: one writer at a time, and one config and data set, which checks hold it to."""

import fcntl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from vdm import settings
from vdm.config import RunConfig, to_dict
from vdm.errors import InputError
from vdm.files import write_json
from vdm.reading import shown
from vdm.runs.places import check_writable_run
from vdm.runs.records import RUNS, checkpoint_steps, keep_evaluation, read_config, read_record, session_record


class RunDir:
    """`workdir` with config.json, run.json, metrics.jsonl, evaluation.json, checkpoints/, samples/, plots/.

    Holds a lock while open. Raises `InputError` for a second writer, for a folder that cannot be written, and, once
    there is a checkpoint, for a config that would change what is trained, for fewer steps than are done, for other data
    under the same name, and for another start. Where the config is lost, of config.json and of run.json, this one is
    taken for it; `warnings` says so.
    """

    def __init__(self, path: Path, config: RunConfig, data: dict[str, Any], init_from: dict[str, Any] | None = None):
        """`data` is the data set's record, `DatasetInfo.to_dict()`; `init_from` says whose weights it starts from."""
        self.path, self._config, self._data, self._init_from = path, config, data, init_from
        self.warnings: list[str] = []
        self._lock = lock(path)
        try:
            if done := checkpoint_steps(path):
                self._check(done[-1])
                keep_evaluation(path, config.training.steps)
        except InputError:
            self.close()
            raise
        write_json(path / "config.json", to_dict(config))

    def _check(self, step: int) -> None:
        path, config, record = self.path, self._config, read_record(self.path)
        check_same_data(record, self._data, path)
        if (path / "config.json").exists() or "config" in record:
            check_same(read_config(path, type(config)), config, path)
        else:
            self.warnings.append(f"{path}: its config.json is lost: whether this is the run's config is not known")
        if config.training.steps < step:
            raise InputError(f"config.training.steps={config.training.steps}: must be {step} or more, which are done")
        there = record.get("init_from")
        given = self._init_from
        if given is not None and (
            there is None or any(there.get(name) != given[name] for name in ("run", "checkpoint"))
        ):
            begun = "from scratch" if there is None else f"from {there.get('run')}:{there.get('checkpoint')}"
            raise InputError(f"--init_from: the run in {path} began {begun}; must be left out, or another --workdir")
        # Of the one given again, step and digest may not be known.
        self._init_from = there

    def close(self) -> None:
        """Gives the folder up to other writers."""
        self._lock.close()

    def write_record(self, devices: dict[str, Any], given: Sequence[str] = ()) -> None:
        """run.json: the config again, the data set, what it started from, and for each session a `session_record`."""
        session = session_record(self._config, devices, given)
        sessions = [*read_record(self.path).get("sessions", []), session]
        start = {} if self._init_from is None else {"init_from": self._init_from}
        record = {"config": to_dict(self._config), "data": self._data, **start, "sessions": sessions}
        write_json(self.path / "run.json", record)


def lock(path: Path) -> TextIO:
    """Makes the folder and locks it until the returned file is closed. Raises `InputError` if another run holds it."""
    check_writable_run(path, "--workdir")
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / ".lock").open("w")
    except OSError as error:
        raise InputError(f"--workdir={path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"--workdir={path}: another run is writing here; wait for it or stop it") from error
    return file


def check_same_data(record: dict[str, Any], data: dict[str, Any], path: Path) -> None:
    """Raises `InputError` if `data` differ from those in a run's record; their name (a path, say) may change."""
    if differing := differing_data(record.get("data", {}), data):
        raise InputError(
            f"--workdir={path}: made with other data: {', '.join(differing)}; "
            "give those (run.json says which), or another --workdir"
        )


def differing_data(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Where two records of data differ, in words; not their name, and what was not known there may be known here."""
    return [
        f"{shown(name)[1:-1]} {shown(before)} there, {shown(here.get(name))} here"
        for name, before in there.items()
        if name not in ("name", "notes") and before is not None and here.get(name) != before
    ]


def check_same_model(old: RunConfig, new: RunConfig, path: Path) -> None:
    """Raises `InputError` if `new` describes another model than the run in `path` has."""
    _refuse(settings.differing(old, new, "model"), path)


def check_same(old: RunConfig, new: RunConfig, path: Path) -> None:
    """Raises `InputError` that lists the fields in which `new` would train something else than `old`."""
    found = settings.differing(old, new, "model", "training")
    if new.optimizer.decay == "constant":
        # More steps continue the very same run.
        found.pop("training.steps", None)
    elif found.keys() == {"training.steps"}:
        there, here = found["training.steps"]
        instead = (
            f"a new run may start from its weights: --init_from={path} --workdir=ANOTHER"
            if isinstance(new, RUNS)
            else "give another --workdir to train anew"
        )
        raise InputError(
            f"--workdir={path}: training.steps {there} there, {here} here: with optimizer.decay={new.optimizer.decay} "
            f"that is another learning rate from the first step on; {instead}"
        )
    _refuse(found, path)


def _refuse(differing: dict[str, tuple[Any, Any]], path: Path) -> None:
    if differing:
        listed = ", ".join(f"{name} {there!r} there, {here!r} here" for name, (there, here) in differing.items())
        raise InputError(f"--workdir={path}: belongs to another config: {listed}")
