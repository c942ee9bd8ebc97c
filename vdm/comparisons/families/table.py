"""Tables of model families: bounds by term, rates by layer, samples and holes, with mean and std over seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vdm.comparisons import tables
from vdm.comparisons.families.members import Member
from vdm.comparisons.seeds import statistics
from vdm.evaluation.metrics import Metric


@dataclass(frozen=True)
class FamilyOutcome:
    """The results of one run; None where a quantity does not exist."""

    member: Member
    seed: int
    bits_per_dim: float
    """The bound on the test examples."""
    reconstruction: float
    """The reconstruction term of the bound, in bits/dim."""
    rates: tuple[float, ...] | None
    """The rate of each layer in bits/dim, starting next to x: z_1 … z_T, or for a diffusion model the T + 1 latents
    z_0, z_{1/T} … z_1. None in continuous time, with infinitely many latents."""
    active: tuple[int, ...] | None
    """Number of active units in each layer of a predecessor."""
    importance: float | None
    """The importance-weighted bound, in bits/dim."""
    from_prior: Mapping[str, float]
    """Metrics of samples from the prior, by name."""
    from_aggregate: Mapping[str, float] | None
    """Metrics of samples whose z_T comes from the aggregate posterior, for a predecessor."""
    hole: Mapping[str, float]
    """Aggregate posterior of z_T vs. the prior: `kl` in nats, squared `mmd`, and `share`, the prior mass in holes."""
    parameters: int
    seconds: float
    """Training time, on the machine that trained the run."""


class Column(NamedTuple):
    """A number of an outcome, and how a table formats it."""

    title: str
    value: Callable[[FamilyOutcome], float | None]
    show: Callable[[float], str]


def columns(metrics: Mapping[str, Metric], floors: Mapping[str, float], draws: int) -> list[Column]:
    """Return all columns except the rates, which have their own table; metrics come with their noise floors."""

    def quality(name: str, metric: Metric, where: str) -> Column:
        def value(outcome: FamilyOutcome) -> float | None:
            found: Mapping[str, float] | None = getattr(outcome, f"from_{where}")
            return None if found is None else found[name]

        floor = f" ({metric.floor} {metric.show(floors[name])})" if where == "prior" else ""
        origin = "z_T of the prior" if where == "prior" else "z_T of the aggregate posterior"
        return Column(f"{metric.heading('')}, {origin}{floor}", value, metric.show)

    bits = "{:.3f}".format
    return [
        Column("bound, bits/dim", lambda o: o.bits_per_dim, bits),
        Column(f"importance-weighted, {draws} draws", lambda o: o.importance, bits),
        Column("reconstruction", lambda o: o.reconstruction, bits),
        Column("active units", lambda o: None if o.active is None else float(sum(o.active)), "{:.1f}".format),
        *(quality(name, metric, "prior") for name, metric in metrics.items()),
        *(quality(name, metric, "aggregate") for name, metric in metrics.items()),
        Column("KL(q(z_T) ‖ p(z_T)), nats", lambda o: o.hole["kl"], "{:.3g}".format),
        Column("1000 MMD² of z_T", lambda o: 1000 * o.hole["mmd"], "{:.2f}".format),
        Column("prior mass in holes", lambda o: o.hole["share"], "{:.3f}".format),
        Column("parameters", lambda o: float(o.parameters), "{:,.0f}".format),
        Column("training, s", lambda o: o.seconds, "{:.0f}".format),
    ]


def group(outcomes: Sequence[FamilyOutcome]) -> dict[Member, list[FamilyOutcome]]:
    """Group outcomes by member, in the order of first appearance."""
    groups: dict[Member, list[FamilyOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.member, []).append(outcome)
    return groups


def markdown(
    outcomes: Sequence[FamilyOutcome], metrics: Mapping[str, Metric], floors: Mapping[str, float], draws: int
) -> str:
    """Format one row per member; below it, a table of the rates of each layer, with active units of predecessors."""
    groups, wanted = group(outcomes), columns(metrics, floors, draws)
    lines = tables.head("", [column.title for column in wanted])
    for member, those in groups.items():
        lines.append(tables.row(str(member), [_cell([c.value(o) for o in those], c.show) for c in wanted]))
    layered = {member: [outcome for outcome in those if outcome.rates is not None] for member, those in groups.items()}
    layered = {member: those for member, those in layered.items() if those}
    deepest = max((len(those[0].rates or ()) for those in layered.values()), default=0)
    lines += ["", *tables.head("rate, bits/dim (active units)", [f"layer {t}" for t in range(1, deepest + 1)])]
    for member, those in layered.items():
        lines.append(tables.row(str(member), [_layer(those, t) for t in range(deepest)]))
    return "\n".join(lines)


def _cell(values: Sequence[float | None], show: Callable[[float], str]) -> str:
    """Format mean ± standard deviation over seeds, or a single value."""
    found = [value for value in values if value is not None]
    if not found:
        return ""
    mean, std = statistics(found)
    return f"{show(mean)} ± {show(std)}" if len(found) > 1 else show(mean)


def _layer(those: Sequence[FamilyOutcome], t: int) -> str:
    rates = [outcome.rates[t] for outcome in those if outcome.rates is not None and t < len(outcome.rates)]
    active = [float(outcome.active[t]) for outcome in those if outcome.active is not None and t < len(outcome.active)]
    text = _cell(rates, "{:.3f}".format)
    return f"{text} ({_cell(active, '{:.1f}'.format)})" if active else text
