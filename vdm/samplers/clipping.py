"""Wrappers denoise -> denoise that keep x̂ in the range of the data, and ε̂ consistent with it: for samplers only.

They change the model, so a bound of the clipped denoiser is not the bound of what was trained.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from vdm import gaussian, predictions
from vdm.bounds import Denoise
from vdm.predictions import Denoiser


def static(denoise: Denoise) -> Denoiser:
    """x̂ clipped to [−1, 1], the range of encoded data."""
    return _limited(denoise, lambda x: jnp.clip(x, -1, 1))


def dynamic(denoise: Denoise, percentile: float = 99.5) -> Denoiser:
    """x̂ clipped to [−s, s] and divided by s, where s ≥ 1 is each example's percentile of |x̂| (Saharia et al. 2022).

    Raises ValueError unless 0 < percentile ≤ 100.
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile={percentile}: must be above 0 and at most 100")

    def limit(x: Float[Array, "batch *data"]) -> Float[Array, "batch *data"]:
        axes = tuple(range(1, x.ndim))
        s = jnp.maximum(jnp.percentile(jnp.abs(x), percentile, axis=axes, keepdims=True), 1).astype(x.dtype)
        return jnp.clip(x, -s, s) / s

    return _limited(denoise, limit)


def _limited(denoise: Denoise, limit: Callable[[Array], Array]) -> Denoiser:
    predict = predictions.pair(denoise)

    def pair(z: Array, gamma: gaussian.Gamma) -> tuple[Array, Array]:
        x_hat, eps_hat = predict(z, gamma)
        limited = limit(x_hat)
        # z = α x + σ ε holds as before; where nothing is clipped ε̂ is as it was, to the bit.
        ratio = jnp.exp(-gaussian.expand(gamma, z) / 2)
        return limited, eps_hat + ratio * (x_hat - limited)

    return Denoiser(pair)
