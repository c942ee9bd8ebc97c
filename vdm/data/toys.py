"""Toy data in the plane with known densities: `clusters`, `moons`, `checkerboard`, `spiral`.

All lie approximately inside [−1, 1]². The points are drawn from a numpy stream that is guaranteed never to change.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vdm import likelihoods
from vdm.data.arrays import in_memory
from vdm.data.dataset import Dataset

NUM_TRAIN, NUM_TEST = 10_000, 2_000

Points = Float[np.ndarray, "num 2"]
Curve = Callable[[Float[np.ndarray, " num"]], Points]
"""Maps u in [0, 1] to points on a curve; the data have u uniformly distributed."""

SIDE, CELLS = 1.5, 120
"""All toys have negligible density outside [−SIDE, SIDE]²; integrals over it are sums over CELLS² cells."""
CHUNK = 4096
"""Number of points whose density is computed at a time."""


class Toy(NamedTuple):
    """A distribution over points in the plane."""

    draw: Callable[[np.random.RandomState, int], tuple[Points, Int[np.ndarray, " num"]]]
    """Draw points: (random stream, number) -> (points, component index of each)."""
    log_prob: Callable[[Points], Float[np.ndarray, " num"]]
    """The log density, in nats."""
    classes: tuple[str, ...] | None = None
    """Names of the components, if they serve as labels."""


def log_prob(name: str, x: Points) -> Float[np.ndarray, " num"]:
    """Return the exact log density of a toy at the points `x`, in nats; −∞ outside its support.

    >>> log_prob("checkerboard", np.array([[0.1, 0.1], [0.1, -0.1]])).tolist()  # log ½
    [-0.6931471805599453, -inf]
    """
    x = np.asarray(x, np.float64)
    toy = _toy(name)
    return np.concatenate([toy.log_prob(x[first : first + CHUNK]) for first in range(0, max(1, len(x)), CHUNK)])


def entropy(name: str) -> float:
    """Return the entropy −∫ p log p of a toy, in nats: the lowest mean −log p̂(x) that any model p̂ can reach.

    Computed by the midpoint rule, which is accurate to many digits for smooth densities, and exact for the
    checkerboard.

    >>> bool(abs(entropy("clusters") - np.log(5 * 2 * np.pi * np.e * 0.1**2)) < 1e-3)  # five normals, far apart
    True
    """
    log_p = log_prob(name, plane(CELLS))
    p = np.exp(log_p)
    return -float(np.sum(p * np.where(p > 0, log_p, 0.0))) * (2 * SIDE / CELLS) ** 2


def plane(cells: int) -> Points:
    """The centers of a grid of cells × cells cells over [−SIDE, SIDE]², row by row."""
    centers = SIDE * ((2 * np.arange(cells) + 1) / cells - 1)
    x, y = np.meshgrid(centers, centers)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def noisy(curves: Sequence[Curve], std: float, nodes: int = 512, classes: tuple[str, ...] | None = None) -> Toy:
    """Make a toy: a uniformly chosen curve, a point on it, and Gaussian noise of standard deviation `std`.

    The density is a Gaussian mixture with `nodes` components per curve, placed by Gauss–Legendre quadrature in √u. It
    is practically exact if neighboring nodes are closer than `std`; one node is exact for a curve that is a single
    point.
    """
    roots, weights = np.polynomial.legendre.leggauss(nodes)
    root, weight = (roots + 1) / 2, (roots + 1) / 2 * weights
    centers = np.concatenate([curve(root**2) for curve in curves])
    log_weights = np.log(np.tile(weight, len(curves)) / (len(curves) * 2 * np.pi * std**2))

    def draw(rng: np.random.RandomState, num: int) -> tuple[Points, np.ndarray]:
        part, u, noise = rng.randint(len(curves), size=num), rng.uniform(size=num), rng.standard_normal((num, 2))
        points = np.stack([curve(u) for curve in curves])[part, np.arange(num)]
        return points + std * noise, part

    def density(x: Points) -> np.ndarray:
        square = (x**2).sum(axis=1)[:, None] - 2 * x @ centers.T + (centers**2).sum(axis=1)[None]
        exponents = log_weights - square / (2 * std**2)
        highest = exponents.max(axis=1)
        return highest + np.log(np.exp(exponents - highest[:, None]).sum(axis=1))

    return Toy(draw, density, classes)


def _checkerboard() -> Toy:
    def draw(rng: np.random.RandomState, num: int) -> tuple[Points, np.ndarray]:
        part, inside = rng.randint(8, size=num), rng.uniform(size=(num, 2))
        row, pair = np.divmod(part, 2)
        corner = np.stack([2 * pair + row % 2, row], axis=1)
        return (corner + inside) / 2 - 1, part

    def density(x: Points) -> np.ndarray:
        column, row = np.floor(2 * (x + 1)).astype(int).T
        inside = (np.abs(x) < 1).all(axis=1) & ((column + row) % 2 == 0)
        return np.where(inside, -math.log(2), -np.inf)

    return Toy(draw, density)


@functools.cache
def _toy(name: str) -> Toy:
    if name not in TOYS:
        raise ValueError(f"name={name!r}: must be one of {', '.join(TOYS)}")
    return TOYS[name]()


def _point(angle: float) -> Curve:
    center = 0.7 * np.array([[np.sin(angle), np.cos(angle)]])
    return lambda u: np.repeat(center, len(u), axis=0)


def _moon(sign: int) -> Curve:
    """A half circle. The other one is the same, rotated by 180° about the origin."""
    return lambda u: sign * (np.stack([np.cos(np.pi * u), np.sin(np.pi * u)], axis=1) - [[0.5, 0.25]]) / 1.7


def _spiral(u: np.ndarray) -> Points:
    """A spiral of two turns with roughly constant density of points along it."""
    angle = 4 * np.pi * np.sqrt(u)
    return 0.9 * np.sqrt(u)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


TOYS: dict[str, Callable[[], Toy]] = {
    "clusters": lambda: noisy([_point(2 * np.pi * k / 5) for k in range(5)], 0.1, 1, tuple("01234")),
    "moons": lambda: noisy([_moon(1), _moon(-1)], 0.05, 128, classes=("upper", "lower")),
    "checkerboard": _checkerboard,
    "spiral": lambda: noisy([_spiral], 0.04),
}


def clusters() -> Dataset:
    """Five round, labeled clusters in the plane, as in Fig. 2.4 of De Sousa Ribeiro & Glocker (2024).

    >>> dataset = clusters()
    >>> dataset.info.shape, dataset.info.levels, dataset.train[0]["image"].dtype
    ((2,), 0, dtype('float32'))
    """
    return _dataset("clusters")


def moons() -> Dataset:
    """Two interleaved half circles in the plane with Gaussian noise; labeled.

    >>> moons().info.classes
    ('upper', 'lower')
    """
    return _dataset("moons")


def checkerboard() -> Dataset:
    """The uniform density on the squares of one color of a 4×4 checkerboard: a density with sharp edges.

    >>> len(checkerboard().test)
    2000
    """
    return _dataset("checkerboard")


def spiral() -> Dataset:
    """A spiral of two turns in the plane, with Gaussian noise.

    >>> len(spiral().train)
    10000
    """
    return _dataset("spiral")


def _dataset(name: str) -> Dataset:
    toy, rng = _toy(name), np.random.RandomState(0)
    splits = []
    for num in (NUM_TRAIN, NUM_TEST):
        points, part = toy.draw(rng, num)
        splits.append({"image": points.astype(np.float32)} | ({} if toy.classes is None else {"label": part}))
    return in_memory(
        *splits,
        levels=likelihoods.REAL,
        name=name,
        version="1.0.0",
        classes=toy.classes,
        splits=(f"draws 0 to {NUM_TRAIN - 1}", f"the {NUM_TEST} draws after them"),
        preprocessing="drawn by numpy's RandomState(0)",
    )
