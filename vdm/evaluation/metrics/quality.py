"""`Quality`: the metrics named by a flag or a config, ready to be applied to samples."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from rich.console import Console

from vdm.data.dataset import Source
from vdm.errors import InputError
from vdm.evaluation.metrics.features import BATCH
from vdm.evaluation.metrics.metric import Estimate, Images, Labels
from vdm.evaluation.metrics.scoring import Real, Scorer, check
from vdm.files import cache_folder
from vdm.progress import Passes

CACHE = "features"
"""Name of the folder for features of real images, for `vdm.files.cache_folder`."""


class Quality:
    """A `Scorer` for programs: it shows progress, raises `InputError` and prints notes about its numbers.

    Features of the real images are kept in the user's cache.
    """

    def __init__(
        self,
        names: Sequence[str],
        real: Real,
        levels: int,
        shape: Sequence[int],
        num: int,
        where: str,
        console: Console,
        labelled: bool = False,
        mesh: Mesh | None = None,
        batch_size: int = BATCH,
        **context: Any,
    ):
        """Prepare for sets of `num` samples each, with or without labels; `context` holds arguments for extractors.

        Raises `InputError`, starting with `where`, for a metric that lacks something it needs: weights, a classifier,
        labels, more samples, or other real images.
        """
        self._where, self._passes = where, Passes(console)
        with self._named():
            check(names, num, labelled)
            self.scorer = Scorer(
                names, real, levels, shape, mesh, cache_folder(CACHE), batch_size, self._passes, **context
            )
            self.metrics = self.scorer.metrics
            self.floors = self.scorer.floors(num)
            self.cautions = self.scorer.cautions(num)
        of: dict[str, list[str]] = {}
        for name, lines in self.cautions.items():
            for line in lines:
                of.setdefault(line, []).append(name)
        for line, those in of.items():
            console.print(f"note: {', '.join(those)}: {line}", style="yellow", markup=False, soft_wrap=True)

    def __call__(
        self, samples: Source | Images, labels: Labels | None = None, folder: Path | None = None, of: str = ""
    ) -> dict[str, Estimate]:
        """Return each metric's value, by its name; arguments are as for `Scorer`.

        Raises `InputError` as the constructor does.
        """
        with self._named():
            return self.scorer(samples, labels, folder, of)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            with self._passes:
                yield
        except ValueError as error:
            raise InputError(f"{self._where}: {error}") from error
