"""Families of models before diffusion: what the commands do differently for a VAE and for a ladder network."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jax.sharding import Mesh
from rich.table import Table

from vdm import plots
from vdm.data import Dataset
from vdm.evaluation.ladder import LadderEvaluation, LadderEvaluator
from vdm.evaluation.ladder_images import LadderDenoiser
from vdm.evaluation.latent_bound import LatentEvaluation, LatentEvaluator
from vdm.evaluation.latent_images import LatentSampler
from vdm.evaluation.statistics import Share
from vdm.plots import predecessors as figures
from vdm.predecessors.config import LatentSamplingConfig
from vdm.predecessors.ladder import LadderNetwork
from vdm.predecessors.latent import LatentModel
from vdm.programs import captions

Numbers = dict[str, float | None]
Records = Sequence[dict[str, Any]]


class Family(NamedTuple):
    """What commands do with models of one class, and with their evaluations."""

    evaluator: Callable[[Any, Mesh, int, Dataset], Any]
    """(model, mesh, batch size, data) -> evaluator of its variables."""
    sampler: Callable[[Any, Mesh, LatentSamplingConfig, Dataset], Any]
    """(model, mesh, settings, data) -> sampler, which draws and reconstructs images."""
    caption: Callable[[Path, int, int, LatentSamplingConfig], str]
    """(run, step, seed, settings) -> caption of its images."""
    remade: str
    """Caption of a picture of reconstructions."""
    numbers: Callable[[Any], Numbers]
    """(evaluation) -> numbers for the logs, by name."""
    table: Callable[[Any, str], Table]
    """(evaluation, title) -> table that `vdm evaluate` prints."""
    plot: Callable[[Path, Any, Any], Path]
    """(folder, records, evaluation) -> path of the figure by layer; writes it and loss.png into the folder."""


def _numbers_of_latents(result: LatentEvaluation) -> Numbers:
    terms = {name: term.value for name, term in result.terms.items()}
    active = {f"active_{t}": float(active) for t, active in enumerate(result.active, 1)}
    return {"bits_per_dim": result.total, "stderr": result.stderr} | terms | active


def _table_of_latents(result: LatentEvaluation, title: str) -> Table:
    """Return a table with a row for each term, and their sum."""
    images = f"{result.num_images} images, {result.num_draws} draws of each one's latents"
    table = _table(title, f"{images}; ± one standard error over {result.stderr_over}")
    for column in ("term", "bits/dim", "nats per image", "active units"):
        table.add_column(column, justify="left" if column == "term" else "right")
    in_use = ["", *(f"{active} of {len(of)}" for active, of in zip(result.active, result.unit_variances, strict=True))]
    for (name, term), active in zip(result.terms.items(), in_use, strict=True):
        table.add_row(name.replace("_", " of layer "), str(term), f"{result.nats(term.value):.2f}", active)
    table.add_row(
        "bound", str(Share(result.total, result.stderr)), f"{result.nats(result.total):.2f}", "", style="bold"
    )
    return table


def _plot_of_latents(folder: Path, records: Records, result: LatentEvaluation) -> Path:
    plots.loss(folder / "loss.png", records)
    figures.layers(folder / "layers.png", records, [len(units) for units in result.unit_variances])
    return folder / "layers.png"


def _numbers_of_a_ladder(result: LadderEvaluation) -> Numbers:
    costs: Numbers = {f"cost_{t}": cost.value for t, cost in enumerate(result.costs)}
    named = {"cross_entropy": result.cross_entropy, "accuracy": result.accuracy}
    labels: Numbers = {name: share.value for name, share in named.items() if share is not None}
    return {"cost": result.total} | costs | labels


def _table_of_a_ladder(result: LadderEvaluation, title: str) -> Table:
    """Return a table with a row for each layer, from the top down, and for cross-entropy and accuracy."""
    images = f"{result.num_images} images, {result.num_draws} noise draws for each"
    table = _table(title, f"{images}; ± one standard error over {result.stderr_over}")
    for column in ("layer", "squared error per unit", "weight"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for t, cost in reversed(list(enumerate(result.costs))):
        table.add_row(str(t) if t else "0, the image", str(cost), f"{result.weights[t]:g}")
    if result.cross_entropy is not None:
        table.add_row("cross-entropy, nats", str(result.cross_entropy), f"{result.weights[-1]:g}")
    if result.accuracy is not None:
        table.add_row("accuracy, without noise", str(result.accuracy), "")
    return table


def _plot_of_a_ladder(folder: Path, records: Records, result: LadderEvaluation) -> Path:
    plots.loss(folder / "loss.png", records, "cost", "weighted sum of squared errors", "Cost of the ladder")
    figures.costs(folder / "costs.png", records, result.weights[: len(result.costs)])
    return folder / "costs.png"


def _table(title: str, caption: str) -> Table:
    return Table(title=title, caption=caption, min_width=len(title) + 4)


FAMILIES: Mapping[type, Family] = MappingProxyType(
    {
        LatentModel: Family(
            lambda model, mesh, batch_size, dataset: LatentEvaluator(model, mesh, batch_size),
            lambda model, mesh, settings, dataset: LatentSampler(model, mesh, settings),
            captions.of_latents,
            "test data, and their reconstructions from a draw of the latents",
            _numbers_of_latents,
            _table_of_latents,
            _plot_of_latents,
        ),
        LadderNetwork: Family(
            lambda model, mesh, batch_size, dataset: LadderEvaluator(model, mesh, batch_size, dataset.train),
            lambda model, mesh, settings, dataset: LadderDenoiser(model, mesh, settings, dataset.train),
            captions.of_a_ladder,
            "test data, and their reconstructions with noise at every layer",
            _numbers_of_a_ladder,
            _table_of_a_ladder,
            _plot_of_a_ladder,
        ),
    }
)


def family_of(model: Any) -> Family:
    """Return the family of a model, by its class or a class that it inherits from."""
    return next(family for kind, family in FAMILIES.items() if isinstance(model, kind))
