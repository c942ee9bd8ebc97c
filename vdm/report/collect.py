"""`collect`: read everything that the report shows from the folder of a run. Nothing is written.

Whatever is missing or damaged is left out, with a line in `Collected.missing`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from vdm.errors import InputError
from vdm.reading import is_whole, read_json, read_text
from vdm.report.numbers import is_number
from vdm.report.pictures import Picture, evenly, picture
from vdm.runs.places import is_released, name_of
from vdm.runs.records import checkpoint_steps, read_metrics
from vdm.runs.released import read_card

FRAMES = 12
"""Maximum number of pictures of samples over training."""
MOST_FILES = 40
"""Maximum number each of evaluations, scores and comparisons."""
PLOTS = ("schedule", "times")
"""Plots shown when plots/curves.json is missing, as in runs of earlier versions."""
TOTALS = {"bits_per_dim": "bits/dim", "cost": "weighted squared error", "cross_entropy": "nats"}
"""Names in the logs of the quantity that a run is judged by, with their units."""

Read = TypeVar("Read")


@dataclass
class Collected:
    """The contents of a run's folder."""

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    """config.json as nested tables."""
    record: dict[str, Any] = field(default_factory=dict)
    """run.json: the data, the sessions and the run that it was initialized from."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """The lines of metrics.jsonl."""
    evaluation: dict[str, Any] = field(default_factory=dict)
    """evaluation.json."""
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Contents of the files in evaluations/, by name."""
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Contents of the files metrics.json of sets of samples, by folder."""
    comparisons: dict[str, tuple[str, Picture | None]] = field(default_factory=dict)
    """Markdown tables and a figure of each comparison of this run, by folder."""
    curves: dict[str, Any] = field(default_factory=dict)
    """plots/curves.json: γ(t) and the loss by time."""
    plots: dict[str, Picture] = field(default_factory=dict)
    """The plots in `PLOTS`, if there are no curves."""
    data: Picture | None = None
    """Examples of the test split."""
    samples: list[Picture] = field(default_factory=list)
    """Samples over training, with the final ones last."""
    reconstructions: list[Picture] = field(default_factory=list)
    """Test images with their reconstructions by a model with latents, over training."""
    parameters: int | None = None
    """Number of the network's parameters. It is not in the folder; `vdm report` counts them."""
    steps_saved: int | None = None
    """Step of the newest checkpoint."""
    missing: list[str] = field(default_factory=list)
    """A line for each thing that is missing or cannot be read."""
    label: str = ""
    """Name to use instead of that of the folder."""

    @property
    def name(self) -> str:
        """The run's label or, without one, the name of its folder."""
        return self.label or self.path.resolve().name

    @property
    def steps(self) -> int:
        """The largest number of training steps that anything in the folder records."""
        logged = [record["step"] for record in self.metrics]
        return max([*logged, self.steps_saved or 0, _whole(self.evaluation.get("checkpoint_step"))])

    @property
    def steps_in_all(self) -> int:
        """Number of steps in the config; 0 if it is missing."""
        return _whole(table_of(self.config, "training").get("steps"))

    @property
    def finished(self) -> bool:
        """Whether the final evaluation has been made."""
        return bool(self.evaluation) and _whole(self.evaluation.get("checkpoint_step")) >= self.steps_in_all

    @property
    def total(self) -> str:
        """Name in the logs of the quantity that the run is judged by."""
        return next((name for name in TOTALS if any(name in record for record in self.metrics)), "bits_per_dim")

    @property
    def seconds(self) -> float | None:
        """Time in seconds spent in training steps, computed from the speed in each log line; None if unknown."""
        batch, before, seconds = _whole(table_of(self.config, "training").get("batch_size")), 0, 0.0
        for record in self.of_kind("train"):
            speed: Any = record.get("images_per_second")
            if is_number(speed) and speed > 0:
                seconds += (record["step"] - before) * batch / speed
            before = record["step"]
        return seconds or None

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the log records of one kind: "train", "evaluation", "final" or "metrics"."""
        return [record for record in self.metrics if record["kind"] == kind]


def collect(path: Path, data: Path | None = None) -> Collected:
    """Read everything that the report of the run in `path` shows.

    `data` is a picture of data examples, by default plots/data.png. For the folder of a released model, the contents of
    its card are returned. Raises `InputError` if the folder is not that of a run.
    """
    if is_released(path):
        return _released(path, data)
    if not any((path / name).is_file() for name in ("config.json", "run.json")):
        hint = "no such folder" if not path.is_dir() else "has no config.json, so it is not a run; vdm train makes one"
        raise InputError(f"{path}: {hint}")
    found = Collected(path)
    read = _Reader(found)
    found.record = read(lambda: read_json(path / "run.json"), {})
    copied = table_of(found.record, "config")
    found.config = read(lambda: read_json(path / "config.json"), copied)
    found.metrics = read(lambda: sorted(read_metrics(path / "metrics.jsonl"), key=lambda each: each["step"]), [])
    if not found.metrics:
        found.missing.append("metrics.jsonl has no records yet: there are no curves.")
    found.evaluation = read(lambda: read_json(path / "evaluation.json", {}), {})
    found.evaluations = dict(read.tables(path, "evaluations/*.json"))
    found.scores = dict(read.tables(path, "samples/*/metrics.json")) | dict(read.tables(path, "metrics.json"))
    found.curves = read(lambda: read_json(path / "plots" / "curves.json", {}), {})
    if not found.curves:
        there = {name: path / "plots" / f"{name}.png" for name in PLOTS}
        found.plots = {name: shown for name, file in there.items() if (shown := read.picture(file, name))}
    found.data = read.picture(data or path / "plots" / "data.png", "test data")
    found.samples = read.frames(path / "samples", "")
    found.reconstructions = read.frames(path / "samples", "_reconstructions")
    found.comparisons = dict(read.comparisons(path))
    steps = checkpoint_steps(path)
    found.steps_saved = steps[-1] if steps else None
    if not steps:
        found.missing.append("There is no checkpoint: nothing can be evaluated or sampled yet.")
    _say_what_is_missing(found)
    return found


def _released(path: Path, data: Path | None) -> Collected:
    """Return the measurements in the card of a released model in the form of a run's."""
    card = read_card(path)
    found = Collected(path, label=name_of(path), steps_saved=card["step"])
    read = _Reader(found)
    found.config = read(lambda: read_json(path / "config.json"), {})
    training = table_of(card, "training")
    given = [each.get("given") for each in list_of(card, "sessions", dict)]
    found.record = card | {"sessions": [training | {"given": given[-1] if given else None}]}
    trained_for = ("variational", table_of(found.config, "objective").get("num_steps"))
    for number, bound in enumerate(list_of(card, "bounds", dict), start=1):
        values = _evaluation(bound, card["step"])
        if not found.evaluation and (bound.get("kind"), bound.get("T")) == trained_for:
            found.evaluation = values
        else:
            found.evaluations[f"{number}: {bound.get('given')}" if bound.get("given") else str(number)] = values
    for number, metric in enumerate(list_of(card, "metrics", dict), start=1):
        scores = {"of": {"num": metric.get("samples")}, "metrics": {str(metric.get("name")): metric}}
        found.scores[str(number)] = scores
    found.data = read.picture(data, "test data") if data is not None else None
    found.missing.append("A released model has a card in place of logs: no curves, no pictures of samples.")
    return found


def _evaluation(bound: dict[str, Any], step: int) -> dict[str, Any]:
    """Convert a bound in a card to the form that `vdm evaluate` writes."""
    kinds: dict[str, dict[str, Any]] = {
        "ode": {"kind": "probability-flow ODE"},
        "importance": {"by_draws": {}, "num_steps": bound.get("T")},
    }
    return {
        "bits_per_dim": {"total": bound.get("bits_per_dim"), "stderr": bound.get("stderr")},
        "num_images": bound.get("images"),
        "num_draws": bound.get("draws"),
        "checkpoint_step": step,
        "command": bound.get("command"),
        **kinds.get(str(bound.get("kind")), {"num_steps": bound.get("T")}),
    }


def table_of(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a table nested in another one, or {} if there is none.

    >>> table_of({"data": {"name": "digits"}}, "data"), table_of({"data": 3}, "data")
    ({'name': 'digits'}, {})
    """
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def list_of(values: Mapping[str, Any], name: str, kind: type = object) -> list[Any]:
    """Return the elements of type `kind` from a list in a table, or [] if there is no such list.

    >>> list_of({"sessions": [{}, 3]}, "sessions", dict), list_of({"sessions": 3}, "sessions")
    ([{}], [])
    """
    value = values.get(name)
    return [each for each in value if isinstance(each, kind)] if isinstance(value, list) else []


class _Reader:
    """Reads what can be read, and adds a line to `found.missing` for everything else."""

    def __init__(self, found: Collected):
        self._found = found

    def __call__(self, read: Callable[[], Read], otherwise: Any) -> Any:
        try:
            return read()
        except (InputError, OSError) as error:
            self._found.missing.append(str(error).removeprefix(f"{self._found.path}/"))
            return otherwise

    def tables(self, path: Path, pattern: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for file in islice(sorted(path.glob(pattern)), MOST_FILES):
            table = self(lambda file=file: read_json(file), None)  # type: ignore[misc]
            if table is not None:
                yield (file.parent.name if file.name == "metrics.json" else file.stem), table

    def picture(self, file: Path, title: str, step: int | None = None) -> Picture | None:
        found: Picture | None = self(lambda: picture(file, title, step), None) if file.is_file() else None
        return found

    def frames(self, folder: Path, suffix: str) -> list[Picture]:
        """Read step_00000500.png, …, and final.png."""
        files = evenly([f for f in sorted(folder.glob(f"step_*{suffix}.png")) if is_whole(_step(f, suffix))], FRAMES)
        frames = [self.picture(f, f"step {int(_step(f, suffix)):,}", int(_step(f, suffix))) for f in files]
        last = self.picture(folder / f"final{suffix}.png", "the end of training")
        return [frame for frame in (*frames, last) if frame is not None]

    def comparisons(self, path: Path) -> Iterator[tuple[str, tuple[str, Picture | None]]]:
        for file in islice(sorted(path.glob("*/*.md")), MOST_FILES):
            if file.with_suffix(".json").is_file():
                text = self(lambda file=file: read_text(file), None)  # type: ignore[misc]
                if text is not None:
                    yield file.parent.name, (text, self.picture(file.with_suffix(".png"), file.parent.name))


def _step(file: Path, suffix: str) -> str:
    return file.stem.removeprefix("step_").removesuffix(suffix)


def _whole(value: Any) -> int:
    return value if type(value) is int else 0


def _say_what_is_missing(found: Collected) -> None:
    if not found.config:
        found.missing.append("The config is lost: neither config.json nor run.json has one.")
    if not found.samples and not found.reconstructions:
        found.missing.append("There are no pictures of samples in samples/.")
    if not found.evaluation:
        found.missing.append("evaluation.json is written when training ends: there is no final evaluation yet.")


def as_json(value: Any) -> str:
    """Encode a value as JSON that is safe inside a script element: "<" is escaped, so that nothing can end the element.

    >>> as_json({"name": "</script>"})
    '{"name":"\\\\u003c/script>"}'
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")
