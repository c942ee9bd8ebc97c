"""Open from disk what a guidance method needs besides the run's model: `vdm.guides.Companion`s by name."""

from pathlib import Path

from vdm import parts
from vdm.config import Config
from vdm.errors import InputError
from vdm.guides import CLIP, TEXT, Companion, Guide, of_text
from vdm.reading import is_whole, shown
from vdm.runs.classifiers import open_classifier
from vdm.runs.image_text import open_clip
from vdm.runs.open import Run, open_run, steps
from vdm.runs.places import split_checkpoint
from vdm.runs.records import read_record
from vdm.runs.texts import FILE, clip_folder


def open_companions(run: Run, guidance: str) -> dict[str, Companion]:
    """Open the companions that `guidance` needs for `run`; {} for most methods.

        companions = open_companions(run, "autoguidance(1.0, weak='1000')")
        ImageSampler(run.model, run.mesh, settings, companions=companions)

    Raises `InputError` for an unknown guidance method, and for a run or checkpoint that does not exist.
    """
    try:
        guide: Guide = parts.make("guidance", guidance)
    except parts.PartError as error:
        raise InputError(str(error)) from error
    name, which = guide.companion
    wanted = {name: which, TEXT: ""} if guide.captions else {name: which}
    try:
        return {name: _OPENED[name](run, which) for name, which in wanted.items() if name in _OPENED}
    except InputError as error:
        raise InputError(f"guidance={guidance!r}: {error}") from error


def _weak(run: Run, which: str) -> Companion:
    """Open another checkpoint of the same run (or its oldest), or another run, as RUN or RUN:CHECKPOINT."""
    if not which:
        raise InputError("weak='': must be oldest, latest, best, a step, RUN or RUN:CHECKPOINT")
    if which in ("oldest", "latest", "best") or is_whole(which):
        checkpoint = which
        if which == "oldest":
            checkpoint = str(steps(run.path)[0])
        weak = open_run(run.path, checkpoint, config=run.config, mesh=run.mesh, model=run.model)
        if weak.step == run.step:
            raise InputError(f"weak={which!r} is step {run.step}, the model itself; must be another checkpoint or run")
    else:
        weak = open_run(*split_checkpoint(which), kind=Config, mesh=run.mesh)
        # Records of earlier versions may not name the classes.
        if None not in (weak.classes, run.classes) and weak.classes != run.classes:
            raise InputError(
                f"weak={which!r} was trained with the classes {shown(weak.classes)}; must be {shown(run.classes)}"
            )
    return Companion(weak.model, weak.variables)


def _classifier(run: Run, which: str) -> Companion:
    """Open the classifier in a folder, by default the run's own, as saved by `vdm classifier`."""
    folder = Path(which) if which else run.home / "classifier"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; vdm classifier --run={run.name} makes one")
    return Companion(*open_classifier(folder, read_record(run.path).get("data"), mesh=run.mesh))


def _clip(run: Run, which: str) -> Companion:
    """Open the image–text model in a folder, by default the run's own from `vdm clip`; its encoding must match."""
    folder = clip_folder(run.path, which)
    model, variables, text = open_clip(folder, read_record(run.path).get("data"), mesh=run.mesh)
    if run.text is not None and text.to_dict() != run.text.to_dict():
        raise InputError(f"{folder}: encodes captions in another way than {run.path} does ({FILE}); must be the same")
    return Companion(model, variables)


def _text(run: Run, which: str) -> Companion:
    """Return the encoder of the run's captions."""
    if run.text is None:
        raise InputError("the model was trained without captions")
    return of_text(run.text)[TEXT]


_OPENED = {"weak": _weak, "classifier": _classifier, CLIP: _clip, TEXT: _text}
