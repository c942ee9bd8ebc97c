"""Curves of runs as data for charts.js: the logs, the noise schedule and the loss by time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vdm.report.collect import TOTALS, Collected, table_of
from vdm.report.numbers import is_number

MOST_POINTS = 1500
"""Maximum number of points in a curve; in longer curves, each point is the mean of several consecutive ones."""
LEAST_TO_SMOOTH = 60
"""Number of log lines from which a moving average is added to the curve of training batches."""
OTHERS = {
    "grad_norm": ("Gradient norm", "global norm"),
    "learning_rate": ("Learning rate", ""),
    "images_per_second": ("Speed", "images/s"),
    "mfu": ("Model FLOPs utilization", "share of peak"),
}
"""Numbers in the training logs other than the terms of the loss, with their titles and units."""
STEP = "step"


@dataclass
class Series:
    """One curve."""

    name: str
    x: list[float]
    y: list[float | None]
    style: str = "line"
    """One of "line", "faint" (behind a moving average), "points" (tests), "end" (the final test) and "dashed"."""
    color: int = 0
    """Index of one of the page's colors."""
    error: list[float | None] | None = None
    """Half the height of each error bar, or of the band around a line."""

    def to_dict(self) -> dict[str, Any]:
        """Convert the curve to the form that charts.js reads."""
        x, y, error = shortened(self.x, self.y, self.error)
        return {"name": self.name, "x": x, "y": y, "style": self.style, "color": self.color, "error": error}


@dataclass
class Chart:
    """Curves on one pair of axes."""

    name: str
    title: str
    unit: str
    series: list[Series] = field(default_factory=list)
    x: str = STEP
    error: str = "standard error"
    """Meaning of the error bars."""

    @property
    def drawn(self) -> bool:
        """Whether there is anything to show."""
        return any(value is not None for series in self.series for value in series.y)

    def to_dict(self) -> dict[str, Any]:
        """Convert the chart to the form that charts.js reads."""
        range_ = robust([value for series in self.series for value in series.y if value is not None])
        plain = {name: getattr(self, name) for name in ("name", "title", "unit", "x", "error")}
        return plain | {"range": range_, "series": [series.to_dict() for series in self.series if series.x]}


def bound(runs: Sequence[Collected]) -> list[Chart]:
    """Return a chart for each kind of total that runs are judged by, shared by all runs of this kind."""
    charts = []
    for name, unit in TOTALS.items():
        of = [(k, run) for k, run in enumerate(runs) if run.metrics and run.total == name]
        title = {"bits_per_dim": "Variational bound"}.get(name, name.replace("_", " ").capitalize())
        series = [each for k, run in of for each in _of_logs(run, name, _prefix(runs, k), k)]
        charts.append(Chart(name, title, unit, series))
    return [chart for chart in charts if chart.drawn]


def terms(runs: Sequence[Collected]) -> list[Chart]:
    """Return a chart for each term of the loss: reconstruction, prior and diffusion, or rates or costs of layers."""
    units = {run.total: TOTALS[run.total] for run in runs}
    unit = next(iter(units.values())) if len(units) == 1 else ""
    names = dict.fromkeys(
        name
        for run in runs
        for record in run.of_kind("train")
        for name in record
        if name not in (*OTHERS, *TOTALS, "kind", "step")
    )
    return _charts(runs, {name: (name.replace("_", " ").capitalize(), unit) for name in names})


def training(runs: Sequence[Collected]) -> list[Chart]:
    """Return charts of the gradient norm, the learning rate, the speed and the variance of the single-draw loss."""
    variance = {"variance": ("Variance of one draw of the diffusion loss", "(bits/dim)²")}
    return _charts(runs, OTHERS | variance)


def quality(runs: Sequence[Collected]) -> list[Chart]:
    """Return a chart for each metric of samples that was measured during training."""
    names = dict.fromkeys(
        name
        for run in runs
        for record in run.of_kind("metrics")
        for name in record
        if name not in ("kind", "step", "samples") and not name.endswith("_stderr")
    )
    charts = []
    for name in names:
        series = [
            _points(_prefix(runs, k) or name, run.of_kind("metrics"), name, "points", k, f"{name}_stderr")
            for k, run in enumerate(runs)
        ]
        charts.append(Chart(f"metric_{name}", name, "", series))
    return [chart for chart in charts if chart.drawn]


def over_time(runs: Sequence[Collected]) -> list[Chart]:
    """Return charts of γ(t) and of the diffusion loss by time, from plots/curves.json."""
    gamma = Chart("gamma", "Noise schedule γ(t)", "γ = −log SNR", x="t (0: data, 1: noise)")
    loss = Chart(
        "times",
        "Diffusion loss of one draw by time",
        "bits/dim",
        x="t (0: data, 1: noise)",
        error="one standard deviation over images and noise",
    )
    for k, run in enumerate(runs):
        schedule, times = table_of(run.curves, "schedule"), table_of(run.curves, "times")
        t, values = numbers(schedule.get("t")), numbers(schedule.get("gamma"))
        name = run.name if len(runs) > 1 else "γ(t)"
        gamma.series.append(Series(name, *paired(t, values), color=k))
        if len(runs) == 1 and len(values) > 1 and values[0] is not None:
            gamma.series.append(Series("straight line", [t[0], t[-1]], [values[0], values[-1]], "dashed", 1))
        x, mean = paired(numbers(times.get("t")), numbers(times.get("mean")))
        spread = numbers(times.get("std")) if len(runs) == 1 else []
        error = spread if len(spread) == len(x) else None
        loss.series.append(Series(run.name if len(runs) > 1 else "mean", x, mean, color=k, error=error))
    return [chart for chart in (gamma, loss) if chart.drawn]


def numbers(values: Any) -> list[Any]:
    """Convert a JSON list to floats, with None for anything but finite numbers; return [] for anything but a list."""
    return [float(each) if is_number(each) else None for each in values] if isinstance(values, list) else []


def paired(x: list[Any], y: list[Any]) -> tuple[list[float], list[float | None]]:
    """Return the points that have an x, sorted by it."""
    points = sorted(((a, b) for a, b in zip(x, y, strict=False) if a is not None), key=lambda point: point[0])
    return [a for a, _ in points], [b for _, b in points]


def shortened(
    x: list[float], y: list[float | None], error: list[float | None] | None
) -> tuple[list[float], list[float | None], list[float | None] | None]:
    """Reduce a curve to at most `MOST_POINTS` points by averaging neighbors, and round it to six digits."""
    width = -(-len(x) // MOST_POINTS)
    if width > 1:
        parts = range(0, len(x), width)
        x = [_mean(x[k : k + width]) or 0.0 for k in parts]
        y = [_mean(y[k : k + width]) for k in parts]
        error = None if error is None else [_mean(error[k : k + width]) for k in parts]
    rounded = [[_rounded(value) for value in values] for values in (x, y, error or [])]
    return [value or 0.0 for value in rounded[0]], rounded[1], rounded[2] or None


def robust(values: Sequence[float]) -> tuple[float, float] | None:
    """Return about three times the range of the lower three quarters of the values, or None if it cuts nothing off.

    It keeps the high losses of the first steps from flattening the rest, as `vdm.plots.runs.loss` does.
    """
    if len(values) < 8:
        return None
    low, high, most = min(values), float(np.quantile(values, 0.75)), max(values)
    top = low + 3 * max(high - low, 0.02 * abs(low), 1e-6)
    margin = 0.06 * (top - low)
    return None if most <= top + margin else (float(f"{low - margin:.4g}"), float(f"{top + margin:.4g}"))


def _charts(runs: Sequence[Collected], named: dict[str, tuple[str, str]]) -> list[Chart]:
    charts = [
        Chart(
            name, title, unit, [each for k, run in enumerate(runs) for each in _of_logs(run, name, _prefix(runs, k), k)]
        )
        for name, (title, unit) in named.items()
    ]
    return [chart for chart in charts if chart.drawn]


def _prefix(runs: Sequence[Collected], k: int) -> str:
    return runs[k].name if len(runs) > 1 else ""


def _of_logs(run: Collected, name: str, prefix: str, color: int) -> Iterable[Series]:
    """Yield training batches, tests during training and the final test, which differ in color only for a single run."""
    called = lambda what: f"{prefix}, {what}" if prefix else what  # noqa: E731
    first, second, third = (color, color, color) if prefix else (0, 1, 2)
    train = _points(called("training"), run.of_kind("train"), name, "line", first)
    if len(train.x) >= LEAST_TO_SMOOTH and name not in ("learning_rate", "images_per_second", "mfu"):
        window = len(train.x) // 30
        train.style = "faint"
        yield train
        yield _smoothed(train, window, called(f"training, mean of {window}"))
    else:
        yield train
    yield _points(called("test"), run.of_kind("evaluation"), name, "points", second, _error(run, name))
    yield _points(called("final test"), run.of_kind("final"), name, "end", third, _error(run, name))


def _error(run: Collected, name: str) -> str:
    return "stderr" if name == run.total else ""


def _points(name: str, records: Sequence[dict[str, Any]], of: str, style: str, color: int, error: str = "") -> Series:
    by_step = {record["step"]: record for record in records if is_number(record.get(of))}
    steps = sorted(by_step)
    errors = numbers([by_step[step].get(error) for step in steps]) if error else []
    kept = errors if any(value is not None for value in errors) else None
    values: list[float | None] = [float(by_step[step][of]) for step in steps]
    return Series(name, [float(step) for step in steps], values, style, color, kept)


def _smoothed(series: Series, window: int, name: str) -> Series:
    """Return the moving average over full windows, placed at their centers."""
    kernel = np.full(window, 1 / window)
    x, y = (np.convolve(np.array(values, float), kernel, "valid").tolist() for values in (series.x, series.y))
    return Series(name, x, y, "line", series.color)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _rounded(value: float | None) -> float | None:
    return None if value is None or not is_number(value) else float(f"{value:.6g}")
