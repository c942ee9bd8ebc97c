"""What a guidance needs beside a run's model, opened from disk: `vdm.guides.Companion`s by name."""

from pathlib import Path

from vdm import parts
from vdm.errors import InputError
from vdm.guides import Companion, Guide
from vdm.reading import is_whole, shown
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.classifiers import open_classifier
from vdm.runs.open import Run, open_run, split_checkpoint
from vdm.runs.records import read_record


def open_companions(run: Run, guidance: str) -> dict[str, Companion]:
    """The companions that this guidance of `run` needs: {} for most.

        companions = open_companions(run, "autoguidance(1.0, weak='1000')")
        ImageSampler(run.model, run.mesh, settings, companions=companions)

    Raises `InputError` for a text that names no guidance, and for a run or checkpoint that is not there.
    """
    try:
        guide: Guide = parts.make("guidance", guidance)
    except parts.PartError as error:
        raise InputError(str(error)) from error
    name, which = guide.companion
    try:
        return {name: _OPENED[name](run, which)} if name in _OPENED else {}
    except InputError as error:
        raise InputError(f"guidance={guidance!r}: {error}") from error


def _weak(run: Run, which: str) -> Companion:
    """A checkpoint of the same run, or its oldest; or that of another run: RUN or RUN:CHECKPOINT."""
    if not which:
        raise InputError("weak='': must be oldest, latest, best, a step, RUN or RUN:CHECKPOINT")
    if which in ("oldest", "latest", "best") or is_whole(which):
        checkpoint = which
        if which == "oldest":
            with Checkpoints(run.path / "checkpoints", read_only=True) as checkpoints:
                checkpoint = str(checkpoints.steps()[0])
        weak = open_run(run.path, checkpoint, config=run.config, mesh=run.mesh, model=run.model)
        if weak.step == run.step:
            raise InputError(f"weak={which!r} is step {run.step}, the model itself; must be another checkpoint or run")
    else:
        weak = open_run(*split_checkpoint(which), mesh=run.mesh)
        # A record of an earlier version may not name them.
        if None not in (weak.classes, run.classes) and weak.classes != run.classes:
            raise InputError(
                f"weak={which!r} was trained with the classes {shown(weak.classes)}; must be {shown(run.classes)}"
            )
    return Companion(weak.model, weak.variables)


def _classifier(run: Run, which: str) -> Companion:
    """That in a folder, or in the run's own, as `vdm classifier` leaves it."""
    folder = Path(which) if which else run.path / "classifier"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; vdm classifier --run={run.path} makes one")
    return Companion(*open_classifier(folder, read_record(run.path).get("data"), mesh=run.mesh))


_OPENED = {"weak": _weak, "classifier": _classifier}
