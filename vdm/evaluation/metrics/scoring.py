"""`Scorer`: metrics by name, compared with real images; each extractor processes each image once."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from vdm import parallel, parts
from vdm.data import Arrays, Dataset, selected
from vdm.data.dataset import Source
from vdm.evaluation.metrics.extractors import Extractor
from vdm.evaluation.metrics.features import BATCH, LOCK, Extraction, short
from vdm.evaluation.metrics.metric import Estimate, Features, Images, Labels, Measure, Metric, Reference
from vdm.evaluation.metrics.moments import Moments, moments
from vdm.evaluation.metrics.statistics import Statistics, read_statistics
from vdm.files import held

REAL, OTHERS = "real images", "real images of the other split"

Report = Callable[[str, int, int], object]
"""Receives the current task, what is done and the total: ("features of samples by Inception-v3", 64, 1000)."""


@dataclass(frozen=True)
class Real:
    """The images that samples are compared with."""

    source: Source | None
    """None if only `statistics` are known."""
    others: Source | None
    """Images that no model was trained on, for the metrics that need them."""
    name: str
    """What the images are, with their version; identifies cached features."""
    statistics: Statistics | None = None
    """Mean and covariance computed by another program."""

    @property
    def num(self) -> int | None:
        """Number of images; None if the statistics do not say."""
        if self.source is not None:
            return len(self.source)
        assert self.statistics is not None
        return self.statistics.num

    @classmethod
    def of(cls, dataset: Dataset, split: str = "train") -> "Real":
        """Make it from a split of a data set."""
        info, others = dataset.info, dataset.test if split == "train" else None
        return cls(getattr(dataset, split), others, f"{info.name} {info.version} {split} {info.preprocessing}")


class Group(NamedTuple):
    """The metrics that use features of one extractor."""

    extractor: Extractor
    extraction: Extraction
    names: list[str]


class Scorer:
    """Metrics by name, ready to be applied to images.

        scorer = Scorer(["mmd"], Real.of(dataset), dataset.info.levels, dataset.info.shape)
        scorer(images)["mmd"].value

    Real images are processed once per extractor; with a `cache`, their features are also kept for later runs.
    """

    def __init__(
        self,
        names: Sequence[str],
        real: Real,
        levels: int,
        shape: Sequence[int],
        mesh: Mesh | None = None,
        cache: Path | None = None,
        batch_size: int = BATCH,
        progress: Report = lambda what, done, total: None,
        **context: Any,
    ):
        """`levels` and `shape` are those of the images; `context` holds further arguments for extractors.

        Raises `parts.PartError` for an unknown metric, and ValueError for a metric for which the real images are
        unsuitable.
        """
        self.metrics: dict[str, Metric] = {name: parts.make("metric", name) for name in names}
        # Each of several processes keeps everything in memory: a file that one sees may not exist for another.
        self._real, self._cache, self._report = real, None if jax.process_count() > 1 else cache, progress
        self._seen: dict[tuple[str, str], dict[str, Features]] = {}
        mesh = parallel.make_mesh() if mesh is None else mesh
        outputs = defaultdict(list)
        for name, metric in self.metrics.items():
            outputs[metric.extractor].append(name)
        context |= {"levels": levels, "shape": tuple(shape)}
        self.groups: list[Group] = []
        self.measures: dict[str, Measure] = {}
        for text, members in outputs.items():
            extractor: Extractor = parts.make("extractor", text, **context)
            for name in members:
                output = self.metrics[name].output or next(iter(extractor.outputs))
                self.metrics[name] = self.metrics[name]._replace(output=output)
            extraction = Extraction(extractor, [self.metrics[name].output for name in members], mesh, batch_size)
            self.groups.append(Group(extractor, extraction, members))
            references = {output: self._reference(self.groups[-1], output) for output in extraction.outputs}
            for name in members:
                metric = self.metrics[name]
                try:
                    self.measures[name] = metric.prepare(references[metric.output])
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error

    def __call__(
        self, images: Source | Images, labels: Labels | None = None, folder: Path | None = None, of: str = ""
    ) -> dict[str, Estimate]:
        """Return each metric's value for the images, by its name.

        With a `folder`, their features are kept there under the name `of`: see `Extraction`. Raises ValueError for too
        few images, for a shape that an extractor does not take, and for a metric that needs labels if there are none.
        """
        check(list(self.metrics), len(images), labels is not None)
        features = self.features(images, folder, of)
        found = {}
        for name, measure in self.measures.items():
            try:
                found[name] = measure.estimate(features[name], labels)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return {name: found[name] for name in self.metrics}

    def features(self, images: Source | Images, folder: Path | None = None, of: str = "") -> dict[str, Features]:
        """Return the features that each metric uses, by its name; raises as a call does."""
        source = Arrays({"image": images}) if isinstance(images, np.ndarray) else images
        found: dict[str, Features] = {}
        for group in self.groups:
            kept = None if folder is None else folder / short(group.extractor.identity)
            outputs = self._features(group, source, "samples", kept, of)
            found |= {name: outputs[self.metrics[name].output] for name in group.names}
        return found

    def floors(self, num: int) -> dict[str, float]:
        """Return each metric's value for `num` real images by chance; NaN without the real images that this needs."""

        def floor(measure: Measure) -> float:
            try:
                return measure.noise_floor(num)
            except ValueError:
                return math.nan

        return {name: floor(measure) for name, measure in self.measures.items()}

    def cautions(self, num: int) -> dict[str, tuple[str, ...]]:
        """Return each metric's warnings about estimates from `num` images."""
        return {name: measure.cautions(num) for name, measure in self.measures.items()}

    def extractors(self) -> Mapping[str, Extractor]:
        """Return the extractor of each metric."""
        return {name: group.extractor for group in self.groups for name in group.names}

    def _reference(self, group: Group, output: str) -> Reference:
        extractor, real = group.extractor, self._real
        dims, given = extractor.outputs[output], real.statistics
        if given is not None:
            given.check(extractor, output)
        source, others = real.source, real.others
        if source is None:
            assert given is not None
            return Reference(given.moments.num, dims, known=lambda: given.moments)

        def rows(limit: int) -> Features:
            # With a cache, all features are computed and kept. Extractors with a fixed image shape, such as pixels, are
            # cheap: for them, a sample suffices.
            if 0 < limit < len(source) and (self._cache is None or extractor.shape is not None):
                return self._features(group, source, REAL, indices=selected(len(source), limit))[output]
            features = self._all(group, source, REAL)[output]
            return features if limit == 0 else features[selected(len(source), limit)]

        def of_others() -> Features:
            assert others is not None
            return self._all(group, others, OTHERS)[output]

        def known() -> Moments:
            if given is not None:
                return given.moments
            folder = self._folder(extractor, REAL)
            if folder is None:
                return moments(rows(0))
            path = folder / f"{output}.npz"
            if not path.exists():
                made = Statistics(moments(rows(0)), extractor.identity, output, self._of(REAL), path)
                with held(folder / LOCK):
                    made.write()
            there = read_statistics(path)
            there.check(extractor, output)
            return there.moments

        return Reference(
            len(source), dims, rows, None if others is None else of_others, known, labels_of(source), labels_of(others)
        )

    def _of(self, what: str) -> str:
        return self._real.name if what == REAL else f"{self._real.name}: {what}"

    def _folder(self, extractor: Extractor, what: str) -> Path | None:
        return None if self._cache is None else folder_of(self._cache, extractor, self._of(what))

    def _all(self, group: Group, source: Source, what: str) -> dict[str, Features]:
        """Return the features of all real images by output; computed once for all metrics."""
        key = group.extractor.identity, what
        if key not in self._seen:
            folder = self._folder(group.extractor, what)
            self._seen[key] = self._features(group, source, what, folder, self._of(what))
        return self._seen[key]

    def _features(
        self,
        group: Group,
        source: Source,
        what: str,
        folder: Path | None = None,
        of: str = "",
        indices: np.ndarray | None = None,
    ) -> dict[str, Features]:
        def progress(done: int, total: int) -> None:
            self._report(f"features of {what} by {group.extractor.title}", done, total)

        try:
            return group.extraction(source, indices, folder, of, progress)
        except ValueError as error:
            raise ValueError(f"{what}: {str(error).removeprefix('images: ')}") from error


def check(names: Sequence[str], num: int, labelled: bool) -> None:
    """Raise ValueError, with the metric's name, for a metric that cannot use `num` images with or without labels."""
    for name in names:
        metric: Metric = parts.make("metric", name)
        try:
            metric.check(num, labelled)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def folder_of(cache: Path, extractor: Extractor, of: str) -> Path:
    """Return the folder for features of the real images that `of` names."""
    return cache / short(extractor.identity) / short(of)


def labels_of(source: Source | None) -> Callable[[], Labels] | None:
    """Return a function that reads a source's labels, or None if it has none; it reads every image, one at a time."""
    if source is None or "label" not in source[0]:
        return None
    return lambda: np.array([int(source[k]["label"]) for k in range(len(source))], np.int32)
