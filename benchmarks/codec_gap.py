"""The gap between the codec's net rate and the bound L_T as each rounding is varied, as one JSON object and a picture.

    python benchmarks/codec_gap.py --picture=docs/pictures/codec_gap.png > benchmarks/results/codec_gap.json

The data are normal pixels with 256 levels and their exact denoiser, so that L_T is known. `over_densities` is the bits
spent, in bits/dim, minus the number of bits given by the normal densities at the same latents; the mean of the latter
is L_T, and the difference has little variance. `over_bound` is the rate minus L_T itself. Both have standard errors
over batches. The coder's own precision is 24 bits; other precisions are simulated by rounding the same probability
tables to other multiples. Without Sheppard's correction the densities are not those of the latents drawn, so only
`over_bound` is meaningful, and it is measured on 16 times as many images.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from scipy.special import expit, ndtr

from vdm import likelihoods
from vdm.codec import chain as chains
from vdm.codec import normals
from vdm.codec.chain import Chain
from vdm.codec.container import PARTS_BITS, Header
from vdm.codec.normals import Normals, Stack
from vdm.plots.axes import BLACK, BLUE, ERROR_BARS, GREEN, ORANGE, save

SHAPE, LEVELS, MEAN, STD = (8, 8, 1), 256, 0.1, 0.2
GAMMA_MIN, GAMMA_MAX = -13.3, 5.0
STEPS, BINS, PRECISION = 100, Header().bins, PARTS_BITS
FIGURE = "over_densities"


class Log:
    """Bits, according to the normal densities, of what is pushed minus those of what is drawn."""

    def __init__(self) -> None:
        self.bits, self.z_0 = 0.0, np.zeros(0, np.int64)


class Logged(Normals):
    """The codec's own coder with a log."""

    log: Log

    def draw(self, stack: Any, mean: np.ndarray) -> np.ndarray:
        value = super().draw(stack, mean)
        self._count(value, mean, -1)
        if not self.log.z_0.size:
            self.log.z_0 = value
        return value

    def push(self, stack: Any, value: np.ndarray, mean: np.ndarray) -> None:
        self._count(value, mean, 1)
        super().push(stack, value, mean)

    def _count(self, value: np.ndarray, mean: np.ndarray, sign: int) -> None:
        nats = 0.5 * ((value - mean) / self.std) ** 2 + np.log(self.std * np.sqrt(2 * np.pi))
        self.log.bits += sign * nats.sum() / np.log(2)


class Counter:
    """Replaces a stack: counts the bits that a coder with `precision` bits would use or return, and draws at random."""

    def __init__(self, precision: int):
        self.precision, self.bits, self.rng = precision, 0.0, np.random.default_rng(1)

    def encode_reverse(self, values: np.ndarray, model: Any, p: np.ndarray) -> None:
        """Count the bits of categorical symbols, which are the images."""
        parts = np.maximum(np.rint(p[np.arange(len(values)), values] * 2.0**self.precision), 1)
        self.bits += (self.precision - np.log2(parts)).sum()

    def num_valid_bits(self) -> float:
        return self.bits


class Simulated(Logged):
    """The coder with any precision, on a `Counter`."""

    def draw(self, stack: Counter, mean: np.ndarray) -> np.ndarray:
        center, offset = normals._center(mean)
        cumulative, rows = self._tables(stack.precision, offset, self._reach)
        at = stack.rng.integers(0, 1 << stack.precision, len(mean))
        index = (at[:, None] >= cumulative[rows, 1:]).sum(axis=1)
        stack.bits -= self._bits(stack.precision, cumulative, rows, index)
        value = center + index - self._reach
        self._count(value, mean, -1)
        if not self.log.z_0.size:
            self.log.z_0 = value
        return value

    def push(self, stack: Counter, value: np.ndarray, mean: np.ndarray) -> None:
        self._count(value, mean, 1)
        center, offset = normals._center(mean)
        reach = self._reach + 1
        cumulative, rows = self._tables(stack.precision, offset, reach)
        distance = value - center
        stack.bits += 32 * (np.abs(distance) >= reach).sum()
        index = np.clip(distance, -reach, reach) + reach
        stack.bits += self._bits(stack.precision, cumulative, rows, index)

    def _tables(self, precision: int, offset: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the tables of constriction's leaky quantizer, cumulative (distinct offsets, symbols + 1), and rows."""
        offsets, rows = np.unique(offset, return_inverse=True)
        edges = np.arange(-reach + 1, reach + 1) - 0.5
        num = 2 * reach + 1
        inner = np.floor(((1 << precision) - num) * ndtr((edges - offsets[:, None]) / self._std)) + np.arange(1, num)
        ends = np.zeros((len(offsets), 1)), np.full((len(offsets), 1), 1 << precision)
        return np.concatenate([ends[0], inner, ends[1]], axis=1), rows

    @staticmethod
    def _bits(precision: int, cumulative: np.ndarray, rows: np.ndarray, index: np.ndarray) -> float:
        return float((precision - np.log2(cumulative[rows, index + 1] - cumulative[rows, index])).sum())


def exact(z: np.ndarray, gamma: np.ndarray, labels: None) -> np.ndarray:
    """Return E[x|z] for normal pixels."""
    alpha, var = np.sqrt(expit(-np.float64(gamma))), expit(np.float64(gamma))
    return (MEAN + alpha * STD**2 / (alpha**2 * STD**2 + var) * (z - alpha * MEAN)).astype(np.float32)


def bound(gammas: np.ndarray) -> np.ndarray:
    """Return L_T in bits for each level of a pixel; `gammas` increase."""
    x = (2 * np.arange(LEVELS) + 1) / LEVELS - 1
    alpha, var = np.sqrt(expit(-gammas)), expit(gammas)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    z_0 = (alpha[0] * x + np.sqrt(var[0]) * nodes[:, None]).reshape(-1, 1).astype(np.float32)
    image = jnp.tile(jnp.arange(LEVELS), 40)[:, None]
    log_p = np.asarray(likelihoods.log_prob(image, jnp.asarray(z_0), np.float32(gammas[0]), LEVELS), np.float64)
    nats = -(weights / weights.sum()) @ log_p.reshape(40, LEVELS)
    for s, t, a, v in zip(gammas[:-1], gammas[1:], alpha[1:], var[1:], strict=True):
        k = a**2 * STD**2 / (a**2 * STD**2 + v)
        nats += 0.5 * (np.exp(-s) - np.exp(-t)) * ((1 - k) ** 2 * (x - MEAN) ** 2 + k**2 * v / a**2)
    return (nats + 0.5 * (alpha[-1] ** 2 * x**2 + var[-1] - 1 - np.log(var[-1]))) / np.log(2)


def measure(
    images: np.ndarray,
    batches: int,
    num_steps: int = STEPS,
    bins: float = BINS,
    precision: int | None = None,
    mean_steps: int = normals.MEAN_STEPS,
    sheppard: bool = True,
    mixed: bool = True,
) -> dict[str, Any]:
    """Measure the gaps for one way of rounding, which is simulated if `precision` is given."""
    gammas = np.linspace(GAMMA_MAX, GAMMA_MIN, num_steps + 1)
    size = len(images) // batches
    chain = Chain(exact, gammas, SHAPE, LEVELS, size, bins)  # type: ignore[arg-type]
    for part in (chain._first, chain._prior, *(n for step in chain._steps for n in (step.forward, step.backward))):
        part.__class__ = Logged if precision is None else Simulated
        part._std = part._std if sheppard else part.std
    stack = _stack() if precision is None else Counter(precision)
    expected, z_width = bound(gammas[::-1]), chain._widths[0]
    over_bound, over_densities = [], []
    with _mean_steps(mean_steps), _mixing(mixed and precision is None):
        for number in range(batches):
            batch = images[number * size : (number + 1) * size]
            Logged.log = Log()
            before = stack.num_valid_bits()
            chain.push(stack, batch, number)
            bits = stack.num_valid_bits() - before
            z_0 = (Logged.log.z_0 * z_width).reshape(batch.shape).astype(np.float32)
            log_p = likelihoods.log_prob(
                jnp.asarray(batch, jnp.int32), jnp.asarray(z_0), np.float32(gammas[-1]), LEVELS
            )
            densities = Logged.log.bits - float(np.sum(np.asarray(log_p, np.float64))) / np.log(2)
            over_bound.append((bits - expected[batch].sum()) / batch.size)
            over_densities.append((bits - densities) / batch.size)
    return {
        "T": num_steps,
        "bins": bins,
        "precision": precision or PRECISION,
        "mean_steps": mean_steps,
        "sheppard": sheppard,
        "mix": mixed,
        "simulated": precision is not None,
        "bound": float(expected[images].mean()),
        "bits_borrowed": chain.bits_borrowed,
        "over_densities": float(np.mean(over_densities)),
        "over_densities_stderr": float(np.std(over_densities, ddof=1) / np.sqrt(batches)),
        "over_bound": float(np.mean(over_bound)),
        "over_bound_stderr": float(np.std(over_bound, ddof=1) / np.sqrt(batches)),
    }


def _stack() -> Stack:
    return Stack(np.random.default_rng(2).integers(1, 1 << 32, 1 << 19, dtype=np.uint32))


@contextmanager
def _mean_steps(steps: int) -> Iterator[None]:
    with mock.patch.object(normals, "MEAN_STEPS", steps):
        yield


@contextmanager
def _mixing(mixed: bool) -> Iterator[None]:
    with mock.patch.object(chains, "mix", chains.mix if mixed else lambda stack, bits, key: None):
        yield


VARIED: dict[str, list[dict[str, Any]]] = {
    "T": [{"num_steps": t, "bins": b} for t in (1, 3, 10, 30, 100, 300, 1000) for b in (1.0, BINS)],
    "bins": [{"bins": b} for b in (0.6, 0.8, 1.0, 1.5, 2.0, 4.0, 8.0)],
    "sheppard": [{"bins": 1.0, "sheppard": s} for s in (True, False)],
    "precision": [{"precision": p} for p in range(8, 25, 2)],
    "mean_steps": [{"mean_steps": n} for n in (2, 4, 8, 16, 64, 256, 1024)],
    "mix": [{"mixed": m, "num_steps": t} for m in (True, False) for t in (10, 100, 300)],
}


def draw(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Plot the cost of each rounding on an axis that is linear up to 0.01 bits/dim and logarithmic beyond."""
    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    steps, grid, precision, means = figure.subplots(2, 2).flat
    for bins, color in ((1.0, ORANGE), (BINS, BLUE)):
        cases = [case for case in found["T"] if case["bins"] == bins and case["T"] >= 10]
        _points(steps, cases, "T", f"grid of σ/{bins:g}", color)
    unmixed = [case for case in found["mix"] if not case["mix"]]
    _points(steps, unmixed, "T", "without mixing, over L_T", GREEN, over="over_bound")
    _points(grid, found["bins"], "bins", "", BLUE)
    _points(precision, found["precision"], "precision", "simulated", BLUE)
    _points(means, found["mean_steps"], "mean_steps", "", BLUE)
    titles = {
        "Steps": (steps, "T"),
        f"Grid, T = {STEPS}": (grid, "widths in a σ"),
        f"Probabilities, T = {STEPS}": (precision, "bits of precision"),
        f"Means, T = {STEPS}": (means, "steps in a width"),
    }
    for title, (axes, x) in titles.items():
        axes.axhline(0, color=BLACK, linewidth=0.8)
        for limit in (-0.005, 0.005):
            axes.axhline(limit, color=BLACK, linestyle=":")
        axes.set_yscale("symlog", linthresh=0.01, linscale=2)
        axes.yaxis.set_major_formatter("{x:g}")
        if axes is not precision:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25)
        axes.set(title=title, xlabel=x, ylabel="bits/dim over the densities")
        if axes in (steps, precision):
            axes.legend(fontsize="small")
    save(figure, path)


def _points(axes: Axes, cases: list[dict[str, Any]], key: str, name: str, color: str, over: str = FIGURE) -> None:
    y, error = ([case[figure] for case in cases] for figure in (over, f"{over}_stderr"))
    x = [case[key] for case in cases]
    axes.errorbar(x, y, error, marker="o", markersize=4, color=color, label=name, **ERROR_BARS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256, help="of 8 × 8 pixels (default: 256)")
    parser.add_argument("--batches", type=int, default=8, help="they are coded in so many (default: 8)")
    parser.add_argument("--vary", default=",".join(VARIED), help=f"any of {','.join(VARIED)} (default: all)")
    parser.add_argument("--max_steps", type=int, default=1000, help="leaves larger T out (default: 1000)")
    parser.add_argument("--picture", type=Path, help="a PNG file to draw all in (default: none)")
    options = parser.parse_args()
    names = options.vary.split(",")
    if not set(names) <= set(VARIED):
        parser.error(f"--vary={options.vary}: must be any of {','.join(VARIED)}")
    if options.batches < 2 or options.images % options.batches:
        parser.error("--images, --batches: must be 2 or more batches of as many images")
    if options.picture and set(names) != set(VARIED):
        parser.error("--picture: shows all that is varied; must go without --vary")
    x = np.random.default_rng(0).normal(MEAN, STD, (16 * options.images, *SHAPE))
    images = np.clip(np.floor((x + 1) * LEVELS / 2), 0, LEVELS - 1).astype(np.uint8)
    found: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        print(f"{name} …", file=sys.stderr)
        cases = [{"num_steps": min(STEPS, options.max_steps)} | case for case in VARIED[name]]
        cases = [case for case in cases if case["num_steps"] <= options.max_steps]
        times = 16 if name == "sheppard" else 1
        found[name] = [measure(images[: times * options.images], times * options.batches, **case) for case in cases]
    if options.picture:
        draw(found, options.picture)
    setting = {"shape": SHAPE, "levels": LEVELS, "std": STD, "gamma": [GAMMA_MIN, GAMMA_MAX], "images": options.images}
    print(json.dumps({"setting": setting, "varied": found}, indent=1))


if __name__ == "__main__":
    main()
