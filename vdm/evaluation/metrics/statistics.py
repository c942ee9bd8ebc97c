"""Mean and covariance of real images' features as a file: our own, or one published for other FID tools."""

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
"""Number of images if a file does not say: so large that mean and covariance count as exact."""


class Statistics(NamedTuple):
    """Mean and covariance of the real images' features, and where they come from."""

    moments: Moments
    extractor: str
    """The extractor's `identity`; "" for files of other tools, which do not record it."""
    output: str
    of: str
    """Which images."""
    path: Path

    @property
    def num(self) -> int | None:
        """Number of images; None for files that do not say."""
        return None if self.moments.num == UNKNOWN else self.moments.num

    @property
    def name(self) -> str:
        """Name with a digest, since statistics with other numbers are different ones."""
        digest = hashlib.sha256(self.moments.mean.tobytes() + self.moments.cov.tobytes()).hexdigest()[:16]
        return f"statistics sha256:{digest} of {self.of or printable(self.path)}"

    def check(self, extractor: Extractor, output: str) -> None:
        """Raise `InputError` for another extractor, if the file names one, or for another number of features."""
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
        """Write the file `path`."""
        num, mean, cov = self.moments
        of = {"extractor": np.array(self.extractor), "output": np.array(self.output), "of": np.array(self.of)}
        arrays: dict[str, Any] = {"mu": mean, "sigma": cov, "num": np.int64(num)} | of
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)


def read_statistics(path: Path) -> Statistics:
    """Read a file with arrays `mu` and `sigma` and, as in our own files, `num`, `extractor`, `output` and `of`.

    Raises `InputError` for any other file, for arrays that are not a mean and a covariance, and for values that are not
    finite.
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
