"""Atomic checkpoints of train state, digests and data position, kept by recency and by bits/dim."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, TypeVar

import grain
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from vdm import parallel
from vdm.errors import InputError, is_disk_full, one_line
from vdm.reading import field, is_whole, read_json
from vdm.runs.digests import digests, name_of
from vdm.training.state import Trained, TrainState
from vdm.training.step import Metrics

Part = TypeVar("Part", TrainState, Trained)

OF_A_STOP = "of_a_stop"
"""Key beside the data position: whether a checkpoint was saved only because the run was stopped."""


@dataclass
class Retention(policies.PreservationPolicy):
    """Orbax policy that keeps the newest checkpoint, the best by bits/dim, and the newest `keep` not made by a stop.

    A run that was interrupted therefore ends up with the same checkpoints as one that was not.
    """

    keep: int
    stops: set[int] = dataclasses.field(default_factory=set)
    """Steps of checkpoints that were saved only because the run was stopped."""

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any = None) -> list[bool]:
        """Return whether to keep each of `checkpoints`, which have `step` and `metrics`; oldest first."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        bits = {checkpoint.step: _bits_per_dim(checkpoint.metrics) for checkpoint in checkpoints if checkpoint.metrics}
        regular = [step for step in steps if step not in self.stops]
        kept = {*steps[-1:], *regular[-self.keep :], *sorted(bits, key=lambda step: bits[step])[:1]}
        return [step in kept for step in steps]


class _Manager(ocp.CheckpointManager):
    """Leaves JAX's preemption service to `parallel.share_signals`, since all calls to it must share one numbering."""

    def reached_preemption(self, step: int) -> bool:
        return False


class Checkpoints:
    """The folder `checkpoints/` of a run, which retains checkpoints by `Retention(keep)`.

    Saving is asynchronous and atomic: a step's folder appears under its name only once it is complete. Arrays are
    restored onto whatever devices and processes are present. With several processes, all must see the folder and make
    every call.

    A checkpoint holds the digest of every array (`vdm.runs.digests`). One whose arrays do not match their digests
    counts as unreadable, as does a truncated one. Checkpoints of earlier versions have no digests, and are read without
    this check.
    """

    def __init__(self, directory: Path, keep: int = 1, read_only: bool = False):
        self.directory, self._retention = directory, Retention(keep)
        if read_only and not directory.is_dir():
            raise InputError(f"{directory}: no such folder; vdm train makes it")
        if read_only:
            _check_metrics(directory)
        self._warnings = [] if read_only else parallel.on_main(lambda: _drop_unreadable_metrics(directory)) or []
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._retention,
            best_fn=_bits_per_dim,
            best_mode="min",
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(),
            "running": ocp.StandardCheckpointHandler(),
            "data": ocp.JsonCheckpointHandler(),
            "digests": ocp.JsonCheckpointHandler(),
        }
        try:
            self._manager = _Manager(directory.absolute(), options=options, item_handlers=handlers)
        except ValueError as error:  # invalid JSON
            raise InputError(f"{directory}: cannot be opened ({one_line(error)}); vdm train repairs it") from error
        if not read_only:
            self._retention.stops.update(step for step in self.steps() if _is_of_a_stop(directory / str(step)))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        state: TrainState,
        metrics: Metrics,
        position: dict[str, int],
        bits_per_dim: float | None = None,
        wait: bool = False,
        of_a_stop: bool = False,
    ) -> None:
        """Start saving the state of step `state.step`; if that step is already saved, only add `bits_per_dim` to it.

        `position` is the data iterator's state, `get_state()`. `bits_per_dim` is that of the test split, if known, and
        decides which checkpoint is the best. With `wait`, return only when everything is safely on disk. A checkpoint
        `of_a_stop` exists only to resume from, and is deleted once there is a later one. Raises `InputError` if the
        disk is full or Orbax times out, also during the previous save; complete checkpoints are kept.
        """
        step = int(state.step)
        try:
            if step not in self._manager.all_steps():
                if of_a_stop:
                    self._retention.stops.add(step)
                args = ocp.args.Composite(
                    state=ocp.args.PyTreeSave(state),
                    running=ocp.args.StandardSave(metrics),
                    data=ocp.args.JsonSave({**position, OF_A_STOP: of_a_stop}),
                    digests=ocp.args.JsonSave(digests({"state": state, "running": metrics})),
                )
                quality = None if bits_per_dim is None else {"bits_per_dim": bits_per_dim}
                self._manager.save(step, args=args, metrics=quality)
            elif bits_per_dim is not None:
                self._add_metrics(step, bits_per_dim)
            if wait:
                self._manager.wait_until_finished()
        except Exception as error:
            if is_disk_full(error):
                why = "the disk is full"
            elif isinstance(error, TimeoutError):
                why = "out of time (Orbax reads the wall clock: was it set forward?)"
            else:
                raise
            raise InputError(
                f"{self.directory}: {why}, a checkpoint could not be saved by step {step}; "
                f"complete ones: {self.steps() or 'none'}"
            ) from error

    def restore(
        self, state: TrainState, metrics: Metrics, iterator: grain.DatasetIterator
    ) -> tuple[TrainState, Metrics, list[str]] | None:
        """Return the newest readable state and metrics, with warnings about newer ones; None if there is no checkpoint.

        `state` and `metrics` give shapes, dtypes and shardings (as abstract arrays). The iterator is moved to the
        checkpoint's position. Unreadable checkpoints newer than the one restored are moved to
        `checkpoints_unreadable/`, so that their steps can be saved again. Raises `InputError` for a checkpoint of a
        different architecture, or if none can be read.
        """
        unreadable: dict[int, str] = {}
        for step in reversed(self.steps()):
            self._check_architecture(step, state)
            args = ocp.args.Composite(
                state=_read(state),
                running=ocp.args.StandardRestore(metrics),
            )
            why = ""
            try:
                position = _position(self.directory, step)
                items = self._manager.restore(step, args=args)
            except Exception as error:  # Orbax and TensorStore raise many types for damaged files
                why = one_line(error)[:120]
            if parallel.all_true(not why):
                why = self._damaged(step, state=items["state"], running=items["running"])
            if not parallel.all_true(not why):
                unreadable[step] = why or "in another process"
                continue
            if not self._has_digests(step):
                unknown = "has no digests: its arrays cannot be verified"
                self._warnings.append(f"the checkpoint of step {step} {unknown}")
            iterator.set_state(position)
            warnings = [
                f"the checkpoint of step {bad} cannot be read ({why}): resuming from step {step}"
                for bad, why in unreadable.items()
            ]
            for bad in unreadable:
                self._set_aside(bad)
            self._finish_deleting()
            return items["state"], items["running"], self._warnings + warnings
        if unreadable:
            why = next(iter(unreadable.values()))
            raise InputError(f"{self.directory}: none of the checkpoints {sorted(unreadable)} can be read ({why})")
        return None

    def restore_one(self, like: Part, which: str = "latest") -> Part:
        """Return the state, or the part of it that `like` names, from checkpoint `latest`, `best` or a step number.

        Only that part is read. Raises `InputError` if there is no such checkpoint, it cannot be read, or its
        architecture differs.
        """
        step = self._find(which)
        self._check_architecture(step, like)
        why, cause = "", None
        try:
            state: Part = self._manager.restore(step, args=ocp.args.Composite(state=_read(like)))["state"]
        except Exception as error:
            why, cause = one_line(error)[:120], error
        if parallel.all_true(not why):
            why = self._damaged(step, state=state)
        if parallel.all_true(not why):
            return state
        others = [s for s in self.steps() if s != step]
        raise InputError(
            f"{self.directory / str(step)}: cannot be read ({why or 'in another process'}); "
            f"other checkpoints: {others or 'none'}"
        ) from cause

    def _has_digests(self, step: int) -> bool:
        return (self.directory / str(step) / "digests").exists()

    def _damaged(self, step: int, **items: Any) -> str:
        """Describe what differs between the items read and those saved; "" if nothing. Every process must call it."""
        found = digests(items)
        if not self._has_digests(step):
            return ""
        try:
            saved = read_json(self.directory / str(step) / "digests" / "metadata")
        except InputError as error:
            return str(error)
        different = [name for name, digest in found.items() if saved.get(name) != digest]
        return f"{len(different)} of {len(found)} digests differ, first {different[0]}" if different else ""

    def _find(self, which: str) -> int:
        steps = self.steps()
        if not steps:
            raise InputError(f"{self.directory}: has no complete checkpoint")
        if which == "latest":
            return steps[-1]
        if which == "best":
            best = self._manager.best_step()
            return steps[-1] if best is None else best
        if is_whole(which) and int(which) in steps:
            return int(which)
        raise InputError(f"checkpoint {which!r}: not latest, best or one of {steps}")

    def _check_architecture(self, step: int, like: TrainState | Trained) -> None:
        """Raise `InputError` at the first array whose name or shape differs from `like`."""
        try:
            saved = self._manager.item_metadata(step)["state"]
            found = _shapes(saved.tree if hasattr(saved, "tree") else saved)
        except Exception:
            return  # restoring it will report that it is unreadable
        if not found:
            return  # likewise: its list of arrays is missing
        wanted = _shapes(like._asdict())
        if isinstance(like, Trained):
            found = {name: shape for name, shape in found.items() if name.partition("/")[0] in like._fields}
        for name in sorted(set(found) | set(wanted)):
            if found.get(name) != wanted.get(name):
                raise InputError(
                    f"{self.directory / str(step)} is of another architecture: {name} has shape "
                    f"{found.get(name, 'none')}, the config makes {wanted.get(name, 'none')}"
                )

    def _finish_deleting(self) -> None:
        """Finish deletions that a killed session had begun, since Orbax deletes a checkpoint file by file.

        The policy does not keep what is left of such a checkpoint now either: the reasons to delete it still hold, and
        one without a readable data position counts as made by a stop.
        """
        found = [SimpleNamespace(step=step, metrics=self._manager.metrics(step)) for step in self.steps()]
        for checkpoint, kept in zip(found, self._retention.should_preserve(found), strict=True):
            if not kept:
                self._manager.delete(checkpoint.step)

    def _set_aside(self, step: int) -> None:
        target = self.directory.parent / "checkpoints_unreadable" / str(step)

        def move() -> None:
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            shutil.move(self.directory / str(step), target)

        parallel.on_main(move)
        self._manager.reload()

    def _add_metrics(self, step: int, bits_per_dim: float) -> None:
        """Add bits/dim to a checkpoint that has none, atomically and in Orbax's format."""
        self._manager.wait_until_finished()
        partial, folder = (self.directory / str(step) / name for name in ("metrics.partial", "metrics"))

        def write() -> None:
            if folder.exists():
                return
            partial.mkdir(exist_ok=True)
            (partial / "metrics").write_text(json.dumps({"bits_per_dim": bits_per_dim}))
            partial.rename(folder)

        parallel.on_main(write)
        self._manager.reload()


def _read(like: TrainState | Trained) -> ocp.args.PyTreeRestore:
    """Arguments to restore exactly the arrays that `like` names, into its shapes, dtypes and shardings."""
    where = ocp.checkpoint_utils.construct_restore_args(like)
    return ocp.args.PyTreeRestore(like, restore_args=where, partial_restore=isinstance(like, Trained))


def _drop_unreadable_metrics(directory: Path) -> list[str]:
    """Delete truncated metrics files, with which Orbax would not open the folder. Returns warnings."""
    warnings = []
    for path in _metrics(directory):
        try:
            _read_metrics(path)
        except InputError:
            shutil.rmtree(path.parent)
            step = path.parent.parent.name
            warnings.append(f"the bits/dim of checkpoint {step} cannot be read: it cannot be the best one")
    return warnings


def _check_metrics(directory: Path) -> None:
    """Raise `InputError` for metrics that `_drop_unreadable_metrics` would delete."""
    for path in _metrics(directory):
        try:
            _read_metrics(path)
        except InputError as error:
            raise InputError(f"{error}; vdm train repairs it") from error


def _metrics(directory: Path) -> list[Path]:
    return sorted(directory.glob("[0-9]*/metrics/metrics"))


def _read_metrics(path: Path) -> float:
    bits_per_dim: float = field(read_json(path), "bits_per_dim", float, path)
    return bits_per_dim


def _position(directory: Path, step: int) -> dict[str, int]:
    """Return the data iterator's state. Raises `InputError` if it is missing or does not match the step."""
    path = directory / str(step) / "data" / "metadata"
    position = {name: value for name, value in read_json(path).items() if name != OF_A_STOP}
    if field(position, "next_index", int, path) != step:
        raise InputError(f"{path}: next_index={position['next_index']}: must be the step, {step}")
    return position


def _is_of_a_stop(checkpoint: Path) -> bool:
    """Whether a checkpoint was made by a stop, or has no readable data position and cannot be resumed from."""
    path = checkpoint / "data" / "metadata"
    try:
        # Earlier versions did not record it.
        return bool(field(read_json(path), OF_A_STOP, bool, path, False))
    except InputError:
        return True


def _bits_per_dim(metrics: dict[str, Any]) -> float:
    """Return bits/dim as a float; JSON may contain an integer."""
    return float(metrics["bits_per_dim"])


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {name_of(path): tuple(leaf.shape) for path, leaf in leaves if hasattr(leaf, "shape")}
