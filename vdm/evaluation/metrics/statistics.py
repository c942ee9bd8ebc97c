"""Mean and covariance of real images' features as a file: our own, or those that other FID tools publish."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vdm.errors import InputError
from vdm.evaluation.metrics.extractors import Extractor
from vdm.evaluation.metrics.moments import Moments
from vdm.files import printable, replacing
from vdm.npz import TEXT, array_names, read_npz

SOURCES = ("mu", "sigma")
"""The arrays that all such files have."""

UNKNOWN = 2**62
"""Number of images where a file does not say it: as many as make the mean and covariance the truth."""


class Statistics(NamedTuple):
    """What features of the real images come to, and what they are of."""

    moments: Moments
    extractor: str
    """Its `identity`; "" in files of other tools, which do not say it."""
    output: str
    of: str
    """Which images."""
    path: Path

    @property
    def num(self) -> int | None:
        """Of how many images; None in files that do not say it."""
        return None if self.moments.num == UNKNOWN else self.moments.num

    @property
    def name(self) -> str:
        """What they are, with a digest: numbers by others are other numbers."""
        digest = hashlib.sha256(self.moments.mean.tobytes() + self.moments.cov.tobytes()).hexdigest()[:16]
        return f"statistics sha256:{digest} of {self.of or printable(self.path)}"

    def check(self, extractor: Extractor, output: str) -> None:
        """Raises `InputError` if they are of another extractor, as far as the file says, or of so many features."""
        where = printable(self.path)
        if self.extractor and (self.extractor, self.output) != (extractor.identity, output):
            raise InputError(
                f"{where}: statistics of {self.output!r} of {self.extractor}; must be of {output!r} of "
                f"{extractor.identity}"
            )
        dims = len(self.moments.mean)
        if dims != extractor.outputs[output]:
            raise InputError(
                f"{where}: statistics of {dims} features; {output!r} of {extractor.title} has "
                f"{extractor.outputs[output]}"
            )

    def write(self) -> None:
        """To `path`."""
        num, mean, cov = self.moments
        of = {"extractor": np.array(self.extractor), "output": np.array(self.output), "of": np.array(self.of)}
        arrays: dict[str, Any] = {"mu": mean, "sigma": cov, "num": np.int64(num)} | of
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)


def read_statistics(path: Path) -> Statistics:
    """Of a file with arrays `mu` and `sigma`; `num`, `extractor`, `output` and `of` if it has them, as ours do.

    Raises `InputError` for another file, for arrays that are no mean and covariance, and for values not finite.
    """
    names = array_names(path)
    arrays = read_npz(path, [*SOURCES, *(name for name in names if name == "num")])
    mean, cov = (arrays[name].astype(np.float64) for name in SOURCES)
    shapes = f"mu {mean.shape}, sigma {cov.shape}"
    if mean.ndim != 1 or not mean.size or cov.shape != (len(mean), len(mean)):
        raise InputError(f"{printable(path)}: {shapes}; must be (dims,) and (dims, dims)")
    if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
        raise InputError(f"{printable(path)}: mu or sigma is not finite")
    if not np.allclose(cov, cov.T, rtol=1e-4, atol=1e-6 * np.abs(cov).max()):
        raise InputError(f"{printable(path)}: sigma is not symmetric")
    of_ours = [name for name in ("extractor", "output", "of") if name in names]
    texts = {name: str(array) for name, array in read_npz(path, of_ours, TEXT).items()} if of_ours else {}
    num = arrays.get("num", np.int64(UNKNOWN))
    if num.shape != () or num.dtype.kind not in "iu" or num < 2:
        raise InputError(f"{printable(path)}: num is {num.dtype} {num.tolist()}; must be a whole number, 2 or more")
    return Statistics(
        Moments(int(num), mean, (cov + cov.T) / 2),
        texts.get("extractor", ""),
        texts.get("output", ""),
        texts.get("of", ""),
        path,
    )
