"""Errors of the samples of each restoration method against the exact p(x|y), for a Gaussian and a mixture, as JSON.

    python benchmarks/exact_posteriors.py --out=benchmarks/results/exact_posteriors.json

The data are smooth signals of 16 values with measurements y = A x + noise, and the denoiser is exact, so that all
errors are due to the method and the sampler. The row `exact` samples with E[x|z, y] itself, so its errors are due to
the sampler alone. A case has measurements of 8 signals, the same for all methods, with 256 samples for each; standard
errors are over the 8 signals. The file is written after each case, which has the figures

    mean         squared error of the mean, per value of x, in standard deviations along the posterior's own axes
    mean_x       the same in units of x
    covariance   squared Frobenius norm of the covariance's error over that of the identity, in the same axes
    spread       sampled variance over that of the posterior, mean over the axes
    component    for the mixture: total variation distance of the probabilities of its components
    mmd          for the mixture: MMD² from exact samples in the same axes

Squares are products of the errors of two independent halves of the samples, so that they are not biased by the finite
number of samples and may be negative.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from vdm import gaussian, inverse, operators, posteriors, samplers
from vdm.inverse import Measurement
from vdm.operators import Operator
from vdm.posteriors import Mixture
from vdm.predictions import Denoise
from vdm.samplers import Sampler

SIZE, GAMMA_0, GAMMA_1 = 16, -12.0, 8.0
STDS = (0.01, 0.1, 0.5)
STEPS = (50, 250)
OF_ALL, OF_MIXTURES = ("mean", "mean_x", "covariance", "spread"), ("component", "mmd")
AT = np.arange(SIZE)


def _smooth(width: float, variance: float) -> np.ndarray:
    distance = AT[:, None] - AT
    return np.asarray(variance * (np.exp(-0.5 * (distance / width) ** 2) + 0.02 * np.eye(SIZE)))


DATA = {
    "gaussian": posteriors.gaussian(np.zeros(SIZE), _smooth(2.0, 0.3)),
    "mixture": Mixture(
        np.array([0.3, 0.3, 0.4]),
        0.5 * np.stack([np.sin(np.pi * AT / 8), -np.sin(np.pi * AT / 8), np.cos(np.pi * AT / 4)]),
        np.stack([_smooth(2.0, 0.05), _smooth(2.0, 0.05), _smooth(1.0, 0.02)]),
    ),
}
KNOWN = AT % 4 < 2
_BLUR = np.exp(-0.5 * ((AT[:, None] - AT) / 1.5) ** 2)
OPERATORS = {
    "missing": np.eye(SIZE)[KNOWN],
    "blur": _BLUR / _BLUR.sum(axis=1, keepdims=True),
    "downsample": np.kron(np.eye(SIZE // 2), np.full((1, 2), 0.5)),
}


class Method(NamedTuple):
    """A way of sampling z given y."""

    denoiser: Callable[[Denoise, Measurement], Denoise] = lambda denoise, measurement: denoise
    resampling: int = 0
    """Number of resampling rounds of RePaint; 0 without RePaint."""
    gradients: int = 0


METHODS = {
    "exact": Method(),
    "mmps(10)": Method(lambda d, m: inverse.moment_matching(d, m, iterations=10), gradients=10),
    "mmps(3)": Method(lambda d, m: inverse.moment_matching(d, m, iterations=3), gradients=3),
    "mmps(1)": Method(lambda d, m: inverse.moment_matching(d, m, iterations=1), gradients=1),
    "pigdm": Method(lambda d, m: inverse.pigdm(d, m, prior_var=0.3), gradients=1),
    "proximal": Method(lambda d, m: inverse.proximal(d, m, prior_var=0.3)),
    "dps(0.3)": Method(lambda d, m: inverse.dps(d, m, scale=0.3), gradients=1),
    "dps(1)": Method(lambda d, m: inverse.dps(d, m, scale=1.0), gradients=1),
    "dps(3)": Method(lambda d, m: inverse.dps(d, m, scale=3.0), gradients=1),
    "repaint(1)": Method(resampling=1),
    "repaint(10)": Method(resampling=10),
}


class Exact(NamedTuple):
    """The exact posteriors of R replicates with K components each, as float32 arrays (R, K) and so on."""

    logs: Array
    means: Array
    variances: Array
    bases: Array


def _exact(parts: Sequence[Mixture]) -> Exact:
    variances, bases = np.linalg.eigh(np.stack([part.covariances for part in parts]))
    arrays = np.log([part.weights for part in parts]), np.stack([part.means for part in parts]), variances, bases
    return Exact(*(jnp.asarray(each, jnp.float32) for each in arrays))


def _denoiser(exact: Exact) -> Denoise:
    """Return the denoiser E[ε|z, y], where z holds the rows of the replicates one after another."""

    def denoise(z: Array, gamma: gaussian.Gamma) -> Array:
        alpha, var = gaussian.alpha(gamma), jax.nn.sigmoid(gamma)
        rows = z.reshape(len(exact.logs), -1, 1, SIZE)
        turned = jnp.einsum("rkij,rnki->rnkj", exact.bases, rows - alpha * exact.means[:, None])
        of_z = alpha**2 * exact.variances[:, None] + var
        logs = exact.logs[:, None] - 0.5 * jnp.sum(jnp.square(turned) / of_z + jnp.log(of_z), axis=3)
        each = jnp.einsum("rkij,rnkj->rnki", exact.bases, turned / of_z)
        mixed = jnp.sum(jax.nn.softmax(logs, axis=2)[..., None] * each, axis=2)
        return jnp.sqrt(var) * mixed.reshape(z.shape)

    return denoise


def _drawn(data: Mixture, method: str) -> Callable[..., Array]:
    """Return a sampling program that serves all operators of the same size, all noise levels and seeds."""
    how, prior = METHODS[method], posteriors.oracle(data).denoise

    def draw(key: Array, gammas: Array, matrix: Array, y: Array, std: Array, exact: Exact) -> Array:
        operator = Operator(lambda x: x @ matrix.T, (SIZE,), y.shape[1:])
        denoise = _denoiser(exact) if method == "exact" else how.denoiser(prior, Measurement(operator, y, std))
        sampler: Sampler = samplers.ancestral()
        if how.resampling:
            x = operators.adjoint(operator, y)
            sampler = samplers.repaint(sampler, x, jnp.asarray(KNOWN), how.resampling, gammas[-1])
        z = samplers.sample(key, denoise, sampler, gammas, (len(y), SIZE))
        return z / gaussian.alpha(gammas[-1])

    return jax.jit(draw)


def _figures(samples: np.ndarray, parts: Sequence[Mixture], reference: np.ndarray) -> dict[str, Any]:
    """Return the module's figures, as means over the replicates with standard errors; samples are (R, N, SIZE)."""
    found: dict[str, list[float]] = {name: [] for name in (*OF_ALL, *OF_MIXTURES)}
    for x, y, part in zip(samples, reference, parts, strict=True):
        values, basis = np.linalg.eigh(part.covariance)
        white, other = ((each - part.mean) @ basis / np.sqrt(values) for each in (x, y))
        halves = np.split(white, 2)
        means = [half.mean(axis=0) for half in halves]
        covariances = [np.cov(half.T) - np.eye(SIZE) for half in halves]
        found["mean"].append(float(means[0] @ means[1] / SIZE))
        found["mean_x"].append(float((means[0] * values) @ means[1] / SIZE))
        found["covariance"].append(float(np.sum(covariances[0] * covariances[1]) / SIZE))
        found["spread"].append(float(np.trace(np.cov(white.T)) / SIZE))
        found["mmd"].append(_mmd(white, other))
        posterior = posteriors.oracle(part).log_posterior(jnp.asarray(x, jnp.float32), jnp.float32(GAMMA_0))
        share = np.exp(np.asarray(posterior, np.float64)).mean(axis=0)
        found["component"].append(float(0.5 * np.abs(share - part.weights).sum()))
    return {
        name: {"value": float(np.mean(values)), "stderr": float(np.std(values, ddof=1) / np.sqrt(len(values)))}
        for name, values in found.items()
        if name not in OF_MIXTURES or len(parts[0].weights) > 1
    }


def _mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased MMD² with the kernel exp(−‖x − y‖²/(2 SIZE))."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        squares = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2 * a @ b.T
        return np.asarray(np.exp(-squares / (2 * SIZE)))

    n = len(x)
    own = sum((kernel(a, a).sum() - n) / (n * (n - 1)) for a in (x, y))
    return float(own - 2 * kernel(x, y).mean())


def _measurements(
    key: Array, data: Mixture, matrix: np.ndarray, std: float, num: int
) -> tuple[np.ndarray, list[Mixture]]:
    """Draw `num` signals; return their measurements and exact posteriors."""
    x_key, noise_key = jax.random.split(key)
    x = np.asarray(posteriors.oracle(data).sample(x_key, num), np.float64)
    y = x @ matrix.T + std * np.asarray(jax.random.normal(noise_key, (num, len(matrix))))
    return y, [posteriors.given(data, matrix, each, std) for each in y]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a file for the figures, written after each case (default: none)")
    parser.add_argument("--seed", type=int, default=0, help="of all (default: 0)")
    parser.add_argument("--measurements", type=int, default=8, help="of each case (default: 8)")
    parser.add_argument("--samples", type=int, default=256, help="of each measurement, an even number (default: 256)")
    parser.add_argument("--steps", default=",".join(map(str, STEPS)), help="of the sampler")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"any of {','.join(METHODS)}")
    given = parser.parse_args()
    methods = given.methods.split(",")
    if unknown := [name for name in methods if name not in METHODS]:
        parser.error(f"--methods: {unknown[0]!r} is none of {', '.join(METHODS)}")
    if given.measurements < 2 or given.samples < 4 or given.samples % 2:
        parser.error("--measurements, --samples: must be 2 or more, and 4 or more and even")

    result: dict[str, Any] = {name: getattr(given, name) for name in ("seed", "measurements", "samples")}
    result |= {"sampler": "ancestral", "gammas": [GAMMA_0, GAMMA_1], "cases": []}
    num, root = given.measurements, jax.random.key(given.seed)
    for (n, (name, data)), steps, method in itertools.product(
        enumerate(DATA.items()), map(int, given.steps.split(",")), methods
    ):
        draw, gammas = _drawn(data, method), jnp.linspace(GAMMA_1, GAMMA_0, steps + 1)
        for (m, (of_name, matrix)), (k, std) in itertools.product(enumerate(OPERATORS.items()), enumerate(STDS)):
            if METHODS[method].resampling and of_name != "missing":
                continue
            # The key gives all methods and numbers of steps the same measurements.
            key = jax.random.fold_in(root, 100 * n + 10 * m + k)
            y, parts = _measurements(key, data, matrix, std, num)
            rows = jnp.asarray(np.repeat(y, given.samples, axis=0), jnp.float32)
            z = draw(key, gammas, jnp.asarray(matrix, jnp.float32), rows, jnp.float32(std), _exact(parts))
            keys = jax.random.split(jax.random.fold_in(key, 1), num)
            other = [posteriors.oracle(part).sample(at, given.samples) for part, at in zip(parts, keys, strict=True)]
            case = {
                "data": name, "operator": of_name, "std": std, "steps": steps, "method": method,
                "calls": steps * max(METHODS[method].resampling, 1), "gradients": steps * METHODS[method].gradients,
            }  # fmt: skip
            x, reference = (np.asarray(each, np.float64).reshape(num, given.samples, SIZE) for each in (z, other))
            result["cases"].append(case | _figures(x, parts, reference))
            if given.out is not None:
                given.out.write_text(json.dumps(result, indent=1) + "\n")
    if given.out is None:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
