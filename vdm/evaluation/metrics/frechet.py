"""Fréchet distance between features of samples and of real images, both taken as Gaussian: FID, sFID, FD-DINOv2.

‖μ_s − μ_r‖² + Tr Σ_s + Tr Σ_r − 2 Tr (Σ_s Σ_r)^½ (Dowson & Landau 1982; Heusel et al. 2017). With factors Σ = L Lᵀ, the
trace of the square root is the sum of the singular values of L_sᵀ L_r. No root is taken of an eigenvalue that is
rounding noise, and rank-deficient covariances need no special treatment.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from vdm.evaluation.metrics.halves import disjoint
from vdm.evaluation.metrics.metric import Estimate, Features, Labels, Metric, Reference
from vdm.evaluation.metrics.moments import BLOCK, Moments, moments

EPS = float(np.finfo(np.float64).eps)

ENOUGH = 5
"""Images per feature below which the bias is mentioned: Heusel et al. (2017) ask for 10 000 of 2048 features."""

STRAIGHT = 2
"""Images per feature in a subset below which the distance is not linear in 1/n; 5000 images for 2048 are above it."""

Matrix = Float64[np.ndarray, "_ _"]


def fid() -> Metric:
    """Fréchet Inception distance: Inception-v3's 2048 pooled features (Heusel et al. 2017).

    >>> fid().title, fid().extractor
    ('FID', 'inception')
    """
    return Metric("FID", Frechet, "inception", "pool")


def sfid() -> Metric:
    """Fréchet distance of Inception-v3's spatial features, which say more about layout (Nash et al. 2021).

    >>> sfid().title
    'sFID'
    """
    return Metric("sFID", Frechet, "inception", "spatial")


def fd_dinov2(size: str = "l") -> Metric:
    """Fréchet distance of DINOv2's class tokens, closer to human judgment than FID (Stein et al. 2023).

    >>> fd_dinov2("b").extractor
    "dinov2(size='b')"
    """
    return Metric("FD-DINOv2", Frechet, f"dinov2(size={size!r})", "cls")


def fd_classifier() -> Metric:
    """Fréchet distance of the features of a classifier of this data: needs no weights, and is not comparable with FID.

    >>> fd_classifier().title
    'FD-classifier'
    """
    return Metric("FD-classifier", Frechet, "classifier", "features")


def frechet(extractor: str = "pixels") -> Metric:
    """Fréchet distance of the first output of any extractor; with pixels it needs no network.

    >>> frechet().title
    'FD of pixels'
    """
    return Metric(f"FD of {extractor}", Frechet, extractor)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Return ‖μ_a − μ_b‖² + Tr Σ_a + Tr Σ_b − 2 Tr (Σ_a Σ_b)^½.

    The rounding error is about 1e-11 of Tr Σ_a + Tr Σ_b if both covariances have full rank. A direction whose variance
    is below 1e-13 of the largest counts as having none, which costs at most about 1e-6 of the product of the largest
    standard deviations.

    >>> a = Moments(10, np.zeros(2), np.diag([1.0, 4.0]))
    >>> b = Moments(10, np.array([3.0, 0.0]), np.diag([9.0, 0.0]))
    >>> round(frechet_distance(a, b), 10)
    17.0
    """
    of = target(b)
    return _distance(a.mean, float(np.trace(a.cov)), along_factor(a.cov, of.factor)[0], of)


class Target(NamedTuple):
    """What samples are compared with, prepared once."""

    mean: Float64[np.ndarray, " dims"]
    trace: float
    """Trace of the covariance."""
    factor: Matrix


def target(real: Moments) -> Target:
    """Prepare the real images' mean and covariance for comparison."""
    return Target(real.mean, float(np.trace(real.cov)), factor(real.cov))


def estimate(features: Features, of: Target) -> Estimate:
    """Return the distance, and its exact value without each image. Raises ValueError for fewer than three images.

    Without image k, whose features are d from the mean, Σ becomes (n−1)/(n−2) (Σ − n/(n−1)² d dᵀ). This subtracts
    c e eᵀ from M = L_rᵀ Σ L_r, with e = L_rᵀ d and c = n/(n−1)². As √a = 1/π ∫₀^∞ log(1 + a/s²) ds for each eigenvalue,
    the determinant of a matrix minus one of rank 1 shows that Tr M^½ − Tr (M − c e eᵀ)^½ is
    −1/π ∫₀^∞ log(1 − c eᵀ (M + s²)⁻¹ e) ds. With M's eigenvectors, this takes one number for each image and each s.
    """
    n, dims = features.shape
    if n < 3:
        raise ValueError(f"images: {n} of them; must be 3 or more")
    if n <= dims:
        # The centered features themselves are a factor, so no covariance is needed.
        mean = features.mean(axis=0, dtype=np.float64)
        half = (features.astype(np.float64) - mean) / np.sqrt(n - 1)
        trace = float(np.sum(np.square(half)))
        roots, vectors = singular(half @ of.factor)
    else:
        own = moments(features)
        mean, trace = own.mean, float(np.trace(own.cov))
        roots, vectors = along_factor(own.cov, of.factor)
    taken, squares, along = [], [], []
    kept = roots > dims * EPS * roots.max(initial=0.0)
    directions = of.factor @ vectors[:, kept]
    for k in range(0, n, BLOCK):
        centred = features[k : k + BLOCK].astype(np.float64) - mean
        taken.append(_taken(centred @ directions, roots[kept], n / (n - 1) ** 2))
        squares.append(np.sum(np.square(centred), axis=1))
        along.append(centred @ (mean - of.mean))
    square = np.concatenate(squares)
    # ‖μ − d/(n−1) − μ_r‖² and the traces; only the trace of the root needed more work.
    means = np.sum(np.square(mean - of.mean)) - 2 * np.concatenate(along) / (n - 1) + square / (n - 1) ** 2
    traces = (n - 1) / (n - 2) * (trace - n / (n - 1) ** 2 * square)
    root = np.sqrt((n - 1) / (n - 2)) * (roots.sum() - np.concatenate(taken))
    return Estimate(_distance(mean, trace, roots, of), means + traces + of.trace - 2 * root)


def bias(num: int, real: Moments) -> float:
    """Return the mean distance of `num` images from their own distribution, to first order in 1/num.

    For Gaussian features it is (Tr Σ + ½ Σ_ij (1 + δ_ij) λ_i λ_j / (λ_i + λ_j)) / num, with the eigenvalues λ of Σ.
    This follows from the distance between Σ and Σ + E, which is ½ Σ_ij E_ij² / (λ_i + λ_j) to second order. It is too
    high for fewer images than features.

    >>> bias(100, Moments(0, np.zeros(1), np.ones((1, 1))))
    0.015
    """
    values = np.maximum(np.linalg.eigvalsh(real.cov), 0)
    values = values[values > 0]
    pairs = np.sum(np.outer(values, values) / np.add.outer(values, values)) + values.sum() / 2
    return float((values.sum() + pairs / 2) / num)


class Frechet:
    """The Fréchet distance of images from the real ones."""

    def __init__(self, reference: Reference):
        """Only the mean and covariance of the real images are needed."""
        self.reference = reference
        self.target = target(reference.moments)

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """See `estimate`. The standard error also holds for fewer images than features; it tends to be too large."""
        return estimate(features, self.target)

    def noise_floor(self, num: int) -> float:
        """Return the distance between two disjoint parts of the real images, scaled to `num` others and all of them.

        For n and m images it is proportional to 1/n + 1/m. If only mean and covariance are known, it is that of
        Gaussian features to first order: see `bias`.
        """
        try:
            part, rest = parted(self.reference, num)
        except ValueError:
            return bias(num, self.reference.moments)
        ratio = (1 / num + 1 / (len(part) + rest.num)) / (1 / len(part) + 1 / rest.num)
        return ratio * estimate(part, target(rest)).value

    def cautions(self, num: int) -> tuple[str, ...]:
        """Warn if there are fewer images than features, or fewer than five times as many."""
        return few(num, self.reference)


def parted(reference: Reference, num: int) -> tuple[Features, Moments]:
    """Return the features of `num` random real images (at most half), and the mean and covariance of the rest.

    Raises ValueError if the features of the real images are not known.
    """
    features, whole = reference.features, reference.moments
    if whole.num != len(features):  # e.g. if another program's statistics cover more images
        whole = moments(features)
    part = features[disjoint(len(features), num)[0]]
    return part, without(whole, moments(part))


def without(whole: Moments, part: Moments) -> Moments:
    """Return the mean and covariance of what is left without the part."""
    num = whole.num - part.num
    mean = (whole.num * whole.mean - part.num * part.mean) / num
    difference = part.mean - mean
    between = part.num * num / whole.num * np.outer(difference, difference)
    products = (whole.num - 1) * whole.cov - (part.num - 1) * part.cov - between
    return Moments(num, mean, products / (num - 1))


def few(num: int, reference: Reference, smallest: int | None = None) -> tuple[str, ...]:
    """Warn if there are fewer images than a covariance needs; `smallest` is the size of the smallest subset."""
    dims, lines = reference.dims, []
    if num <= dims:
        lines.append(
            f"{num} images are no more than the {dims} features: their covariance has rank {num - 1} at most, and the "
            "distance is far too high; compare it at this number of images only, or report KID"
        )
    elif num < ENOUGH * dims and smallest is None:
        lines.append(
            f"{num} images of {dims} features: too high by about {bias(num, reference.moments):.2g} for "
            "Gaussian features; compare it at this number of images only, or report FID∞ or KID"
        )
    elif smallest is not None and smallest < STRAIGHT * dims:
        lines.append(
            f"the smallest subset has {smallest} images of {dims} features: the distance is not linear in 1/n "
            "there, and the value is off by more than its error, mostly too low"
        )
    if reference.num <= dims:
        lines.append(f"{reference.num} real images are no more than the {dims} features: their covariance is singular")
    return tuple(lines)


def factor(cov: Float64[np.ndarray, "dims dims"]) -> Matrix:
    """Return L with L Lᵀ = Σ, with one column for each eigenvalue that is not numerically zero.

    It is computed from the correlations, so that features of small scale keep their precision.
    """
    scale = np.sqrt(np.maximum(np.diagonal(cov), 0))
    unit = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(cov / np.outer(unit, unit))
    kept = values > len(cov) * EPS * values.max(initial=0.0)
    factored: Matrix = scale[:, None] * vectors[:, kept] * np.sqrt(values[kept])
    return factored


def along_factor(cov: Matrix, of: Matrix) -> tuple[Float64[np.ndarray, " rank"], Matrix]:
    """Do as `singular` for B = Kᵀ L, where K Kᵀ is `cov` and L is `of`.

    K itself is computed only if B is nearly rank-deficient.
    """
    return _roots(of.T @ (cov @ of), lambda vectors: factor(cov).T @ (of @ vectors))


def singular(matrix: Matrix) -> tuple[Float64[np.ndarray, " rank"], Matrix]:
    """Return (singular values of B, right singular vectors as columns): at most min(rows, columns), unsorted."""
    rows, columns = matrix.shape
    if rows < columns:
        basis, square = np.linalg.qr(matrix.T)
        values, vectors = singular(square.T)
        return values, basis @ vectors
    return _roots(matrix.T @ matrix, lambda vectors: matrix @ vectors)


SMALL = 1e-10
"""Eigenvalues of BᵀB below this share of the largest are too inexact to take roots of."""


def _roots(gram: Matrix, image: Callable[[Matrix], Matrix]) -> tuple[Float64[np.ndarray, " rank"], Matrix]:
    """Return the singular values and right singular vectors of B, given BᵀB and the map V ↦ B V.

    Uses eigenvalues, which is several times faster than a singular value decomposition. Only the subspace of the
    smallest ones gets such a decomposition: accurate to about 1e-11 of the largest.
    """
    squares, vectors = np.linalg.eigh(gram)
    values = np.sqrt(np.maximum(squares, 0))
    small = squares <= SMALL * squares.max(initial=0.0)
    if small.any():
        rows = image(vectors[:, small])
        # B may have fewer rows than these columns; rows of zeros give as many singular vectors as columns.
        rows = np.pad(rows, ((0, max(0, rows.shape[1] - rows.shape[0])), (0, 0)))
        _, values[small], within = np.linalg.svd(rows, full_matrices=False)
        vectors[:, small] = vectors[:, small] @ within.T
    return values, vectors


STEP, BEYOND = 0.4, 22.0
"""Step and range of the trapezoidal rule in u = log s: its errors are about exp(−π²/STEP) and exp(−BEYOND)."""


def _taken(along: Matrix, roots: Float64[np.ndarray, " rank"], c: float) -> Float64[np.ndarray, " rows"]:
    """Return Tr M^½ − Tr (M − c e eᵀ)^½ for each row e, given along M's eigenvectors, whose eigenvalues are roots²."""
    if not len(roots):
        return np.zeros(len(along))
    s = np.exp(np.arange(np.log(roots.min()) - BEYOND, np.log(roots.max()) + BEYOND, STEP))
    share = c * np.square(along) @ (1 / (np.square(roots)[:, None] + np.square(s)))
    # `share` is 1 at s = 0 if only this image has a component along some direction.
    taken: Float64[np.ndarray, " rows"] = -STEP / np.pi * np.log1p(-np.minimum(share, 1 - EPS)) @ s
    return taken


def _distance(
    mean: Float64[np.ndarray, " dims"], trace: float, roots: Float64[np.ndarray, " rank"], of: Target
) -> float:
    return float(np.sum(np.square(mean - of.mean)) + trace + of.trace - 2 * roots.sum())
