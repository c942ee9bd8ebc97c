"""The folder of a run: it has one writer at a time, and one config and data set, which later sessions must match."""

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
    """The folder `workdir` with config.json, run.json, metrics.jsonl, evaluation.json, checkpoints/, samples/, plots/.

    It stays locked while open. Raises `InputError` for a second writer and for a folder that is not writable. Once
    there is a checkpoint, also for a config that would change what is trained, for fewer steps than already done, for
    different data under the same name, and for a different `init_from`. If the config is lost from both config.json and
    run.json, the given one is used, and `warnings` says so.
    """

    def __init__(self, path: Path, config: RunConfig, data: dict[str, Any], init_from: dict[str, Any] | None = None):
        """`data` is the data set's record, `DatasetInfo.to_dict()`; `init_from` describes the weights to start from."""
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
            raise InputError(
                f"config.training.steps={config.training.steps}: must be at least {step}, the steps already done"
            )
        there = record.get("init_from")
        given = self._init_from
        if given is not None and (
            there is None or any(there.get(name) != given[name] for name in ("run", "checkpoint"))
        ):
            begun = "from scratch" if there is None else f"from {there.get('run')}:{there.get('checkpoint')}"
            raise InputError(f"--init_from: the run in {path} began {begun}; leave it out, or give another --workdir")
        # The recorded one is complete: step and digest may be unknown now.
        self._init_from = there

    def close(self) -> None:
        """Release the lock on the folder."""
        self._lock.close()

    def write_record(self, devices: dict[str, Any], given: Sequence[str] = ()) -> None:
        """Write run.json: the config, the data set, the initial weights, and one `session_record` for each session."""
        session = session_record(self._config, devices, given)
        sessions = [*read_record(self.path).get("sessions", []), session]
        start = {} if self._init_from is None else {"init_from": self._init_from}
        record = {"config": to_dict(self._config), "data": self._data, **start, "sessions": sessions}
        write_json(self.path / "run.json", record)


def lock(path: Path) -> TextIO:
    """Create the folder and lock it until the returned file is closed. Raises `InputError` if it is already locked."""
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
    """Raise `InputError` if `data` differ from those in a run's record, except in name (which may be a path)."""
    if differing := differing_data(record.get("data", {}), data):
        raise InputError(
            f"--workdir={path}: made with other data: {', '.join(differing)}; "
            "give those (run.json says which), or another --workdir"
        )


def differing_data(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Describe how two records of data differ, ignoring names, notes and fields unknown in the first."""
    return [
        f"{shown(name)[1:-1]} {shown(before)} there, {shown(here.get(name))} here"
        for name, before in there.items()
        if name not in ("name", "notes") and before is not None and here.get(name) != before
    ]


def check_same_model(old: RunConfig, new: RunConfig, path: Path) -> None:
    """Raise `InputError` if `new` describes a different model from that of the run in `path`."""
    _refuse(settings.differing(old, new, "model"), path)


def check_same(old: RunConfig, new: RunConfig, path: Path) -> None:
    """Raise `InputError`, listing the fields, if training with `new` would not continue training with `old`."""
    found = settings.differing(old, new, "model", "training")
    if new.optimizer.decay == "constant":
        # With a constant learning rate, more steps continue the same run.
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
            f"that changes the learning rate from the first step on; {instead}"
        )
    _refuse(found, path)


def _refuse(differing: dict[str, tuple[Any, Any]], path: Path) -> None:
    if differing:
        listed = ", ".join(f"{name} {there!r} there, {here!r} here" for name, (there, here) in differing.items())
        raise InputError(f"--workdir={path}: belongs to another config: {listed}")
