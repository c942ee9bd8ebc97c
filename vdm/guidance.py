"""Functions from denoisers to a denoiser that lead sampling: mixtures of several, and x̂ kept in the range of the data.

They change the model, so a bound of their result is not the bound of what was trained. Every denoiser may answer with ε̂
or with a `Prediction`; the result answers with a `Prediction`.
"""

from collections.abc import Callable, Sequence
from numbers import Real

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vdm import gaussian, predictions
from vdm.predictions import Both, Denoise, Prediction

Guidance = Callable[[Denoise], Denoise]


def combine(denoisers: Sequence[Denoise], weights: Sequence[ArrayLike]) -> Both:
    """Σ_k w_k of the predictions of each: x̂ and ε̂ alike. Weights are scalars, may be negative, and may be traced.

    With weights of sum 1, α x̂ + σ ε̂ = z holds as it does for each. Raises ValueError unless there is a scalar weight
    for each denoiser, and one or more of them.

    >>> import jax.numpy as jnp
    >>> guided = combine([lambda z, gamma: z, lambda z, gamma: 0 * z], [1.5, -0.5])
    >>> guided(jnp.ones((1, 2)), 0.0).eps.tolist()
    [[1.5, 1.5]]
    """
    if not denoisers or len(denoisers) != len(weights):
        raise ValueError(f"denoisers, weights: {len(denoisers)} and {len(weights)} of them; must be as many, 1 or more")
    for k, weight in enumerate(weights):
        if jnp.ndim(weight) != 0:
            raise ValueError(f"weights[{k}] has shape {jnp.shape(weight)}: must be a scalar")
    answers = [predictions.both(denoise) for denoise in denoisers]

    def denoise(z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Prediction:
        parts = [answer(z, gamma) for answer in answers]
        scales = [jnp.asarray(weight, z.dtype) for weight in weights]
        x, eps = (sum(w * part for w, part in zip(scales, each, strict=True)) for each in zip(*parts, strict=True))
        return Prediction(jnp.asarray(x), jnp.asarray(eps))

    return denoise


def no_clipping() -> Guidance:
    """x̂ as it is.

    >>> no_clipping()(abs) is abs
    True
    """
    return lambda denoise: denoise


def static_clipping() -> Guidance:
    """x̂ clipped to [−1, 1], the range of encoded data, and ε̂ changed with it.

    >>> import jax.numpy as jnp
    >>> denoise = static_clipping()(lambda z, gamma: 0 * z)
    >>> denoise(2 * jnp.ones((1, 2)), -10.0).x.tolist()
    [[1.0, 1.0]]
    """
    return _limiting(lambda x: jnp.clip(x, -1, 1))


def dynamic_clipping(percentile: float = 99.5) -> Guidance:
    """x̂ clipped to [−s, s] and divided by s, where s ≥ 1 is each example's percentile of |x̂| (Saharia et al. 2022).

    Raises ValueError unless 0 < percentile ≤ 100.

    >>> import jax.numpy as jnp
    >>> denoise = dynamic_clipping(percentile=100.0)(lambda z, gamma: 0 * z)
    >>> denoise(jnp.asarray([[1.0, 2.0]]), -20.0).x.round(3).tolist()
    [[0.5, 1.0]]
    """
    if isinstance(percentile, bool) or not isinstance(percentile, Real) or not 0 < percentile <= 100:
        raise ValueError(f"percentile={percentile!r}: must be above 0 and at most 100")

    def limit(x: Float[Array, "batch *data"]) -> Float[Array, "batch *data"]:
        axes = tuple(range(1, x.ndim))
        s = jnp.maximum(jnp.percentile(jnp.abs(x), percentile, axis=axes, keepdims=True), 1).astype(x.dtype)
        return jnp.clip(x, -s, s) / s

    return _limiting(limit)


def _limiting(limit: Callable[[Array], Array]) -> Guidance:
    def guide(denoise: Denoise) -> Both:
        answer = predictions.both(denoise)

        def limited(z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Prediction:
            x_hat, eps_hat = answer(z, gamma)
            kept = limit(x_hat)
            # z = α x + σ ε holds as before; where nothing is clipped ε̂ is as it was, to the bit.
            ratio = jnp.exp(-gaussian.expand(gamma, z) / 2)
            return Prediction(kept, eps_hat + ratio * (x_hat - kept))

        return limited

    return guide
