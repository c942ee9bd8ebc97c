"""Checks of image restoration on Gaussian data, for which E[x|z, y] is known."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from vdm import inverse, posteriors
from vdm.inverse import Measurement
from vdm.operators import Operator
from vdm.posteriors import Mixture
from vdm.predictions import Guided
from vdm.verify import float64
from vdm.verify.checks import Check

SIZE, MEASURED, BATCH = 8, 3, 4


def restoration(key: PRNGKeyArray, scale: float) -> Iterator[Check]:
    """Check that moment matching is the exact denoiser of x given z and y for Gaussian data, and ΠGDM for white data.

    The exact denoiser is computed by linear algebra in float64, with z as one more measurement, of α x with noise σ.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    near = np.exp(-np.abs(np.arange(SIZE)[:, None] - np.arange(SIZE)) / 3)
    smooth, white = (posteriors.gaussian(0.3 * rng.normal(size=SIZE), 0.3 * each) for each in (near, np.eye(SIZE)))
    matrix = rng.normal(size=(MEASURED, SIZE)) / SIZE**0.5
    values = jnp.asarray(matrix, jnp.float32)
    operator = Operator(lambda x: jnp.matmul(x, values.T, precision="highest"), (SIZE,), (MEASURED,))
    y, z = rng.normal(size=(BATCH, MEASURED)), rng.normal(size=(BATCH, SIZE))

    def error(led: Guided, data: Mixture, std: float) -> float:
        """The largest error of x̂, at noise levels from low to high."""
        run = jax.jit(led)
        found = [run(jnp.asarray(z, jnp.float32), jnp.float32(gamma)).x for gamma in (-6.0, -2.0, 0.0, 2.0)]
        exact = [_exact(data, matrix, y, std, z, gamma) for gamma in (-6.0, -2.0, 0.0, 2.0)]
        return float(np.max(np.abs(np.asarray(found, np.float64) - np.stack(exact))))

    for std in (0.0, 0.1):
        measurement = Measurement(operator, jnp.asarray(y, jnp.float32), std)
        matched = inverse.moment_matching(posteriors.oracle(smooth).denoise, measurement, MEASURED + 1)
        # Computing x̂ from ε̂ magnifies rounding by 1/α, and so does Jᵀ; the condition of A V Aᵀ magnifies both.
        yield Check(f"moment matching, σ_y = {std}: error of x̂", 0.0, error(matched, smooth, std), tolerance=2e-4)
        pseudo = inverse.pigdm(posteriors.oracle(white).denoise, measurement, prior_var=0.3)
        yield Check(f"ΠGDM of white data, σ_y = {std}: error of x̂", 0.0, error(pseudo, white, std), tolerance=2e-4)


def _exact(data: Mixture, matrix: np.ndarray, y: np.ndarray, std: float, z: np.ndarray, gamma: float) -> np.ndarray:
    """E[x|z, y] for each example."""
    both = np.vstack([matrix, float64.alpha(gamma) * np.eye(SIZE)])
    noise = np.concatenate([np.full(MEASURED, std), np.full(SIZE, float64.sigma(gamma))])
    return np.stack([posteriors.given(data, both, np.concatenate(each), noise).mean for each in zip(y, z, strict=True)])
