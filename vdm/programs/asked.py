"""The sample metrics that a command line asks for, with the weights of their extractors, and reference statistics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

from jax.sharding import Mesh
from rich.console import Console

from vdm import parallel, parts
from vdm.data import Dataset
from vdm.errors import InputError
from vdm.evaluation.metrics.extractors import Extractor
from vdm.evaluation.metrics.extractors.classifier import Opened
from vdm.evaluation.metrics.features import BATCH, Extraction
from vdm.evaluation.metrics.moments import moments
from vdm.evaluation.metrics.quality import CACHE, Quality
from vdm.evaluation.metrics.scoring import Real, folder_of
from vdm.evaluation.metrics.statistics import Statistics
from vdm.files import cache_folder
from vdm.programs import judges
from vdm.programs.named_images import real_of
from vdm.progress import progress_of


@dataclass(frozen=True)
class Asked:
    """Metrics to compute, and the feature extractors' weights to compute them with."""

    metrics: Sequence[str]
    """Names of metrics: parts of kind "metric"."""
    weights: Path | None = None
    """File or folder with the extractors' weights; None: the one that VDM_WEIGHTS names."""
    classifier: Path | None = None
    """Folder of the classifier that the `classifier` extractor takes its features from; None: the data's own."""
    batch_size: int = BATCH

    def quality(
        self,
        real: Real,
        levels: int,
        shape: Sequence[int],
        num: int,
        labelled: bool,
        console: Console,
        data: Callable[[], Dataset | None],
        mesh: Mesh | None = None,
    ) -> Quality:
        """Return the `Quality` that measures `num` samples of this shape and number of levels.

        `data` is called only if a classifier has to be opened; it returns the data to train one on. Raises
        `InputError` as `Quality` does.
        """
        return Quality(
            self.metrics,
            real,
            levels,
            shape,
            num,
            "--metrics",
            console,
            labelled,
            mesh,
            self.batch_size,
            weights=self.weights,
            classifier=self._classifier(data, console),
        )

    def statistics(
        self, data: str, levels: int | None, extractor: str, output: str | None, console: Console
    ) -> Statistics:
        """Return the mean and covariance of an extractor's features of real images, not yet saved to a file.

        `data` names the images as in `real_of`. Raises `InputError` for an unknown extractor, one without weights, and
        one without this output.
        """
        real, dataset = real_of(data, levels, console)
        if dataset is None or real.source is None:
            raise InputError(f"{data}: is a file of statistics already; must name images")
        info, cache = dataset.info, cache_folder(CACHE)
        classifier = self._classifier(lambda: dataset, console)
        context = {"levels": info.levels, "shape": tuple(info.shape)}
        try:
            made: Extractor = parts.make("extractor", extractor, **context, weights=self.weights, classifier=classifier)
            output = next(iter(made.outputs)) if output is None else output
            extraction = Extraction(made, [output], parallel.make_mesh(), self.batch_size)
            folder = None if cache is None else folder_of(cache, made, real.name)
            with progress_of(console, f"features by {made.title}") as progress:
                features = extraction(real.source, folder=folder, of=real.name, progress=progress)[output]
            return Statistics(moments(features), made.identity, output, real.name, Path())
        except ValueError as error:
            raise InputError(f"--extractor={extractor}: {error}") from error

    def _classifier(self, data: Callable[[], Dataset | None], console: Console) -> Callable[[], Opened]:
        @once
        def opened() -> Opened:
            # Possibly the only reason to read the data.
            return judges.opener(data(), self.classifier, cache_folder(judges.CACHE), console)()

        return opened


def names_of(text: str) -> list[str]:
    """Return the metrics that --metrics lists. Raises `InputError` for an unknown metric and for a repeated one."""
    try:
        names = [parts.canonical("metric", each) for each in parts.texts(text)]
    except parts.PartError as error:
        raise InputError(f"--metrics={text}: {error}") from error
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"--metrics={text}: {twice[0]} is listed twice")
    return names
