"""Scores of samples as a table, metrics.json and metrics.md."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from vdm import parallel
from vdm.comparisons import tables
from vdm.data.dataset import Source
from vdm.errors import InputError
from vdm.evaluation.metrics import Estimate, Labels, Metric
from vdm.evaluation.metrics.quality import Quality
from vdm.evaluation.metrics.scoring import Real
from vdm.files import replace_text, write_json
from vdm.reading import parse_json, read_json
from vdm.runs.records import versions


@dataclass(frozen=True)
class Score:
    """The value of one metric for some images, and what is needed to judge it."""

    metric: Metric
    estimate: Estimate
    floor: float
    """Value of the metric, by chance alone, for as many real images; NaN if unknown."""
    extractor: str
    """Identity of the feature extractor."""
    cautions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the score for JSON, in the metric's own unit and without the factor used in tables."""
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


def measured(
    quality: Quality, samples: Source, labels: Labels | None = None, folder: Path | None = None, of: str = ""
) -> dict[str, Score]:
    """Return the score of the samples by each metric; arguments as of `Quality`'s call."""
    extractors = {name: each.identity for name, each in quality.scorer.extractors().items()}
    return {
        name: Score(quality.metrics[name], each, quality.floors[name], extractors[name], quality.cautions[name])
        for name, each in quality(samples, labels, folder, of).items()
    }


def table(scores: Mapping[str, Score], title: str) -> Table:
    """Return a table with a row for each metric."""
    result = Table(title=title, min_width=len(title) + 4)
    for column in ("metric", "samples", "real images", "better"):
        result.add_column(column, justify="left" if column == "metric" else "right")
    for score in scores.values():
        result.add_row(*_cells(score), "lower" if score.metric.lower_is_better else "higher")
    return result


def markdown(scores: Mapping[str, Score], name: str) -> str:
    """Return a Markdown table with a column for each metric: a row for the samples, and one for real images."""
    lines = tables.head("", [score.metric.heading() for score in scores.values()])
    cells = [_cells(score) for score in scores.values()]
    lines += [tables.row(name, [cell[1] for cell in cells]), tables.row("real images", [cell[2] for cell in cells])]
    return "\n".join(lines) + "\n"


def _cells(score: Score) -> tuple[str, str, str]:
    metric, estimate = score.metric, score.estimate
    value = f"{metric.show(estimate.value)} ± {metric.show(estimate.stderr)}"
    return metric.heading(), value, metric.show(score.floor) if math.isfinite(score.floor) else "unknown"


def write(folder: Path, scores: Mapping[str, Score], name: str, samples: Any, num: int, real: Real) -> None:
    """Write metrics.json, which keeps earlier scores of the same images, and metrics.md, with these scores alone.

    `samples` is everything that the `num` images depend on, as JSON values.
    """
    if not parallel.is_main():
        return
    path = folder / "metrics.json"
    try:
        there = read_json(path, {})
    except InputError:
        there = {}
    # Through JSON and back, to compare it with the file.
    of = {"samples": samples, "num": num, "real": real.name, "num_real": real.num}
    of = parse_json(json.dumps(of).encode(), path)
    kept = there.get("metrics", {}) if there.get("of") == of else {}
    folder.mkdir(parents=True, exist_ok=True)
    found = {each: score.to_dict() | {"command": sys.argv} for each, score in scores.items()}
    write_json(path, {"metrics": kept | found, "of": of, "versions": versions()})
    replace_text(folder / "metrics.md", markdown(scores, name))
