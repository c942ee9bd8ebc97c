"""Guidances side by side: what each measure says of their samples, laid out as Table 1 of Wang."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vdm import parts
from vdm.comparisons import tables
from vdm.evaluation.metrics import Estimate, Metric

NO_LABELS, LABELS = "no labels", "labels"
"""The model without its labels, and with them, unguided."""
NO_CAPTIONS, CAPTIONS = "no captions", "captions"
"""The same of a model of captions."""


class Row(NamedTuple):
    """What the samples of one guidance came to."""

    name: str
    """`NO_LABELS`, `LABELS`, `NO_CAPTIONS`, `CAPTIONS` or the guidance as the config has it."""
    estimates: Mapping[str, Estimate]
    """By measure; image k of every row came from the same latents."""


class Measure(NamedTuple):
    """A column of the table."""

    title: str
    heading: str
    """With factor and unit."""
    of_data: float
    """What real images come to: a noise floor of a distance, the classifier's accuracy, a diversity of 1."""
    factor: float = 1.0
    digits: int = 3

    @classmethod
    def of_metric(cls, metric: Metric, floor: float) -> "Measure":
        """Of one in the registry."""
        return cls(metric.title, metric.heading(), floor, metric.factor, metric.digits)

    def show(self, value: float) -> str:
        """The value as the table has it."""
        return f"{self.factor * value:.{self.digits}f}"


def markdown(measures: Mapping[str, Measure], rows: Sequence[Row]) -> str:
    """Guidances down, measures across, with their standard errors; last what real images come to."""
    lines = tables.head("", [each.heading for each in measures.values()])
    for row in rows:
        cells = [_cell(each, row.estimates[name]) for name, each in measures.items()]
        lines.append(tables.row(row.name, cells))
    lines.append(tables.row("real images", [each.show(each.of_data) for each in measures.values()]))
    return "\n".join(lines)


def families(rows: Sequence[Row]) -> dict[str, list[tuple[float, Row]]]:
    """Guidances that differ in their scale alone, by what they have in common: (scale, row) by increasing scale.

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
