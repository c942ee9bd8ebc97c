"""The table of guidance methods: every measure of their samples, in the layout of Table 1 of Wang."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vdm import parts
from vdm.comparisons import tables
from vdm.evaluation.metrics import Estimate, Metric

NO_LABELS, LABELS = "no labels", "labels"
"""Rows of a label-conditional model: with its labels dropped, and with labels but without guidance."""
NO_CAPTIONS, CAPTIONS = "no captions", "captions"
"""The same rows for a model conditioned on captions."""


class Row(NamedTuple):
    """The results of the samples of one guidance method."""

    name: str
    """`NO_LABELS`, `LABELS`, `NO_CAPTIONS`, `CAPTIONS`, or the guidance as in the config."""
    estimates: Mapping[str, Estimate]
    """Estimates by measure; image k of every row starts from the same latent."""


class Measure(NamedTuple):
    """A column of the table."""

    title: str
    heading: str
    """The column's heading, with factor and unit."""
    of_data: float
    """Value for real images: the noise floor of a distance, the classifier's accuracy, or a diversity of 1."""
    factor: float = 1.0
    digits: int = 3

    @classmethod
    def of_metric(cls, metric: Metric, floor: float) -> "Measure":
        """Make the column of a registered metric."""
        return cls(metric.title, metric.heading(), floor, metric.factor, metric.digits)

    def show(self, value: float) -> str:
        """Format a value for the table."""
        return f"{self.factor * value:.{self.digits}f}"


def markdown(measures: Mapping[str, Measure], rows: Sequence[Row]) -> str:
    """Format guidance methods as rows and measures as columns, with standard errors; the last row is real images."""
    lines = tables.head("", [each.heading for each in measures.values()])
    for row in rows:
        cells = [_cell(each, row.estimates[name]) for name, each in measures.items()]
        lines.append(tables.row(row.name, cells))
    lines.append(tables.row("real images", [each.show(each.of_data) for each in measures.values()]))
    return "\n".join(lines)


def families(rows: Sequence[Row]) -> dict[str, list[tuple[float, Row]]]:
    """Group guidance methods that differ only in scale, by their common part: (scale, row) by increasing scale.

    >>> found = families([Row("classifier_free(2)", {}), Row("classifier_free(0.5)", {}), Row("labels", {})])
    >>> {name: [scale for scale, _ in members] for name, members in found.items()}
    {'classifier_free': [0.5, 2.0]}
    """
    found: dict[str, list[tuple[float, Row]]] = {}
    for row in rows:
        if row.name in (NO_LABELS, LABELS, NO_CAPTIONS, CAPTIONS):
            continue
        call = parts.read("guidance", row.name)
        if "scale" not in call.signature.parameters:
            continue
        scale = call.arguments.get("scale", call.signature.parameters["scale"].default)
        others = call._replace(arguments={k: v for k, v in call.arguments.items() if k != "scale"})
        found.setdefault(str(others), []).append((float(scale), row))
    return {name: sorted(members, key=lambda member: member[0]) for name, members in found.items()}


def _cell(measure: Measure, estimate: Estimate) -> str:
    return f"{measure.show(estimate.value)} ± {measure.show(estimate.stderr)}"
