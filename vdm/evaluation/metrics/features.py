"""Features of many images: the extractor as one program over the mesh, in batches, into memory or a growing file."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Integer

from vdm import memory, parallel
from vdm.data.dataset import Source, examples
from vdm.errors import InputError
from vdm.evaluation.images import padded
from vdm.evaluation.metrics.extractors import Extractor
from vdm.evaluation.metrics.metric import Features
from vdm.files import held, write_json
from vdm.reading import read_json

BATCH = 64
"""Number of images per call, over all devices."""

RECORD, LOCK = "features.json", "features.lock"


class Extraction:
    """An extractor's outputs for the images of any source; compiles once per image size."""

    def __init__(self, extractor: Extractor, outputs: Sequence[str], mesh: Mesh, batch_size: int = BATCH):
        """Raise ValueError for an output that the extractor does not have."""
        for name in outputs:
            if name not in extractor.outputs:
                raise ValueError(f"output={name!r}: {extractor.title} has {', '.join(extractor.outputs)}")
        self.extractor, self.outputs = extractor, tuple(dict.fromkeys(outputs))
        self.batch_size, self._mesh = batch_size, mesh
        self._variables = jax.device_put(extractor.variables, parallel.replicated(mesh))
        sharding = parallel.batch_sharding(mesh)

        def run(variables: object, images: Array, wanted: tuple[str, ...]) -> dict[str, Array]:
            return extractor.apply(variables, jax.lax.with_sharding_constraint(images, sharding), wanted)

        self._run = jax.jit(run, static_argnames="wanted")

    def __call__(
        self,
        source: Source,
        indices: Integer[np.ndarray, " images"] | None = None,
        folder: Path | None = None,
        of: str = "",
        progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> dict[str, Features]:
        """Return the features of these images of the source (by default all), by output, with rows in the same order.

        With a `folder`, features are kept there, each output in its own file that grows batch by batch, and are
        returned as memory maps. Features already computed for `of`, which names the images, are not computed again, and
        a killed run resumes. Another program that asks for the same features waits. With several processes in one
        program, each keeps everything in memory. Raises ValueError for images of a shape that the extractor does not
        take, and for features that are not finite.
        """
        indices = np.arange(len(source)) if indices is None else indices
        if not len(indices):
            raise ValueError("images: there are none")
        if folder is None or jax.process_count() > 1:
            found = list(self._batches(source, indices, self.outputs, progress))
            return {name: np.concatenate([batch[name] for batch in found]) for name in self.outputs}
        with held(folder / LOCK):
            self._open(folder, of)
            files = {name: _File(folder / f"{name}.f32", self.extractor.outputs[name]) for name in self.outputs}
            missing = tuple(name for name, file in files.items() if file.rows < len(indices))
            if missing:
                done = min(files[name].rows for name in missing)
                for batch in self._batches(source, indices, missing, progress, done):
                    for name in missing:
                        files[name].add(done, batch[name])
                    done += len(batch[missing[0]])
            return {name: file.read(len(indices)) for name, file in files.items()}

    def _open(self, folder: Path, of: str) -> None:
        """Prepare the folder for these images, deleting features of any others."""
        record = {"extractor": self.extractor.identity, "images": of}
        try:
            there = read_json(folder / RECORD, {})
        except InputError:
            there = {}
        if there != record:
            for path in folder.glob("*.f32"):
                path.unlink()
            write_json(folder / RECORD, record)

    def _batches(
        self,
        source: Source,
        indices: np.ndarray,
        wanted: tuple[str, ...],
        progress: Callable[[int, int], object],
        done: int = 0,
    ) -> Iterator[dict[str, Features]]:
        """Yield features from image `done` on; while a device computes one batch, the next is read."""
        pending: list[tuple[int, int, dict[str, Array]]] = []

        def finished() -> dict[str, Features]:
            start, stop, arrays = pending.pop(0)
            with memory.guarded("features", memory.FEATURES):
                features = {name: rows[: stop - start] for name, rows in parallel.to_host(arrays).items()}
            for name, rows in features.items():
                finite = np.isfinite(rows).all(axis=1)
                if not finite.all():
                    raise ValueError(
                        f"{self.extractor.title}: {name} of image {start + int(np.argmin(finite))} is not finite"
                    )
            progress(stop, len(indices))
            return features

        size = parallel.round_up(min(self.batch_size, len(indices)), self._mesh)
        for start in range(done, len(indices), size):
            stop = min(start + size, len(indices))
            images = examples(source, indices[start:stop])["image"]
            self._check(images)
            with memory.guarded("features", memory.FEATURES):
                batch = jnp.asarray(padded(images, 0, size))
                pending.append((start, stop, self._run(self._variables, batch, wanted=wanted)))
                if len(pending) > 1:
                    yield finished()
        while pending:
            yield finished()

    def _check(self, images: np.ndarray) -> None:
        shape, dtype = self.extractor.shape, self.extractor.dtype
        if images.dtype != dtype or shape not in (None, images.shape[1:]):
            wanted = "(height, width, channels)" if shape is None else shape
            raise ValueError(
                f"images: are {images.dtype} {images.shape[1:]}; {self.extractor.title} needs {dtype} {wanted}"
            )


class _File:
    """Rows of float32 in a file, without header or separators.

    It never shrinks, as another program may have it memory-mapped.
    """

    def __init__(self, path: Path, dims: int):
        self.path, self.dims = path, dims

    @property
    def rows(self) -> int:
        """Number of complete rows."""
        return self.path.stat().st_size // (4 * self.dims) if self.path.exists() else 0

    def add(self, start: int, rows: Features) -> None:
        """Append those of the rows `start` … that are missing, overwriting a partial row that a killed run left."""
        lacking = rows[max(0, self.rows - start) :]
        self.path.touch()
        with self.path.open("r+b") as file:
            file.seek(4 * self.dims * (start + len(rows) - len(lacking)))
            file.write(np.ascontiguousarray(lacking, "<f4").tobytes())

    def read(self, rows: int) -> Features:
        return np.memmap(self.path, "<f4", "r", shape=(rows, self.dims))


def short(identity: str) -> str:
    """Return a digest of what features depend on, for names of folders."""
    return hashlib.sha256(identity.encode()).hexdigest()[:12]
