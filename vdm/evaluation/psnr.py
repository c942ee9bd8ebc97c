"""How close restored images are to the true ones, and to the measurements."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from vdm import likelihoods, operators
from vdm.operators import Operator

ROUNDING = 1 / 12
"""Mean squared error of rounding to integers, used as a lower limit for the MSE in a PSNR."""


def psnr(
    images: Num[np.ndarray, "*batch height width channels"],
    truth: Num[np.ndarray, "*#batch height width channels"],
    levels: int,
) -> Float[np.ndarray, "*batch"]:
    """Return the PSNR in dB, 10 log₁₀ (levels − 1)²/MSE, of values 0 … levels − 1; the MSE counts as 1/12 or more.

    >>> psnr(np.zeros((1, 2, 2, 1)), np.full((1, 2, 2, 1), 25.5), 256).round(3).tolist()
    [20.0]
    """
    square = np.square(np.asarray(images, np.float64) - np.asarray(truth, np.float64))
    return 10 * np.log10((levels - 1) ** 2 / np.maximum(square.mean(axis=(-3, -2, -1)), ROUNDING))


def residual_rms(
    operator: Operator,
    images: Num[np.ndarray, "images draws height width channels"],
    y: Float[np.ndarray, "images *measured"],
    levels: int,
) -> Float[np.ndarray, "images draws"]:
    """Return the root mean square of y − A x over the measured values, in units of x in [−1, 1].

    For the true x, it is the standard deviation of the noise in y.

    >>> grey = np.full((1, 1, 2, 2, 1), 128, np.uint8)
    >>> bool(residual_rms(operators.downsample(2, shape=(2, 2, 1)), grey, np.ones((1, 1, 1, 1)), 256)[0, 0] < 1)
    True
    """
    flat = images.reshape(-1, *operator.shape)
    again = np.asarray(operator.apply(likelihoods.encode(jnp.asarray(flat), levels)))
    apart = again.reshape(*images.shape[:2], *operator.measured) - np.asarray(y)[:, None]
    total = np.square(apart.astype(np.float64)).sum(axis=tuple(range(2, apart.ndim)))
    return np.sqrt(total / operators.num_measured(operator))
