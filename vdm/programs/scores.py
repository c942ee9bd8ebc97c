"""Metrics of samples in words and files: evaluate.py --metrics, and `vdm metrics`."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

from vdm import parallel, parts
from vdm.comparisons import tables
from vdm.data import Dataset
from vdm.data.dataset import Source
from vdm.errors import InputError
from vdm.evaluation.metrics import Estimate, Labels, Metric, scoring
from vdm.evaluation.metrics.extractors import Extractor
from vdm.evaluation.metrics.features import BATCH, Extraction
from vdm.evaluation.metrics.moments import moments
from vdm.evaluation.metrics.scoring import Real, Scorer, folder_of
from vdm.evaluation.metrics.statistics import Statistics
from vdm.files import cache_folder, replace_text, write_json
from vdm.programs import judges
from vdm.programs.named_images import real_of
from vdm.progress import Passes, progress_of
from vdm.reading import parse_json, read_json
from vdm.runs.records import versions


@dataclass(frozen=True)
class Asked:
    """What is measured, and with what."""

    metrics: Sequence[str]
    """Texts of kind "metric"."""
    weights: Path | None = None
    """File or folder of the extractors' weights; None: where VDM_WEIGHTS says."""
    classifier: Path | None = None
    """Folder of the classifier whose features are asked for; None: the data's own."""
    cache: Path | None = None
    """Where features of real images are kept."""
    batch_size: int = BATCH


@dataclass(frozen=True)
class Score:
    """What one metric says of some images."""

    metric: Metric
    estimate: Estimate
    floor: float
    """What as many real images come to by chance."""
    extractor: str
    """Identity of what made the features."""
    cautions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON, in the metric's own unit and without a table's factor."""
        return {
            "value": self.estimate.value,
            "stderr": self.estimate.stderr,
            "noise_floor": self.floor if math.isfinite(self.floor) else None,
            "title": self.metric.title,
            "unit": self.metric.unit,
            "lower_is_better": self.metric.lower_is_better,
            "extractor": self.extractor,
            "output": self.metric.output,
            "cautions": list(self.cautions),
        }


def names_of(text: str) -> list[str]:
    """The metrics of --metrics. Raises `InputError` for what is none, and for one that is there twice."""
    try:
        names = [parts.canonical("metric", each) for each in parts.texts(text)]
    except parts.PartError as error:
        raise InputError(f"--metrics={text}: {error}") from error
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"--metrics={text}: {twice[0]} is there twice")
    return names


def check(names: Sequence[str], num: int, labelled: bool) -> None:
    """Raises `InputError` for a metric that can say nothing of so many images, with or without labels."""
    with _named():
        scoring.check(names, num, labelled)


class Scores:
    """Metrics held against the images of one data set, for as many sets of samples as there are."""

    def __init__(
        self,
        asked: Asked,
        real: Real,
        levels: int,
        shape: Sequence[int],
        console: Console,
        dataset: Dataset | None = None,
        mesh: Mesh | None = None,
    ):
        """`levels` and `shape` are those of the images; `dataset` is what a classifier may be trained on.

        Raises `InputError` for a metric that is none, that lacks weights, or that can make nothing of the real images.
        """
        self.console, self._passes = console, Passes(console)
        with self._passes as passes, _named():
            self.scorer = Scorer(
                asked.metrics,
                real,
                levels,
                shape,
                mesh,
                asked.cache,
                asked.batch_size,
                passes,
                weights=asked.weights,
                classifier=judges.opener(dataset, asked.classifier, cache_folder(judges.CACHE), console),
            )

    def __call__(
        self, samples: Source, labels: Labels | None = None, folder: Path | None = None, of: str = ""
    ) -> dict[str, Score]:
        """What each metric says of the samples; what to know of it is printed."""
        num = len(samples)
        with self._passes, _named():
            estimates = self.scorer(samples, labels, folder, of)
            floors = self.scorer.floors(num)
        cautions, extractors = self.scorer.cautions(num), self.scorer.extractors()
        for line in dict.fromkeys(line for each in cautions.values() for line in each):
            self.console.print(f"note: {line}", style="yellow", soft_wrap=True)
        return {
            name: Score(metric, estimates[name], floors[name], extractors[name].identity, cautions[name])
            for name, metric in self.scorer.metrics.items()
        }


@contextmanager
def _named() -> Iterator[None]:
    """What a metric or its extractor refuses, with the flag."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"--metrics: {error}") from error


def table(scores: Mapping[str, Score], title: str) -> Table:
    """A row a metric."""
    result = Table(title=title, min_width=len(title) + 4)
    for column in ("metric", "samples", "real images", "better"):
        result.add_column(column, justify="left" if column == "metric" else "right")
    for score in scores.values():
        result.add_row(*_cells(score), "lower" if score.metric.lower_is_better else "higher")
    return result


def markdown(scores: Mapping[str, Score], name: str) -> str:
    """The same as one row of a table to publish: samples down, metrics across."""
    lines = tables.head("", [score.metric.heading() for score in scores.values()])
    cells = [_cells(score) for score in scores.values()]
    lines += [tables.row(name, [cell[1] for cell in cells]), tables.row("real images", [cell[2] for cell in cells])]
    return "\n".join(lines) + "\n"


def _cells(score: Score) -> tuple[str, str, str]:
    metric, estimate = score.metric, score.estimate
    value = f"{metric.show(estimate.value)} ± {metric.show(estimate.stderr)}"
    return metric.heading(), value, metric.show(score.floor) if math.isfinite(score.floor) else "unknown"


def write(folder: Path, scores: Mapping[str, Score], name: str, of: Mapping[str, Any]) -> None:
    """metrics.json and metrics.md; what other metrics said of the same images stays.

    `of` is what the numbers are of, as JSON.
    """
    if not parallel.is_main():
        return
    path = folder / "metrics.json"
    try:
        there = read_json(path, {})
    except InputError:
        there = {}
    # As JSON gives it back.
    of = parse_json(json.dumps(of).encode(), path)
    kept = there.get("metrics", {}) if there.get("of") == of else {}
    folder.mkdir(parents=True, exist_ok=True)
    found = {each: score.to_dict() for each, score in scores.items()}
    write_json(path, {"metrics": kept | found, "of": of, "versions": versions()})
    replace_text(folder / "metrics.md", markdown(scores, name))


def statistics(
    asked: Asked, data: str, levels: int | None, extractor: str, output: str | None, console: Console
) -> Statistics:
    """Mean and covariance of an extractor's features of real images, as `real_of` names them; at no path yet.

    Raises `InputError` for what is no extractor, that lacks weights or has no such output.
    """
    real, dataset = real_of(data, levels, console)
    if dataset is None or real.source is None:
        raise InputError(f"{data}: are statistics already; must name images")
    info = dataset.info
    try:
        made: Extractor = parts.make(
            "extractor", extractor, levels=info.levels, shape=tuple(info.shape), weights=asked.weights
        )
        output = next(iter(made.outputs)) if output is None else output
        extraction = Extraction(made, [output], parallel.make_mesh(), asked.batch_size)
        folder = None if asked.cache is None else folder_of(asked.cache, made, real.name)
        with progress_of(console, f"features by {made.title}") as progress:
            features = extraction(real.source, folder=folder, of=real.name, progress=progress)[output]
        return Statistics(moments(features), made.identity, output, real.name, Path())
    except ValueError as error:
        raise InputError(f"--extractor={extractor}: {error}") from error
